"""Optuna's study as a view of a made-up ledger: told the truth, in memory and in a journal, and taken up again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from search_spaces.study_config import StudyConfig
from study.ledger.read import LEDGER_NAME, StudyRecord, fold, read_events
from study.records import EndEvent, Phase, RungEvent, Status, TrialEvent
from study.tuning.job import Job
from study.tuning.proposals import NUMBER_ATTR, OptunaJournal, OptunaTrials, Proposer
from study.tuning.verify import open_journal, verify_optuna

from .simulated import World, a_study

RANGE = {
    "loss.scale.value": {"kind": "float", "low": 1, "high": 64, "log": True},
    "optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
}
CONDITIONAL = {
    "optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "loss": [
        {"kind": "circle", "level": "class", "m": {"kind": "float", "low": 0.1, "high": 0.5}, "gamma": 64},
        {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": {"kind": "float", "low": 1, "high": 64}}},
    ],
}
STATES = {
    Status.COMPLETE: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.DIVERGED: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,
}


def a_search(kind: str = "random", *, vary: dict[str, Any] = RANGE, **search: Any) -> StudyConfig:
    scheduler = {"kind": "asha", "grace_epochs": 1, "factor": 3}
    return a_study(
        vary=vary,
        search={"sampler": {"kind": kind}, "scheduler": scheduler, "max_trials": 14, **search},
        confirm={"best": 2, "seeds": [101, 102], "baselines": [{"name": "constant 20"}]},
    )


def fate(job: Job, epochs: int) -> str:
    """Trial 2 diverges after two epochs or at the start, trial 4 crashes whenever it begins."""
    if job.number == 2:
        return "diverge"
    return "crash" if job.number == 4 and epochs == job.start else ""


def a_ledger(folder: Path, study: StudyConfig, slots: int = 3, seed: int = 0) -> StudyRecord:
    """A study run to its end by made-up workers; trials completed, pruned, diverged, failed, and confirmed."""
    return World(folder).run(study, slots=slots, order=random.Random(seed), fate=fate)


def a_journal(folder: Path) -> JournalStorage:
    path = str(folder / "journal")
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))


def in_memory(study: StudyConfig, record: StudyRecord) -> optuna.Study:
    view = OptunaTrials(InMemoryStorage(), study)
    for trial in record.trials.values():
        view.update(trial)
    return view.optuna_study


def by_number(optuna_study: optuna.Study) -> dict[int, FrozenTrial]:
    trials = {trial.user_attrs[NUMBER_ATTR]: trial for trial in optuna_study.get_trials()}
    assert len(trials) == len(optuna_study.get_trials()), "a trial stands twice"
    return trials


def told(trial: FrozenTrial) -> tuple[Any, ...]:
    """What Optuna was told, without its own clock."""
    return trial.state, trial.value, trial.params, trial.distributions, trial.intermediate_values


@pytest.mark.parametrize("vary", [RANGE, CONDITIONAL], ids=["flat", "conditional"])
def test_optuna_hears_the_truth(tmp_path: Path, vary: dict[str, Any]) -> None:
    study = a_search(vary=vary)
    record = a_ledger(tmp_path, study)
    optuna_study = in_memory(study, record)
    found = by_number(optuna_study)
    assert found.keys() == record.trials.keys()
    for number, trial in record.trials.items():
        assert trial.end is not None
        assert found[number].state == STATES[trial.status]
        assert found[number].params == trial.trial.params
        assert found[number].intermediate_values == {
            epochs: event.result.metrics["val_recall_at_1"] for epochs, event in trial.epochs.items()
        }
        assert found[number].value == (trial.end.value if trial.status is Status.COMPLETE else None)
    assert {trial.status for trial in record.trials.values()} == set(STATES)
    assert found[2].state == found[4].state == TrialState.FAIL
    best = max(
        (trial for trial in record.trials.values() if trial.status is Status.COMPLETE),
        key=lambda trial: trial.end.value if trial.end and trial.end.value else 0.0,
    )
    assert best.end is not None
    assert optuna_study.best_value == best.end.value
    assert optuna_study.best_trial.user_attrs[NUMBER_ATTR] == best.number
    assert optuna_study.direction == optuna.study.StudyDirection.MAXIMIZE


def test_a_trial_that_was_told_early_is_brought_up_to_date_and_told_once(tmp_path: Path) -> None:
    study = a_search(vary=CONDITIONAL)
    record = a_ledger(tmp_path, study)
    events = list(read_events(tmp_path / LEDGER_NAME))
    view, early = OptunaTrials(InMemoryStorage(), study), StudyRecord()
    for event in events:
        early.apply(event)
        number = getattr(event, "number", None)
        if number is None:
            continue
        view.update(early.trials[number])
        view.update(early.trials[number])
        trial = early.trials[number]
        if not trial.status.ended and trial.starts:
            assert by_number(view.optuna_study)[number].state == TrialState.RUNNING
    whole = in_memory(study, record)
    assert {n: told(trial) for n, trial in by_number(view.optuna_study).items()} == {
        n: told(trial) for n, trial in by_number(whole).items()
    }


def test_a_trial_that_waits_is_no_news(tmp_path: Path) -> None:
    study = a_search()
    a_ledger(tmp_path, study)
    events = list(read_events(tmp_path / LEDGER_NAME))
    cut = next(n for n, event in enumerate(events) if isinstance(event, TrialEvent)) + 1
    assert in_memory(study, fold(events[:cut])).get_trials() == []


def test_an_invalid_proposal_is_a_failed_trial_for_optuna_too(tmp_path: Path) -> None:
    switch = {"kind": "switch", "before": 20, "after": 5, "switch_epoch": {"kind": "int", "low": 5, "high": 15}}
    study = a_study(vary={"loss.scale": [switch]}, search={"sampler": {"kind": "random"}, "max_trials": 8})
    record = World(tmp_path).run(study)
    invalid = [number for number, trial in record.trials.items() if trial.end and not trial.starts]
    assert invalid
    found = by_number(in_memory(study, record))
    assert all(found[number].state == TrialState.FAIL for number in invalid)
    proposer = Proposer(study, record)
    assert not proposer._trials.optuna_study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


def test_a_journal_says_what_memory_says(tmp_path: Path) -> None:
    study = a_search(vary=CONDITIONAL)
    record = a_ledger(tmp_path, study)
    events = list(read_events(tmp_path / LEDGER_NAME))
    view = OptunaJournal(a_journal(tmp_path), study)
    early = StudyRecord()
    for first in range(0, len(events), 7):
        batch = events[first : first + 7]
        for event in batch:
            early.apply(event)
        view.apply(early, batch)
    loaded = optuna.load_study(study_name=study.name, storage=a_journal(tmp_path))
    memory = in_memory(study, record)
    assert {n: told(trial) for n, trial in by_number(loaded).items()} == {
        n: told(trial) for n, trial in by_number(memory).items()
    }
    assert loaded.best_value == memory.best_value


def test_verify_finds_what_the_journal_lacks(tmp_path: Path) -> None:
    study = a_search()
    record = a_ledger(tmp_path, study)
    assert verify_optuna(tmp_path) == [f"{tmp_path / 'optuna.journal'}: missing; the next run or resume writes it"]
    view = OptunaTrials(open_journal(tmp_path), study)
    for number, trial in record.trials.items():
        if number != 3:
            view.update(trial)
    assert verify_optuna(tmp_path) == ["trial 3: not in Optuna's study"]
    view.update(record.trials[3])
    assert verify_optuna(tmp_path) == []


@pytest.mark.parametrize("vary", [RANGE, CONDITIONAL], ids=["flat", "conditional"])
@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "cmaes"])
def test_a_study_taken_up_anywhere_makes_the_proposals_of_an_unbroken_one(
    tmp_path: Path, sampler: str, vary: dict[str, Any]
) -> None:
    study = a_search(sampler, vary=vary)
    record = a_ledger(tmp_path, study)
    events = list(read_events(tmp_path / LEDGER_NAME))
    checked = 0
    for place, event in enumerate(events):
        if not isinstance(event, TrialEvent) or event.phase is not Phase.SEARCH:
            continue
        before = fold(events[:place])
        proposer = Proposer(study, before)
        known = proposer._trials.optuna_study.get_trials()
        assert [trial.params for trial in known] == [trial.trial.params for trial in before.trials.values()]
        params, values = proposer.propose(event.number)
        assert (params, values) == (event.params, event.values)
        checked += 1
    assert checked == 14
    assert len({str(trial.trial.params) for trial in record.trials.values()}) >= 10


def test_gp_is_taken_up_as_it_was(tmp_path: Path) -> None:
    study = a_search("gp", sampler={"kind": "gp", "startup_trials": 4}, max_trials=6)
    a_ledger(tmp_path, study)
    events = list(read_events(tmp_path / LEDGER_NAME))
    place = next(n for n, event in enumerate(events) if isinstance(event, TrialEvent) and event.number == 5)
    params, _ = Proposer(study, fold(events[:place])).propose(5)
    assert params == events[place].params  # type: ignore[attr-defined]


def test_a_release_that_draws_otherwise_still_learns_from_what_was_tried(tmp_path: Path) -> None:
    study = a_search("cmaes")
    a_ledger(tmp_path, study)
    other = a_search("cmaes", sampler={"kind": "cmaes", "seed": 1})
    record = fold(read_events(tmp_path / LEDGER_NAME))
    proposer = Proposer(other, record)
    complete = proposer._trials.optuna_study.get_trials(states=(TrialState.COMPLETE,))
    done = [t for t in record.trials.values() if t.trial.phase is Phase.SEARCH and t.status is Status.COMPLETE]
    assert sorted((trial.value or 0.0, sorted(trial.params.items())) for trial in complete) == sorted(
        (trial.end.value or 0.0, sorted(trial.trial.params.items())) for trial in done if trial.end
    )
    assert not proposer._trials.optuna_study.get_trials(states=(TrialState.RUNNING,))


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "cmaes"])
def test_the_seed_decides_the_proposals(sampler: str) -> None:
    def first(seed: int) -> list[Any]:
        study = a_search(sampler, sampler={"kind": sampler, "seed": seed})
        proposer = Proposer(study, StudyRecord())
        return [proposer.propose(number)[0] for number in range(3)]

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_confirmations_do_not_steer_later_proposals(tmp_path: Path) -> None:
    study = a_search("tpe")
    record = a_ledger(tmp_path, study)
    assert sum(trial.trial.phase is Phase.CONFIRM for trial in record.trials.values()) == 6
    search_only = StudyRecord(record.study, dict(record.config_json))
    search_only.trials = {n: trial for n, trial in record.trials.items() if trial.trial.phase is Phase.SEARCH}
    found = [Proposer(study, each) for each in (record, search_only)]
    for trial in record.trials.values():
        found[0].update(trial)
    assert found[0].propose(20) == found[1].propose(20)


def test_starting_points_come_first_then_the_grid_in_the_files_order() -> None:
    vary = {"loss.scale.value": [1, 3], "loss.kind": ["cosface", "normalized_softmax"]}
    study = a_study(
        vary=vary,
        search={
            "sampler": {"kind": "grid"},
            "max_trials": 9,
            "start_from": [{"loss.scale.value": 3, "loss.kind": "cosface"}],
        },
    )
    proposer = Proposer(study, StudyRecord())
    found = []
    while not proposer.exhausted:
        found.append(tuple(proposer.propose(len(found))[1].values()))
    assert found == [(3, "cosface"), (1, "cosface"), (1, "normalized_softmax"), (3, "normalized_softmax")]


def test_a_starting_point_may_name_an_option_and_leaves_the_rest_to_the_sampler() -> None:
    study = a_search(vary=CONDITIONAL, start_from=[{"loss": "circle"}, {"optimizer.lr": 0.005}])
    proposer = Proposer(study, StudyRecord())
    (first, _), (second, values) = proposer.propose(0), proposer.propose(1)
    assert first["loss"] == "circle"
    assert 0.1 <= first["loss.circle.m"] <= 0.5
    assert second["optimizer.lr"] == values["optimizer.lr"] == 0.005


def test_made_up_ledgers_hold_what_these_tests_are_about(tmp_path: Path) -> None:
    record = a_ledger(tmp_path, a_search())
    events = list(read_events(tmp_path / LEDGER_NAME))
    assert any(isinstance(event, RungEvent) and event.decision == "stop" for event in events)
    assert any(isinstance(event, EndEvent) and event.status is Status.FAILED for event in events)
    starts = [event.at for event in events if isinstance(event, TrialEvent)]
    ends = [trial.end.at for trial in record.trials.values() if trial.end is not None]
    assert min(ends) < max(starts), "proposals are made while others run and after some ended"
