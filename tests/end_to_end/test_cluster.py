"""A study on a Ray cluster of three nodes on this machine; a node dies in the middle."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.ledger.read import LEDGER_NAME, read_events, read_study
from study.records import EndEvent, StartEvent, Status

from .conftest import lines, study_command, write_study
from .ray_nodes import Nodes, nodes
from .test_kills import await_epochs, cmdline, epochs_recorded, essence

pytestmark = pytest.mark.slow

STUDY = """
trial:
  dataset: {kind: glyphs}
  split: {train_classes: 8, val_classes: 6, test_classes: 6}
  loss: {kind: normalized_softmax, scale: {kind: constant, value: 20}}
  epochs: 24
vary: {loss.scale.value: [1, 4, 16, 60]}
seeds: [0, 1]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(workers=2) as cluster:
        yield cluster


def start(cluster: Nodes, home: Path, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "study", *map(str, arguments), "--address", cluster.address],
        env={**cluster.environment, "STUDY_HOME": str(home), **environment},
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the study as one machine runs it."""
    folder = tmp_path_factory.mktemp("whole")
    assert study_command("run", write_study(folder, "k", STUDY), "--cpus", "1", home=folder).returncode == 0
    return folder


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


def worker_variable(name: str) -> set[str]:
    """What an environment variable is in the processes that train."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and b"ray::Implicit" in cmdline(int(entry.name)):
            variables = dict(word.partition("=")[::2] for word in (entry / "environ").read_text().split("\0"))
            found.add(variables.get(name, ""))
    return found


@pytest.mark.parametrize("how", ["died", "preempted"])
def test_a_lost_node_costs_no_trial_and_no_recorded_epoch(
    cluster: Nodes, whole: Path, tmp_path: Path, how: str
) -> None:
    path, home = write_study(tmp_path, "k", STUDY), tmp_path / "home"
    lost = cluster.join()
    name = cluster.node_id(lost)
    driver = start(cluster, home, "run", path)
    await_epochs(home, 10)
    assert worker_variable("MALLOC_ARENA_MAX") == {"1"}
    if how == "preempted":
        cluster.announce_preemption(name)
    cluster.kill(lost)
    output, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, output
    assert "Traceback" not in output
    record, expected = read_study(home / "k"), read_study(whole / "k")
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}
    again = [len(trial.starts) for trial in record.trials.values()].count(2)
    # Between Ray's word that a node goes and its end, a trial there may end, and none follows it.
    assert again == 1 or (how == "preempted" and again == 0), "one trial lost its node"
    assert essence(record) == essence(expected)
    assert epochs_recorded(home) == epochs_recorded(whole) == 8 * 24, "an epoch that was recorded is not trained again"
    left = {path.name for path in (home / "k").iterdir()}
    assert not {name for name in left if name.startswith(".nonce") or name == "tune"}


def test_a_node_that_joins_takes_trials_at_once(cluster: Nodes, tmp_path: Path) -> None:
    home = tmp_path / "home"
    driver = start(cluster, home, "run", write_study(tmp_path, "k", STUDY))
    await_epochs(home, 4)
    node = cluster.join(cpus=3)
    output, _ = driver.communicate(timeout=600)
    cluster.kill(node)
    assert driver.returncode == 0, output
    assert most_at_once(home / "k") > 2, "two processors at first, three more in the middle"
