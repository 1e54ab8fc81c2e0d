"""A worker's part without Ray: what it reports of a job, and what it does when a state or the disk fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from search_spaces.load import parse_study
from search_spaces.trial_config import TrialConfig
from study.stages.key import prefix_keys
from study.stages.store import StageStore
from study.stages.tree import ANYWHERE
from study.tuning import worker
from study.tuning.job import Job
from study.tuning.worker import EndReport, EpochReport, Report, Workplace, reports

EPOCHS = 3


def a_trial(**fields: Any) -> TrialConfig:
    trial = {
        "dataset": {"kind": "digits", "images_per_class": 4},
        "split": {"order": "label", "train_classes": 5, "val_classes": 2, "test_classes": 3},
        "model": {"kind": "small_cnn", "channels": [4, 8], "embedding_dim": 8},
        "loss": {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": 10}},
        "epochs": EPOCHS,
        **fields,
    }
    return parse_study({"trial": trial}, "a", "a").trial


def a_job(trial: TrialConfig, start: int = 0, **fields: Any) -> Job:
    raw = trial.model_dump(mode="json", by_alias=True)
    keys = prefix_keys(trial, 0, ANYWHERE)
    return Job(number=4, attempt=1, trial=raw, seed=0, keys=keys, start=start, **fields)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(data_dir=str(tmp_path), cache_dir=str(tmp_path), stages_dir=str(tmp_path / "stages"))


def epochs(found: list[Report]) -> list[tuple[int, dict[str, float], bool]]:
    assert all(isinstance(report, EpochReport) for report in found), found
    return [(r.result.epochs_done, r.result.metrics, r.stands) for r in found if isinstance(r, EpochReport)]


def test_a_job_reports_every_epoch_and_stores_small_states(place: Workplace, tmp_path: Path) -> None:
    job = a_job(a_trial())
    found = epochs(list(reports(job, place)))
    assert [(done, stands) for done, _, stands in found] == [(1, True), (2, True), (3, True)]
    assert StageStore(tmp_path / "stages").keys() == set(job.keys[1:])


def test_large_states_are_stored_only_where_the_job_asks(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SMALL_BYTES", 100)
    job = a_job(a_trial(), save_at=(2,))
    assert [stands for _, _, stands in epochs(list(reports(job, place)))] == [False, True, False]
    assert StageStore(tmp_path / "stages").keys() == {job.keys[2]}


def test_large_states_are_stored_when_time_has_passed(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SMALL_BYTES", 100)
    monkeypatch.setattr(worker, "SAVE_EVERY_S", 0.0)
    assert all(stands for _, _, stands in epochs(list(reports(a_job(a_trial()), place))))


def test_a_job_that_starts_later_gives_the_rest_of_the_unbroken_run(place: Workplace) -> None:
    whole = epochs(list(reports(a_job(a_trial()), place)))
    assert epochs(list(reports(a_job(a_trial(), start=2), place))) == whole[2:]


def test_a_job_starts_from_another_studys_states(place: Workplace, tmp_path: Path) -> None:
    whole = epochs(list(reports(a_job(a_trial()), place)))
    other = place.replace(stages_dir=str(tmp_path / "mine"))
    job = a_job(a_trial(), start=1, start_folder=place.stages_dir)
    assert epochs(list(reports(job, other))) == whole[1:]


def test_a_job_with_nothing_left_to_train_gives_the_arrays_of_its_last_epoch(place: Workplace) -> None:
    whole = list(reports(a_job(a_trial()), place))
    (again,) = reports(a_job(a_trial(), start=EPOCHS), place)
    assert isinstance(again, EpochReport)
    assert isinstance(whole[-1], EpochReport)
    assert again.stands
    assert again.arrays.keys() == whole[-1].arrays.keys() >= {"val_class_hits", "test_class_hits"}
    assert all((again.arrays[name] == whole[-1].arrays[name]).all() for name in again.arrays)


@pytest.mark.parametrize("harm", ["cut short", "flipped byte", "missing"])
def test_a_damaged_state_is_named_and_nothing_is_trained_from_it(place: Workplace, tmp_path: Path, harm: str) -> None:
    job = a_job(a_trial(), start=2)
    list(reports(a_job(a_trial()), place))
    path = tmp_path / "stages" / f"{job.keys[2]}.stage"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.unlink()
    if harm != "missing":
        path.write_bytes(data if harm == "flipped byte" else data[:-7])
    (report,) = reports(job, place)
    assert isinstance(report, EndReport)
    assert report.damaged == job.keys[2]
    assert str(path) in report.error


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "cannot be written (No space left on device); make room"),
        (errno.EIO, "cannot be read or written (Input/output error); mend the disk"),
    ],
)
def test_a_full_or_broken_disk_is_named_and_the_trial_goes_on_from_the_last_good_state(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    whole = epochs(list(reports(a_job(a_trial()), place)))
    second = place.replace(stages_dir=str(tmp_path / "second"))
    save = StageStore.save

    def full(self: StageStore, key: str, state: dict[str, Any], note: dict[str, int]) -> int:
        if note["epochs_done"] == 2:
            raise OSError(number, os.strerror(number))
        return save(self, key, state, note)

    with monkeypatch.context() as patch:
        patch.setattr(StageStore, "save", full)
        found = list(reports(a_job(a_trial()), second))
    assert epochs(found[:1]) == whole[:1]
    assert isinstance(found[1], EndReport)
    assert found[1].obstacle == f"{second.stages_dir}: {said}"
    assert epochs(list(reports(a_job(a_trial(), start=1), second))) == whole[1:]


def test_a_loss_that_is_not_finite_ends_the_job_as_diverged(place: Workplace) -> None:
    trial = a_trial(optimizer={"kind": "sgd", "lr": 1e30, "proxy_lr": 1e30})
    report = list(reports(a_job(trial), place))[-1]
    assert isinstance(report, EndReport)
    assert report.diverged.startswith("epoch 0")


@pytest.mark.parametrize("seen", ["", "another driver"])
def test_a_node_that_does_not_see_the_drivers_folder_trains_nothing(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    told: list[Report] = []
    monkeypatch.setattr(worker.tune, "report", lambda metrics: told.append(metrics["report"]))
    monkeypatch.setattr(worker, "SEEN_S", 0.0)
    folder = tmp_path / "study"
    if seen:
        folder.mkdir()
        (folder / "driver.json").write_text(seen, encoding="utf-8")
    there = place.replace(owner_file=str(folder / "driver.json"), owner="this driver")
    config = {"job": a_job(a_trial()).model_dump_json(), "workplace": there.model_dump_json()}
    worker.train_job(config)
    (report,) = told
    assert isinstance(report, EndReport)
    why = "is another folder than the driver's" if seen else "is not the driver's folder (No such file or directory)"
    assert report.obstacle.endswith(f": {folder}: {why}; mount it there at the same path")
    folder.mkdir(exist_ok=True)
    (folder / "driver.json").write_text("this driver", encoding="utf-8")
    told.clear()
    worker.train_job(config)
    assert len(epochs(told)) == EPOCHS


def test_missing_data_is_one_line(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.utils.download_url", _no_network)
    trial = a_trial(dataset={"kind": "omniglot"})
    (report,) = reports(a_job(trial), place)
    assert isinstance(report, EndReport)
    assert "images_background_small1.zip" in report.obstacle
    assert "\n" not in report.obstacle


def _no_network(*_: Any, **__: Any) -> None:
    raise OSError("no network")
