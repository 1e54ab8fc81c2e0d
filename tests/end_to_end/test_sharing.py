"""Shared and separate training through Ray: the same bits, with one worker and with two."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from study.ledger.read import StudyRecord, read_study
from study.records import Status

from .conftest import home_with, study_command, write_study

FAMILIES = {
    "soft triple": {"kind": "soft_triple", "proxies_per_class": 2},
    "cosine softmax": {"kind": "normalized_softmax"},
}


def a_study_of(loss: dict[str, object]) -> dict[str, object]:
    constant = {"kind": "constant", "value": 20}
    return {
        "trial": {
            "dataset": {"kind": "glyphs"},
            "split": {"train_classes": 8, "val_classes": 6, "test_classes": 6},
            "loss": {**loss, "scale": constant},
            "epochs": 4,
            "measure": {"diagnostics": True},
        },
        "cases": [
            {"name": "constant"},
            {"name": "switch", "loss.scale": {"kind": "switch", "before": 20, "after": 5, "switch_epoch": 2}},
            {"name": "linear", "loss.scale": {"kind": "linear", "start": 20, "end": 5, "first_epoch": 1, "epochs": 3}},
            {"name": "short", "epochs": 2},
        ],
    }


def run(folder: Path, drawn: Path, loss: dict[str, object], *options: str) -> StudyRecord:
    """In a process of its own, as a user runs it: where Ray's local server dies, Ray ends the driver at once."""
    folder.mkdir()
    path = write_study(folder, "s", yaml.safe_dump(a_study_of(loss)))
    result = study_command("run", path, *options, home=home_with(drawn, folder / "home"))
    assert result.returncode == 0, result.stderr
    return read_study(folder / "home" / "s")


def metrics(record: StudyRecord) -> list[list[dict[str, float]]]:
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}
    return [[result.metrics for result in trial.results] for trial in record.trials.values()]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_shared_and_separate_runs_give_identical_records(tmp_path: Path, drawn: Path, family: str) -> None:
    separate = run(tmp_path / "separate", drawn, FAMILIES[family], "--cpus", "2", "--separate")
    for cpus in (1, 2):
        shared = run(tmp_path / f"shared{cpus}", drawn, FAMILIES[family], "--cpus", str(cpus))
        assert metrics(shared) == metrics(separate)
        inherited = [
            [event.result.inherited for n, event in sorted(trial.epochs.items()) if n > 0]
            for trial in shared.trials.values()
        ]
        assert sorted(map(sum, inherited)) == [0, 2, 2, 2]
