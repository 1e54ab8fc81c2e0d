"""Strict determinism with real Ray, real training and the command line: slots and delays change nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from study.ledger.read import StudyRecord, read_study
from study.records import Status

from .conftest import home_with, study_command, write_study

SEARCH = """
trial:
  dataset: {kind: glyphs}
  split: {train_classes: 8, val_classes: 6, test_classes: 6}
  loss: {kind: normalized_softmax, scale: {kind: constant, value: 20}}
  epochs: 4
vary:
  loss.scale.value: {kind: float, low: 1, high: 64, log: true}
  optimizer.lr: {kind: float, low: 1.0e-4, high: 3.0e-2, log: true}
search:
  sampler: {kind: tpe, startup_trials: 3}
  scheduler: {kind: asha, grace_epochs: 1, factor: 2}
  max_trials: 6
  round_size: 3
  determinism: strict
confirm: {best: 1, seeds: [101]}
"""


def found(record: StudyRecord) -> dict[int, Any]:
    """Proposals, metrics to the bit, stopping epochs."""
    return {
        number: (
            trial.trial.configuration,
            trial.trial.values,
            trial.status,
            [(n, event.result.metrics) for n, event in sorted(trial.epochs.items())],
        )
        for number, trial in record.trials.items()
    }


@pytest.mark.slow
def test_slots_and_delays_change_nothing(tmp_path: Path, drawn: Path) -> None:
    file = write_study(tmp_path, "strict", SEARCH)
    home = home_with(drawn, tmp_path / "1")
    result = study_command("run", file, "--cpus", "1", home=home)
    assert result.returncode == 0, result.stderr
    runs = [found(read_study(home / "strict"))]
    for cpus in ("2", "4"):
        home = home_with(drawn, tmp_path / cpus)
        command = [sys.executable, "-m", "tests.end_to_end.delayed", file, home, cpus]
        subprocess.run(command, check=True, timeout=300, cwd=Path(__file__).parents[2])
        runs.append(found(read_study(home / "strict")))
    assert runs[0] == runs[1] == runs[2]
    statuses = [status for _, _, status, _ in runs[0].values()]
    assert len(statuses) == 6 + 1
    assert Status.PRUNED in statuses
    assert Status.COMPLETE in statuses
