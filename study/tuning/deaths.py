"""Why the process of a Ray trial died, and whether that is the trial's own doing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError

_PROBE_S = 2.0


def death_of(error: BaseException | None, node_is_gone: Callable[[], bool]) -> tuple[str, bool]:
    """Why a process died, in words, and whether its trial is blameless.

    error: as Ray raised it, None where that is not known. node_is_gone: asked where Ray itself does not know yet: for
    the 17 s until a killed node counts as dead, its processes are only "unavailable".
    """
    text = str(error)
    if isinstance(error, RayActorError) and error.preempted:
        return "its node was preempted", True
    if "node has died" in text or (isinstance(error, ActorUnavailableError) and node_is_gone()):
        return "its node died", True
    if isinstance(error, OutOfMemoryError) or "running low on memory" in text:
        return "oom: Ray killed its process, because the node ran low on memory", False
    return "its process died", False


def a_node_is_gone() -> bool:
    """Whether a node that Ray counts as alive takes no connection."""
    return any(not answers(node) for node in ray.nodes() if node["Alive"])


def answers(node: Mapping[str, Any]) -> bool:
    """Whether one of `ray.nodes()` takes connections; Ray itself counts a killed one as alive for a while."""
    return takes_connections(node["NodeManagerAddress"], node["NodeManagerPort"])


def takes_connections(host: str, port: int) -> bool:
    """Whether anybody listens there."""
    try:
        socket.create_connection((host, port), timeout=_PROBE_S).close()
    except OSError:
        return False
    return True
