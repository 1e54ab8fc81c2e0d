"""A study on a Ray cluster of three nodes on this machine, whose driver, workers and nodes are killed."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.ledger.read import LEDGER_NAME, read_events, read_study
from study.records import EndEvent, StartEvent, Status

from .conftest import home_with, lines, study_command, write_study
from .ray_nodes import Nodes, environment, nodes
from .test_kills import KILLS, await_epochs, cmdline, epochs_recorded, essence, starts_recorded

pytestmark = pytest.mark.slow

STUDY = """
trial:
  dataset: {kind: glyphs}
  split: {train_classes: 8, val_classes: 6, test_classes: 6}
  loss: {kind: normalized_softmax, scale: {kind: constant, value: 20}}
  epochs: 48
vary: {loss.scale.value: [1, 4, 16, 60]}
seeds: [0, 1]
"""
SEARCH = """
trial:
  dataset: {kind: glyphs}
  split: {train_classes: 8, val_classes: 6, test_classes: 6}
  loss: {kind: normalized_softmax, scale: {kind: constant, value: 20}}
  epochs: 12
vary:
  loss.scale.value: {kind: float, low: 1, high: 64, log: true}
  optimizer.lr: {kind: float, low: 0.0003, high: 0.01, log: true}
search:
  sampler: {kind: tpe, startup_trials: 4}
  scheduler: {kind: asha, grace_epochs: 2, factor: 2}
  max_trials: 16
  round_size: 4
  determinism: strict
confirm: {best: 1, seeds: [101, 102]}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(workers=2) as cluster:
        yield cluster


def start(cluster: Nodes, home: Path, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "study", *map(str, arguments), "--address", cluster.address],
        env={**cluster.environment, "STUDY_HOME": str(home), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_another_token_is_refused_in_one_line(cluster: Nodes, tmp_path: Path) -> None:
    token, home = tmp_path / "token", tmp_path / "home"
    token.write_text(secrets.token_hex(32), encoding="utf-8")
    driver = start(cluster, home, "run", write_study(tmp_path, "k", STUDY), RAY_AUTH_TOKEN_PATH=str(token))
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 2, output
    (said,) = lines(output)
    assert said.startswith(f"--address {cluster.address}: the cluster does not take our token; give all nodes the same")
    assert not (home / "k" / LEDGER_NAME).exists()


def most_at_once(folder: Path) -> int:
    """Most trials that were in training at the same time."""
    running: set[int] = set()
    most = 0
    for event in read_events(folder / LEDGER_NAME):
        if isinstance(event, StartEvent):
            running.add(event.number)
        elif isinstance(event, EndEvent):
            running.discard(event.number)
        most = max(most, len(running))
    return most


def workers(cluster: Nodes) -> list[int]:
    """The cluster's processes that train."""
    return [number for number in cluster.processes() if b"ray::Implicit" in cmdline(number)]


def await_no_workers(cluster: Nodes) -> None:
    deadline = time.monotonic() + 15
    while workers(cluster) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers(cluster) == [], "the driver's end ends its workers on all nodes"


def worker_variable(cluster: Nodes, name: str) -> set[str]:
    """What an environment variable is in the processes that train."""
    return {environment(number).get(name, "") for number in workers(cluster)}


def test_kills_of_driver_workers_and_nodes_lose_nothing_and_train_nothing_twice(
    cluster: Nodes, tmp_path: Path, drawn: Path
) -> None:
    path = write_study(tmp_path, "k", SEARCH.replace("max_trials: 16", f"max_trials: {max(16, 2 * KILLS)}"))
    whole, killed = home_with(drawn, tmp_path / "whole"), home_with(drawn, tmp_path / "killed")
    assert study_command("run", path, "--cpus", "2", home=whole).returncode == 0
    total = epochs_recorded(whole)
    draws = random.Random(0)
    moments = sorted(draws.sample(range(total - 2), KILLS))
    driver = start(cluster, killed, "run", path)
    nodes = [1, 2]
    ready: list[float] = []
    for at, victim in zip(moments, itertools.cycle(("driver", "worker", "node")), strict=False):
        await_epochs(killed, at + 1)
        assert driver.poll() is None, driver.communicate()[0]
        match victim:
            case "driver":
                driver.kill()
                assert "Traceback" not in driver.communicate()[0]
                await_no_workers(cluster)
                begun, began = starts_recorded(killed), time.monotonic()
                driver = start(cluster, killed, "resume", "k")
                while starts_recorded(killed) == begun and driver.poll() is None and time.monotonic() < began + 120:
                    time.sleep(0.02)
                ready.append(time.monotonic() - began)
            case "worker":
                deadline = time.monotonic() + 120
                while not (training := workers(cluster)) and time.monotonic() < deadline:
                    time.sleep(0.02)
                os.kill(draws.choice(training), signal.SIGKILL)
            case "node":
                cluster.kill(nodes.pop(draws.randrange(2)))
                nodes.append(cluster.join())
    output, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, output
    assert "Traceback" not in output
    await_no_workers(cluster)
    record, expected = read_study(killed / "k"), read_study(whole / "k")
    assert essence(record) == essence(expected)
    assert epochs_recorded(killed) == total, "an epoch that was recorded is not trained again"
    assert study_command("verify", "k", home=killed).stdout == "k: ledger, Optuna and MLflow agree\n"
    print(f"{KILLS} kills; a killed driver's trial is up again after {', '.join(f'{s:.1f}' for s in ready)} s")


def test_a_node_that_joins_takes_trials_at_once_and_one_that_is_preempted_costs_none(
    cluster: Nodes, tmp_path: Path, home: Path
) -> None:
    driver = start(cluster, home, "run", write_study(tmp_path, "k", STUDY))
    await_epochs(home, 4)
    assert worker_variable(cluster, "MALLOC_ARENA_MAX") == {"1"}
    node = cluster.join(cpus=3)
    name = cluster.node_id(node)
    while most_at_once(home / "k") <= 2 and driver.poll() is None:
        time.sleep(0.1)
    cluster.announce_preemption(name)
    cluster.kill(node)
    output, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, output
    assert "Traceback" not in output
    assert most_at_once(home / "k") > 2, "two processors at first, three more in the middle"
    record = read_study(home / "k")
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}
    # Between Ray's word that a node goes and its end, a trial there may end, and none follows it.
    assert sum(len(trial.starts) - 1 for trial in record.trials.values()) <= 3, "only the node's trials start again"
    assert epochs_recorded(home) == 8 * 48, "an epoch that was recorded is not trained again"
    left = {path.name for path in (home / "k").iterdir()}
    assert not {name for name in left if name.startswith(".nonce") or name == "tune"}
