"""The ledger told as runs, without MLflow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from study.ledger.read import read_events
from study.records import DriverEvent, Phase, RungEvent, Status
from study.tracking.mlflow_runs import LIMIT, Run, StudyRuns, fold_runs, shorten, summary


def runs_of(made_up: Any) -> StudyRuns:
    return fold_runs(read_events(made_up.writer.path))


def steps(run: Run, key: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in run.points if point.key == key]


def test_a_study_is_a_run_over_configurations_over_seeds(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    runs = runs_of(make_study(tmp_path).whole()).runs
    tree = [(run.name, runs[run.parent].name if run.parent else None) for run in runs.values()]
    seeds = ["seed 0", "seed 1", "seed 2"]
    assert tree == [
        ("made_up", None),
        *(("s=1", "made_up"), *((seed, "s=1") for seed in seeds)),
        *(("s=20", "made_up"), *((seed, "s=20") for seed in seeds)),
    ]
    assert runs["study"].files == {"made_up.yaml": "name: made_up\n"}
    assert runs["study"].params["vary.loss.scale.value.options"] == "[1,20]"
    assert runs["study"].tags["version.torch"] == "2.9.0"
    assert runs["study"].tags["git_commit"] == "c0ffee"
    assert runs["trial 4"].params["loss.scale.value"] == "20"
    assert runs["trial 4"].params["seed"] == "1"


def test_every_end_has_mlflows_status_and_the_ledgers_word_and_time(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    made_up = make_study(tmp_path).whole()
    runs = runs_of(made_up).runs
    assert [(runs[f"trial {n}"].status, runs[f"trial {n}"].tags["status"]) for n in (0, 3, 4)] == [
        ("FINISHED", "complete"),
        ("KILLED", "pruned"),
        ("FAILED", "diverged"),
    ]
    assert runs["trial 3"].tags["reason"] == "below the best third at epoch 1"
    for number, trial in made_up.writer.record.trials.items():
        assert runs[f"trial {number}"].end_ms == round(trial.end.at * 1000)
        assert runs[f"trial {number}"].start_ms == round(trial.starts[0].at * 1000)
    assert (runs["study"].status, runs["study"].tags["status"]) == ("FINISHED", "finished")


def test_metrics_stand_at_their_epoch_with_the_ledgers_time(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path).whole()
    run, trial = runs_of(made_up).runs["trial 1"], made_up.writer.record.trials[1]
    assert steps(run, "val_recall_at_1") == [(n, made_up.recall(1, n)) for n in (1, 2, 3)]
    assert steps(run, "value") == steps(run, "value_last_5") == [(3, made_up.recall(1, 3))]
    assert steps(run, "train_s") == [(n, 0.5) for n in (1, 2, 3)]
    times = {point.step: point.at_ms for point in run.points if point.key == "loss"}
    assert times == {n: round(epoch.at * 1000) for n, epoch in trial.epochs.items()}


def test_inherited_epochs_are_counted_and_their_trainer_is_named(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    run = runs_of(make_study(tmp_path).whole()).runs["trial 5"]
    assert run.branches == 3
    assert run.tags["inherited_epochs"] == "2"
    assert (run.tags["branched_from_trial"], run.tags["branched_at_epoch"]) == ("3", "2")


def test_a_configuration_has_mean_and_t_interval_by_number_of_finished_seeds(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    made_up = make_study(tmp_path).whole()
    runs = runs_of(made_up).runs
    plain = next(run for run in runs.values() if run.name == "s=1")
    values = [made_up.recall(n, 3) for n in range(3)]
    assert [step for step, _ in steps(plain, "val_recall_at_1_mean")] == [1, 2, 3]
    assert [step for step, _ in steps(plain, "test_recall_at_1_ci_low")] == [2, 3]
    low, high = stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=stats.sem(values))
    assert steps(plain, "val_recall_at_1_ci_low")[-1] == pytest.approx((3, low))
    assert steps(plain, "val_recall_at_1_ci_high")[-1] == pytest.approx((3, high))
    assert (plain.status, plain.tags["status"], plain.tags["complete_seeds"]) == ("FINISHED", "complete", "3")
    mixed = next(run for run in runs.values() if run.name == "s=20")
    assert steps(mixed, "val_recall_at_1_mean") == [(1, made_up.recall(5, 3))]  # neither pruned nor diverged seeds
    assert (mixed.status, mixed.tags["complete_seeds"]) == ("FINISHED", "1")


def test_two_seeds_worked_by_hand() -> None:
    # mean .5, sd .1 sqrt 2, so sd / sqrt 2 = .1; t(.975, 1) = 12.7062
    named = dict(summary("test_recall_at_1", [0.4, 0.6]))
    assert named == {
        "test_recall_at_1_mean": 0.5,
        "test_recall_at_1_ci_low": pytest.approx(0.5 - 1.27062, abs=1e-5),
        "test_recall_at_1_ci_high": pytest.approx(0.5 + 1.27062, abs=1e-5),
    }


def test_nothing_runs_once_the_driver_closed_and_again_once_it_resumes(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    made_up.driver("opened")
    made_up.run(0)
    made_up.trial(1)
    made_up.start(1)
    made_up.epoch(1, 1)
    assert runs_of(made_up).runs["trial 1"].status == "RUNNING"
    made_up.driver("closed", "stopped")
    runs = runs_of(made_up).runs
    stopped_ms = round(made_up.at * 1000)
    for key in ("study", runs["trial 1"].parent, "trial 1"):
        run = runs[str(key)]
        assert (run.status, run.tags["status"], run.end_ms) == ("KILLED", "stopped", stopped_ms)
    assert runs["trial 0"].status == "FINISHED"
    made_up.driver("opened")
    assert runs_of(made_up).runs["trial 1"].status == "KILLED"
    made_up.start(1, attempt=2)
    runs = runs_of(made_up).runs
    assert [runs[str(key)].status for key in ("study", runs["trial 1"].parent, "trial 1")] == ["RUNNING"] * 3
    assert runs["trial 1"].tags["attempts"] == "2"


def test_a_killed_drivers_trials_stop_when_the_next_driver_opens(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    made_up.driver("opened")
    made_up.trial(0)
    made_up.start(0)
    made_up.epoch(0, 1)
    died_ms = round(made_up.at * 1000)
    dead = runs_of(made_up)
    dead.driver_died()
    made_up.driver("opened")
    for run in (dead.runs["trial 0"], runs_of(made_up).runs["trial 0"]):
        assert (run.status, run.tags["status"], run.end_ms) == ("KILLED", "stopped", died_ms)
    assert dead.runs["study"].status == "KILLED"


def test_a_paused_trial_is_scheduled_and_killed_with_its_word(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    made_up.driver("opened")
    made_up.trial(0)
    made_up.start(0)
    made_up.epoch(0, 1)
    made_up.write(lambda at: RungEvent(at=at, number=0, epochs_done=1, value=0.5, cutoff=0.6, decision="pause"))
    assert runs_of(made_up).runs["trial 0"].status == "SCHEDULED"
    made_up.driver("closed", "stopped")
    run = runs_of(made_up).runs["trial 0"]
    assert (run.status, run.tags["status"]) == ("KILLED", "paused")


def test_an_epoch_reported_again_adds_nothing_unless_it_measured_something_else(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    made_up.trial(0)
    made_up.start(0)
    made_up.epoch(0, 1)
    once = runs_of(made_up).runs["trial 0"]
    made_up.start(0, attempt=2)
    made_up.epoch(0, 1, inherited=True)
    again = runs_of(made_up).runs["trial 0"]
    assert again.points == once.points
    assert "inherited_epochs" not in again.tags
    made_up.epoch(0, 1, recall=0.9)
    assert steps(runs_of(made_up).runs["trial 0"], "val_recall_at_1") == [(1, made_up.recall(0, 1)), (1, 0.9)]


def test_confirmed_and_searched_seeds_of_one_configuration_stay_apart(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    for number, phase, seed in ((0, Phase.SEARCH, 0), (1, Phase.CONFIRM, 101)):
        made_up.trial(number, phase, seed)
        made_up.start(number)
        made_up.epoch(number, 3)
        made_up.end(number)
    runs = runs_of(made_up).runs
    assert [run.name for run in runs.values() if run.tags["level"] == "configuration"] == ["s=1", "s=1 (confirmed)"]
    assert [run.tags["complete_seeds"] for run in runs.values() if run.tags["level"] == "configuration"] == ["1", "1"]


def test_what_may_be_chosen_on_is_said(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path)
    split = made_up.config.trial.split.replace(val_classes=0)
    made_up.first_line()
    made_up.trial(0)
    made_up.start(0)
    made_up.config = made_up.config.replace(trial=made_up.config.trial.replace(split=split))
    made_up.trial(3)
    made_up.start(3)
    runs = runs_of(made_up).runs
    assert [(runs[key].tags["chosen_on"], runs[key].tags["objective"]) for key in ("trial 0", "trial 3")] == [
        ("validation", "val_recall_at_1"),
        ("test", "test_recall_at_1"),
    ]


def test_an_extended_study_runs_again_with_the_new_value_as_a_tag(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    made_up = make_study(tmp_path).whole()
    config = {**made_up.config.model_dump(mode="json"), "seeds": [0, 1, 2, 3, 4]}
    made_up.write(lambda at: DriverEvent(at=at, what="extended", host="here", pid=1, config=config))
    made_up.trial(6, seed=3)
    made_up.start(6)
    runs = runs_of(made_up).runs
    assert runs["study"].status == "RUNNING"
    assert runs["study"].tags["extended.seeds"] == "[0,1,2,3,4]"
    assert runs["study"].params["seeds"] == "[0,1,2]"
    plain = runs[str(runs["trial 6"].parent)]
    assert plain.status == "RUNNING"
    made_up.epoch(6, 3)
    made_up.end(6)
    made_up.trial(7, seed=4)
    made_up.start(7)
    made_up.end(7, Status.FAILED, 0, "crashed")
    runs = runs_of(made_up).runs
    assert runs[plain.key].status == "FINISHED"
    assert runs[plain.key].tags["complete_seeds"] == "4"


def test_what_is_too_long_for_mlflow_is_cut_with_a_mark() -> None:
    long = "x" * 7000
    cut = shorten(long)
    assert len(cut) == LIMIT
    assert "[cut: 7000 characters, crc32 " in cut
    assert shorten("x" * LIMIT) == "x" * LIMIT
    assert shorten(long + "y")[-10:] != cut[-10:]


def test_a_trial_that_ends_before_it_starts_has_a_run(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    made_up.trial(0, Phase.SEARCH)
    assert list(runs_of(made_up).runs) == ["study"]
    made_up.end(0, Status.FAILED, 0, "not a valid trial")
    run = runs_of(made_up).runs["trial 0"]
    assert (run.status, run.tags["reason"], run.points) == ("FAILED", "not a valid trial", [])
