"""A study on a Ray cluster of three nodes on this machine; a node dies in the middle."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.ledger.read import LEDGER_NAME, read_study
from study.records import Status

from .conftest import lines, study_command, write_study
from .ray_nodes import Nodes, nodes
from .test_kills import epochs_recorded, essence

pytestmark = pytest.mark.slow

STUDY = """
trial:
  dataset: {kind: glyphs}
  split: {train_classes: 8, val_classes: 6, test_classes: 6}
  loss: {kind: normalized_softmax, scale: {kind: constant, value: 20}}
  epochs: 12
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


def test_a_killed_node_costs_no_trial_and_no_recorded_epoch(cluster: Nodes, tmp_path: Path) -> None:
    path, home, whole = write_study(tmp_path, "k", STUDY), tmp_path / "home", tmp_path / "whole"
    assert study_command("run", path, "--cpus", "1", home=whole).returncode == 0
    driver = start(cluster, home, "run", path)
    deadline = time.monotonic() + 600
    while epochs_recorded(home) < 10 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    cluster.kill(cluster.join() - 1)
    output, _ = driver.communicate(timeout=600)
    assert driver.returncode == 0, output
    assert "Traceback" not in output
    record, expected = read_study(home / "k"), read_study(whole / "k")
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}
    assert [len(trial.starts) for trial in record.trials.values()].count(2) == 1, "one trial lost its node"
    assert essence(record) == essence(expected)
    assert epochs_recorded(home) == epochs_recorded(whole) == 8 * 12, "an epoch that was recorded is not trained again"
    left = {path.name for path in (home / "k").iterdir()}
    assert not {name for name in left if name.startswith(".nonce") or name == "tune"}
