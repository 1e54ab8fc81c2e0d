"""The view in a real MLflow, on sqlite."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from study.ledger.read import LEDGER_NAME, LedgerError, read_events
from study.ledger.write import LedgerWriter
from study.records import Status
from study.tracking.mirror import Mirror, StartAgain
from study.tracking.mlflow_mirror import MlflowView, TrackingError, log_artifact, sync, verify
from study.tracking.mlflow_store import sqlite_path

Dump = Callable[[str], dict[str, list[tuple[Any, ...]]]]


def all_runs(uri: str) -> list[Any]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("made_up")
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]))


def by_trial(uri: str) -> dict[str, Any]:
    return {run.data.tags["trial"]: run for run in all_runs(uri) if "trial" in run.data.tags}


def test_sync_builds_the_whole_view_and_a_second_one_changes_nothing(
    tmp_path: Path, uri: str, dump: Dump, make_study: Callable[..., Any]
) -> None:
    folder = tmp_path / "made_up"
    made_up = make_study(folder).whole()
    counts = sync(folder, uri)
    assert (counts.runs_created, counts.runs_removed) == (9, 0)
    assert counts.metrics_logged == 13 * 5 + 2 * 5 + 6 + 4 + 6  # epochs, values of 5 trials, means, intervals
    before = dump(uri)
    again = sync(folder, uri)
    assert (again.runs_created, again.runs_removed, again.metrics_logged) == (0, 0, 0)
    assert dump(uri) == before
    assert verify(folder, uri) == []

    trials, client = by_trial(uri), MlflowClient(uri)
    assert {number: run.info.status for number, run in trials.items()} == {
        **dict.fromkeys("0125", "FINISHED"), "3": "KILLED", "4": "FAILED"
    }  # fmt: skip
    history = client.get_metric_history(trials["1"].info.run_id, "val_recall_at_1")
    epochs = made_up.writer.record.trials[1].epochs
    assert [(point.step, point.timestamp, point.value) for point in history] == [
        (n, round(epochs[n].at * 1000), made_up.recall(1, n)) for n in (1, 2, 3)
    ]
    by_id = {run.info.run_id: run for run in all_runs(uri)}
    configuration = by_id[trials["5"].data.tags["mlflow.parentRunId"]]
    assert configuration.info.run_name == "s=20"
    assert by_id[configuration.data.tags["mlflow.parentRunId"]].info.run_name == "made_up"
    assert trials["5"].data.tags["branched_from_run"] == trials["3"].info.run_id
    assert trials["3"].info.run_id in trials["5"].data.tags["mlflow.note.content"]
    means = client.search_runs(
        [configuration.info.experiment_id],
        "tags.level = 'configuration'",
        order_by=["metrics.val_recall_at_1_mean DESC"],
    )
    assert [run.info.run_name for run in means] == ["s=20", "s=1"]
    study = by_id[configuration.data.tags["mlflow.parentRunId"]]
    assert [file.path for file in client.list_artifacts(study.info.run_id)] == ["made_up.yaml"]


def test_a_home_that_was_moved_keeps_its_artifacts_where_it_is(
    tmp_path: Path, make_study: Callable[..., Any], uri: str
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    make_study(before / "made_up").whole()
    shutil.copy(sqlite_path(uri) or "", before / "mlflow.db")
    sync(before / "made_up", f"sqlite:///{before / 'mlflow.db'}")
    before.rename(after)
    moved = f"sqlite:///{after / 'mlflow.db'}"
    assert sync(after / "made_up", moved).runs_created == 9
    (tmp_path / "report.html").touch()
    log_artifact(moved, "made_up", tmp_path / "report.html")
    assert len(list(after.glob("mlartifacts/made_up/*/artifacts/report.html"))) == 1
    assert not before.exists()
    assert verify(after / "made_up", moved) == []
    assert sync(after / "made_up", moved).runs_created == 0


def test_a_live_view_and_one_built_afterwards_are_the_same(
    tmp_path: Path, uri: str, dump: Dump, make_study: Callable[..., Any]
) -> None:
    folder = tmp_path / "made_up"
    mirror = Mirror(folder, MlflowView(uri, "made_up", folder), pause_s=0.0, poll_s=0.01)
    mirror.start()
    make_study(folder).whole()
    assert mirror.close(20.0), mirror.last_error
    before = dump(uri)
    assert verify(folder, uri) == []
    counts = sync(folder, uri)
    assert (counts.runs_created, counts.metrics_logged) == (0, 0)
    assert dump(uri) == before


def test_each_prefix_of_a_ledger_can_be_taken_in_alone(
    tmp_path: Path, uri: str, dump: Dump, make_study: Callable[..., Any]
) -> None:
    """As when a driver is killed again and again: every view starts anew and finds what the one before left."""
    folder, whole = tmp_path / "made_up", make_study(tmp_path / "whole").whole()
    lines = whole.writer.path.read_bytes().splitlines(keepends=True)
    folder.mkdir()
    for end in (2, 5, 9, 20, len(lines)):
        (folder / LEDGER_NAME).write_bytes(b"".join(lines[:end]))
        sync(folder, uri)
        assert verify(folder, uri) == [], f"after {end} lines"
        assert not [run for run in all_runs(uri) if run.info.status == "RUNNING"]
    assert len(all_runs(uri)) == 9
    assert len(dump(uri)["metrics"]) == 91


@pytest.mark.parametrize("replaced", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_database_that_is_deleted_is_built_anew_while_the_study_runs(
    tmp_path: Path, uri: str, prepared_database: Path, make_study: Callable[..., Any], replaced: bool
) -> None:
    folder, path = tmp_path / "made_up", sqlite_path(uri)
    assert path is not None
    made_up = make_study(folder)
    made_up.first_line()
    made_up.driver("opened")
    made_up.run(0)
    view = MlflowView(uri, "made_up", folder)
    record, events = made_up.writer.record, list(read_events(made_up.writer.path))
    view.apply(record, events)
    path.unlink()
    if replaced:
        shutil.copy(prepared_database, path)
    made_up.run(1)
    with pytest.raises(StartAgain, match="building it anew"):
        view.apply(record, list(read_events(made_up.writer.path))[len(events) :])
    view.apply(record, list(read_events(made_up.writer.path)))
    assert verify(folder, uri, driver_lives=True) == []


@pytest.mark.parametrize("deleted", ["run", "experiment"])
def test_what_somebody_deletes_in_the_ui_is_built_anew(
    tmp_path: Path, uri: str, make_study: Callable[..., Any], deleted: str
) -> None:
    folder = tmp_path / "made_up"
    made_up = make_study(folder)
    made_up.first_line()
    made_up.driver("opened")
    made_up.trial(0)
    made_up.start(0)
    view = MlflowView(uri, "made_up", folder)
    view.apply(made_up.writer.record, list(read_events(made_up.writer.path)))
    run, client = by_trial(uri)["0"], MlflowClient(uri)
    if deleted == "run":
        client.delete_run(run.info.run_id)
    else:
        client.delete_experiment(run.info.experiment_id)
    made_up.epoch(0, 1)
    with pytest.raises(StartAgain):
        view.apply(made_up.writer.record, list(read_events(made_up.writer.path))[-1:])
    view.apply(made_up.writer.record, list(read_events(made_up.writer.path)))
    assert verify(folder, uri, driver_lives=True) == []


def test_a_locked_database_only_makes_the_view_late(tmp_path: Path, uri: str, make_study: Callable[..., Any]) -> None:
    folder, path = tmp_path / "made_up", sqlite_path(uri)
    made_up = make_study(folder)
    view = MlflowView(uri, "made_up", folder)
    with closing(sqlite3.connect(str(path), isolation_level=None)) as other:
        mirror = Mirror(folder, view, pause_s=0.0, poll_s=0.01, max_wait_s=0.1)
        made_up.first_line()
        other.execute("begin exclusive")
        mirror.start()
        start = time.monotonic()
        made_up.driver("opened")
        made_up.run(0)
        mirror.notify()
        assert time.monotonic() - start < 0.5  # the driver never waits
        time.sleep(0.5)
        assert mirror.behind > 0
        other.execute("rollback")
    made_up.driver("closed", "finished")
    assert mirror.close(25.0), mirror.last_error
    assert verify(folder, uri) == []


def test_what_the_ledger_lost_in_a_crash_is_not_kept(tmp_path: Path, uri: str, make_study: Callable[..., Any]) -> None:
    """A power cut may cost the ledger lines that MLflow has seen; the epoch is then trained and reported again."""
    folder = tmp_path / "made_up"
    made_up = make_study(folder)
    made_up.first_line()
    made_up.driver("opened")
    made_up.trial(0)
    made_up.start(0)
    made_up.epoch(0, 1)
    kept = made_up.writer.path.stat().st_size
    made_up.epoch(0, 2)
    made_up.trial(1)
    made_up.start(1)
    sync(folder, uri)
    made_up.writer.close()
    with made_up.writer.path.open("r+b") as stream:
        stream.truncate(kept)
    made_up.at += 10.0
    made_up.writer = LedgerWriter(folder)
    made_up.driver("opened")
    made_up.start(0, attempt=2)
    made_up.epoch(0, 2)
    made_up.end(0, epochs=2)
    made_up.driver("closed", "finished")
    assert len(verify(folder, uri)) > 1
    assert sync(folder, uri).runs_removed == 2
    assert verify(folder, uri) == []
    history = MlflowClient(uri).get_metric_history(by_trial(uri)["0"].info.run_id, "loss")
    assert [point.step for point in history] == [1, 2]


def test_a_study_run_again_under_its_name_does_not_touch_the_older_runs(
    tmp_path: Path, uri: str, make_study: Callable[..., Any]
) -> None:
    folder = tmp_path / "made_up"
    make_study(folder).whole()
    sync(folder, uri)
    shutil.rmtree(folder)
    made_up = make_study(folder)
    made_up.at += 5000.0
    made_up.whole()
    assert sync(folder, uri).runs_created == 9
    assert verify(folder, uri) == []
    assert len(all_runs(uri)) == 18


def test_more_parameters_metrics_and_characters_than_mlflow_takes_at_once(
    tmp_path: Path, uri: str, make_study: Callable[..., Any]
) -> None:
    folder = tmp_path / "made_up"
    made_up = make_study(folder, epochs=900)
    made_up.config = made_up.config.replace(question="why " * 3000)
    made_up.first_line()
    made_up.driver("opened")
    made_up.run(0)
    made_up.driver("closed", "stopped")
    long = {f"made.up.{number}": "x" * 7000 for number in range(150)}
    view = MlflowView(uri, "made_up", folder)
    view.fold(list(read_events(made_up.writer.path)))
    run = view._runs.runs["trial 0"]
    run.params |= {name: value[:5000] for name, value in long.items()}
    view.write()
    found = by_trial(uri)["0"]
    assert len(found.data.params) > 200
    assert view.counts.metrics_logged == 900 * 5 + 2 + 2
    assert len(MlflowClient(uri).get_metric_history(found.info.run_id, "loss")) == 900
    study = next(run for run in all_runs(uri) if run.data.tags["level"] == "study")
    assert "[cut: 12000 characters" in study.data.tags["mlflow.note.content"]


def test_verify_names_each_difference(tmp_path: Path, uri: str, make_study: Callable[..., Any]) -> None:
    folder = tmp_path / "made_up"
    make_study(folder).whole()
    assert verify(folder, uri) == ["MLflow has no experiment made_up"]
    sync(folder, uri)
    client, trials = MlflowClient(uri), by_trial(uri)
    client.delete_run(trials["0"].info.run_id)
    client.update_run(trials["1"].info.run_id, status="RUNNING")
    client.set_tag(trials["2"].info.run_id, "status", "pruned")
    client.log_metric(trials["5"].info.run_id, "loss", 9.0, step=2, timestamp=1)
    with closing(sqlite3.connect(str(sqlite_path(uri)))) as database:
        run_ids = (trials["3"].info.run_id, trials["5"].info.run_id)
        database.execute("delete from metrics where run_uuid = ? and key = 'loss'", run_ids[:1])
        database.execute(
            "update metrics set value = 7 where run_uuid = ? and key = 'test_recall_at_1' and step = 1", run_ids[1:]
        )
        database.commit()
    lines = verify(folder, uri)
    assert [line.split(" until ")[0] for line in lines] == [
        "trial 0 (s=1, seed 0): MLflow has no such run",
        "trial 1 (s=1, seed 1): MLflow says RUNNING",
        "trial 2 (s=1, seed 2): tag status is 'pruned', by the ledger 'complete'",
        "trial 3 (s=20, seed 0): loss at step 1 is missing, by the ledger 2.9",
        "trial 5 (s=20, seed 2): test_recall_at_1 at step 1 is [7.0], by the ledger 0.32",
        "trial 5 (s=20, seed 2): loss at step 2 holds a value that the ledger does not",
    ]  # fmt: skip


def test_a_report_is_kept_with_the_study_and_again_after_a_rebuild(
    tmp_path: Path, uri: str, make_study: Callable[..., Any]
) -> None:
    folder = tmp_path / "made_up"
    make_study(folder).whole()
    (tmp_path / "report.html").write_text("early")
    with pytest.raises(TrackingError, match="no run of study made_up; sync it first"):
        log_artifact(uri, "made_up", tmp_path / "report.html")
    sync(folder, uri)
    (folder / "report.html").write_text("page")
    log_artifact(uri, "made_up", folder / "report.html")
    client = MlflowClient(uri)

    def kept() -> dict[str, str]:
        study = next(run for run in all_runs(uri) if run.data.tags["level"] == "study")
        local = Path(client.download_artifacts(study.info.run_id, ""))
        return {path.name: path.read_text() for path in local.iterdir()}

    assert kept() == {"made_up.yaml": "name: made_up\n", "report.html": "page"}
    client.delete_experiment(all_runs(uri)[0].info.experiment_id)
    sync(folder, uri)
    assert kept() == {"made_up.yaml": "name: made_up\n", "report.html": "page"}


def test_an_empty_ledger_is_refused(tmp_path: Path, uri: str) -> None:
    (tmp_path / LEDGER_NAME).touch()
    for check in (sync, verify):
        with pytest.raises(LedgerError, match="empty"):
            check(tmp_path, uri)


def test_a_server_that_is_away_is_one_line(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    make_study(tmp_path).whole()
    for check in (sync, verify):
        with pytest.raises(TrackingError, match=r"^MLflow at http://127.0.0.1:9: [^\n]+$"):
            check(tmp_path, "http://127.0.0.1:9")


def test_a_driver_killed_in_the_middle_leaves_no_run_running_after_sync(
    tmp_path: Path, uri: str, make_study: Callable[..., Any]
) -> None:
    folder = tmp_path / "made_up"
    made_up = make_study(folder)
    made_up.first_line()
    made_up.driver("opened")
    made_up.trial(0)
    made_up.start(0)
    view = MlflowView(uri, "made_up", folder)
    view.apply(made_up.writer.record, list(read_events(made_up.writer.path)))
    assert {run.info.status for run in all_runs(uri)} == {"RUNNING"}
    assert verify(folder, uri) != []
    sync(folder, uri)
    assert {run.info.status for run in all_runs(uri)} == {"KILLED"}
    made_up.driver("opened")
    made_up.start(0, attempt=2)
    made_up.epoch(0, 1)
    made_up.end(0, Status.PRUNED, 1)
    made_up.driver("closed", "finished")
    sync(folder, uri)
    assert by_trial(uri)["0"].data.tags["status"] == "pruned"
    assert verify(folder, uri) == []
