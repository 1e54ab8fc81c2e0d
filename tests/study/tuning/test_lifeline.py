"""A Ray that dies, made of sockets; the real one dies in tests/end_to_end/test_kills.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from study.tuning import lifeline as module
from study.tuning.lifeline import Lifeline


@pytest.fixture
def servers() -> Iterator[dict[str, socket.socket]]:
    parts = {name: socket.create_server(("127.0.0.1", 0)) for name in ("gcs", "raylet")}
    yield parts
    for part in parts.values():
        part.close()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch, servers: dict[str, socket.socket]) -> list[int]:
    """A Ray at `servers`, watched impatiently; exit codes of processes that were ended."""
    gcs, raylet = (servers[name].getsockname()[1] for name in ("gcs", "raylet"))
    context = SimpleNamespace(gcs_address=f"127.0.0.1:{gcs}", get_node_id=lambda: "here")
    nodes = [
        {"NodeID": "there", "NodeManagerAddress": "10.0.0.9", "NodeManagerPort": 1},
        {"NodeID": "here", "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": raylet},
    ]
    monkeypatch.setattr(module, "ray", SimpleNamespace(get_runtime_context=lambda: context, nodes=lambda: nodes))
    ended: list[int] = []
    monkeypatch.setattr(module, "os", SimpleNamespace(_exit=ended.append))
    for name, seconds in (("EVERY_S", 0.01), ("PATIENCE_S", 0.1), ("GRACE_S", 0.1)):
        monkeypatch.setattr(Lifeline, name, seconds)
    return ended


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(("part", "name"), [("gcs", "server (GCS)"), ("raylet", "raylet")])
def test_a_dead_part_is_named_and_a_driver_that_hangs_is_ended(
    hurried: list[int],
    servers: dict[str, socket.socket],
    capsys: pytest.CaptureFixture[str],
    part: str,
    name: str,
) -> None:
    said = f"Ray's {name} died (was there too little memory?); go on so"
    with Lifeline("go on so") as lifeline:
        time.sleep(0.15)
        assert lifeline.dead == "", "both live"
        servers[part].close()
        until(lambda: lifeline.dead)
        assert lifeline.dead == said
        assert hurried == [], "the driver is given time to end by itself"
        until(lambda: hurried)
    assert hurried == [2]
    assert capsys.readouterr().err == f"{said}\n"


def test_nobody_watches_a_ray_that_is_ended_on_purpose(hurried: list[int], servers: dict[str, socket.socket]) -> None:
    with Lifeline("go on so") as lifeline:
        pass
    servers["raylet"].close()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "lifeline"])
    time.sleep(0.3)
    assert (lifeline.dead, hurried) == ("", [])
