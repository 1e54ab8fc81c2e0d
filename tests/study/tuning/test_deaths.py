"""What Ray says of a dead process, and what we make of it. The messages are Ray 2.60's, shortened."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError

from study.tuning import deaths
from study.tuning.deaths import a_node_is_gone, death_of
from study.tuning.ray_backend import _error_of

CRASHED = (
    "The actor died unexpectedly before finishing this task. The actor is dead because its worker process has died. "
    "Worker exit type: SYSTEM_ERROR. Some common causes include: (1) the process was killed by the OOM killer due to "
    "high memory usage, (2) ray stop --force was called"
)
NODE = "The actor died because its node has died. Node Id: 3bed5b8c the actor's node was terminated unexpectedly"
MEMORY = "1 worker(s) were killed due to the node running low on memory. Object store usage"


def no() -> bool:
    return False


@pytest.mark.parametrize(
    ("error", "words", "blameless"),
    [
        (RayActorError(error_msg=CRASHED), "its process died", False),
        (RayActorError(error_msg=NODE), "its node died", True),
        (RayActorError(error_msg=NODE, preempted=True), "its node was preempted", True),
        (RayActorError(error_msg=MEMORY), "oom: Ray killed its process, because the node ran low on memory", False),
        (OutOfMemoryError(""), "oom: Ray killed its process, because the node ran low on memory", False),
        (ActorUnavailableError("RPC error: Connection reset by peer", None), "its process died", False),
        (None, "its process died", False),
    ],
)
def test_a_death_is_told_in_words_and_blamed_on_the_trial_or_not(
    error: BaseException | None, words: str, blameless: bool
) -> None:
    assert death_of(error, no) == (words, blameless)


def test_of_a_death_that_tune_only_tells_in_words_the_words_count(tmp_path: Path) -> None:
    told = tmp_path / "error.txt"
    told.write_text(f"Failure # 1 (occurred at 2026-11-28_08-46-14)\n{MEMORY}\n", encoding="utf-8")
    words_only = SimpleNamespace(pickled_error_file=None, error_file=str(told))
    assert death_of(_error_of(words_only), no)[0].startswith("oom: ")
    pickled = tmp_path / "error.pkl"
    pickled.write_bytes(pickle.dumps(RayActorError(error_msg=NODE)))
    both = SimpleNamespace(pickled_error_file=str(pickled), error_file=str(told))
    assert death_of(_error_of(both), no) == ("its node died", True)
    assert _error_of(SimpleNamespace(pickled_error_file=None, error_file=None)) is None


def test_a_process_out_of_reach_is_blameless_where_a_node_is() -> None:
    error = ActorUnavailableError("RPC error: Connection reset by peer", None)
    assert death_of(error, lambda: True) == ("its node died", True)


def test_a_node_is_gone_once_its_port_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        node = {"Alive": True, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}
        known_dead = {"Alive": False, "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": 1}
        monkeypatch.setattr(deaths.ray, "nodes", lambda: [node, known_dead])
        assert not a_node_is_gone()
    assert a_node_is_gone()
