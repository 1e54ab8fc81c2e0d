"""Shared and separate training through Ray: the same bits, with one worker and with two."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.load import parse_study
from study.home import Home, Options
from study.ledger.read import StudyRecord
from study.records import Status
from study.tuning.session import run_session

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


def run(folder: Path, loss: dict[str, object], cpus: int, *, share: bool) -> StudyRecord:
    home = Home(folder)
    options = Options(home=home, data_dir=folder, tracking_uri=home.mlflow_uri, cpus=cpus, share=share)
    outcome = run_session(parse_study(a_study_of(loss), "s", "s"), "", options, resume=False)
    assert outcome.mirror_error == ""
    return outcome.record


def metrics(record: StudyRecord) -> list[list[dict[str, float]]]:
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}
    return [[result.metrics for result in trial.results] for trial in record.trials.values()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_shared_and_separate_runs_give_identical_records(tmp_path: Path, family: str) -> None:
    separate = run(tmp_path / "separate", FAMILIES[family], 2, share=False)
    for cpus in (1, 2):
        shared = run(tmp_path / f"shared{cpus}", FAMILIES[family], cpus, share=True)
        assert metrics(shared) == metrics(separate)
        inherited = [
            [event.result.inherited for n, event in sorted(trial.epochs.items()) if n > 0]
            for trial in shared.trials.values()
        ]
        assert sorted(map(sum, inherited)) == [0, 2, 2, 2]
