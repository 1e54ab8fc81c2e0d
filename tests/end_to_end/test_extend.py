"""A finished study goes on when its budget or its seeds grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.ledger.read import read_study
from study.records import Phase

from .conftest import lines, study_command, write_study

pytestmark = pytest.mark.slow

SEARCH = """
trial:
  dataset: {kind: digits, images_per_class: 10}
  split: {order: label, train_classes: 5, val_classes: 2, test_classes: 3}
  loss: {kind: normalized_softmax, scale: {kind: constant, value: 20}}
  epochs: 2
vary:
  loss.scale.value: {kind: float, low: 1, high: 64, log: true}
search: {sampler: {kind: random}, max_trials: 2}
confirm: {best: 1, seeds: [101]}
"""


def test_a_larger_budget_and_more_seeds_go_on_and_anything_else_is_refused(tmp_path: Path) -> None:
    path, home = write_study(tmp_path, "grows", SEARCH), tmp_path / "home"
    assert study_command("run", path, home=home).returncode == 0
    larger = SEARCH.replace("max_trials: 2", "max_trials: 4").replace("[101]", "[101, 102]")
    write_study(tmp_path, "grows", larger)
    assert study_command("resume", "grows", "--file", path, home=home).returncode == 0
    record = read_study(home / "grows")
    assert record.finished
    assert sum(trial.trial.phase is Phase.SEARCH for trial in record.trials.values()) == 4
    assert {trial.trial.seed for trial in record.trials.values() if trial.trial.phase is Phase.CONFIRM} == {101, 102}
    assert study_command("verify", "grows", home=home).returncode == 0
    write_study(tmp_path, "grows", larger.replace("epochs: 2", "epochs: 3").replace("max_trials: 4", "max_trials: 3"))
    refused = study_command("resume", "grows", "--file", path, home=home)
    assert refused.returncode == 2
    assert len(lines(refused.stderr)) == 1
    assert "other search.max_trials, trial.epochs;" in refused.stderr
    exported = study_command("export", "grows", "--weights", "--to", tmp_path / "out", home=home)
    assert exported.returncode == 0, exported.stderr
    assert list((tmp_path / "out" / "weights").glob("*.pt"))
