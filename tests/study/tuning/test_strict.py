"""Strict determinism: neither the number of slots, nor who reports first, nor a death changes what a search finds."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from search_spaces.load import ConfigError
from search_spaces.study_config import Asha, StudyConfig
from study.ledger.read import StudyRecord
from study.records import Phase, Status
from study.tuning.job import Job
from study.tuning.rungs import SynchronousRungs, Verdict

from .simulated import Killed, World, a_study

RANGE = {"loss.scale.value": {"kind": "float", "low": 1, "high": 64, "log": True}}
LATE = {
    "loss.scale": [{"kind": "switch", "before": 20, "after": 5, "switch_epoch": {"kind": "int", "low": 1, "high": 11}}],
    "optimizer.lr": [0.001, 0.003],
}
"""Proposals that begin alike, and one in six that is no valid trial (epochs are 9)."""


def strict(
    sampler: str = "tpe", mode: str = "stop", vary: dict[str, Any] = RANGE, max_trials: int = 12, **fields: Any
) -> StudyConfig:
    search = {
        "sampler": {"kind": sampler, **({"startup_trials": 4} if sampler in ("tpe", "gp") else {})},
        "scheduler": {"kind": "asha", "grace_epochs": 1, "factor": 3, "mode": mode} if mode else {"kind": "none"},
        "max_trials": max_trials,
        "round_size": 4,
        "determinism": "strict",
    }
    return a_study(vary=vary, search=search, **fields)


def final(record: StudyRecord) -> dict[int, Any]:
    """What a study found: all but the clock, attempts, and which trial of equal prefixes trained a stage."""
    return {
        number: (
            trial.trial.replace(at=0.0),
            [(n, event.result.metrics) for n, event in sorted(trial.epochs.items())],
            [(rung.epochs_done, rung.value, rung.cutoff, rung.decision) for rung in trial.rungs],
            trial.end and trial.end.replace(at=0.0),
        )
        for number, trial in record.trials.items()
    }


CONFIRM = {"best": 2, "seeds": [101, 102], "baselines": [{"name": "constant 20"}]}


@pytest.mark.parametrize(
    ("sampler", "mode", "vary", "count"),
    [
        ("tpe", "stop", RANGE, 3),
        ("cmaes", "promote", RANGE, 3),
        ("random", "stop", LATE, 4),
        ("qmc", "", RANGE, 3),
        pytest.param("gp", "stop", RANGE, 4, marks=pytest.mark.slow),
        pytest.param("tpe", "stop", RANGE, 20, marks=pytest.mark.slow),
        pytest.param("tpe", "promote", LATE, 20, marks=pytest.mark.slow),
        pytest.param("cmaes", "stop", LATE, 20, marks=pytest.mark.slow),
    ],
)
def test_runs_on_one_two_and_four_slots_in_any_order_find_the_same(
    tmp_path: Path, sampler: str, mode: str, vary: dict[str, Any], count: int
) -> None:
    study = strict(sampler, mode, vary, confirm=CONFIRM if vary is RANGE else None)
    runs = []
    for seed in range(count):
        world = World(tmp_path / str(seed))
        runs.append(final(world.run(study, slots=(1, 2, 4)[seed % 3], order=random.Random(seed))))
        # Proposals of different rounds may share a prefix that was freed in between.
        assert vary is LATE or len(world.store.trained) == len(set(world.store.trained))
    assert all(run == runs[0] for run in runs[1:])
    statuses = [end.status for *_, end in runs[0].values() if end]
    assert len(statuses) == len(runs[0])
    assert (Status.PRUNED in statuses) == bool(mode)


def test_free_searches_do_differ_so_that_the_test_above_can_fail(tmp_path: Path) -> None:
    search = {"sampler": {"kind": "tpe", "startup_trials": 4}, "scheduler": {"kind": "asha"}, "max_trials": 12}
    study = a_study(vary=RANGE, search=search)
    runs = [final(World(tmp_path / str(slots)).run(study, slots=slots, order=random.Random(slots))) for slots in (1, 4)]
    assert runs[0] != runs[1]


@pytest.mark.parametrize("kill_after", [1, 6, 19, 33])
@pytest.mark.parametrize(
    ("sampler", "mode", "vary"), [("tpe", "stop", RANGE), ("cmaes", "promote", RANGE), ("qmc", "promote", LATE)]
)
def test_a_killed_strict_search_resumes_to_the_same_end(
    tmp_path: Path, sampler: str, mode: str, vary: dict[str, Any], kill_after: int
) -> None:
    study = strict(sampler, mode, vary)
    whole = final(World(tmp_path / "whole").run(study, slots=1))
    world = World(tmp_path / "killed")
    order = random.Random(kill_after)
    for slots in (4, 2):
        with contextlib.suppress(Killed):
            world.run(study, slots=slots, order=order, kill_after=kill_after)
    assert final(world.run(study, slots=3, order=order)) == whole
    assert vary is LATE or len(world.store.trained) == len(set(world.store.trained))


def test_a_rung_decides_when_the_slowest_of_its_round_has_come(tmp_path: Path) -> None:
    record = World(tmp_path).run(strict("random"), slots=2, order=random.Random(0))
    for first in range(0, 12, 4):
        trials = [record.trials[number] for number in range(first, first + 4)]
        came = [trial.rungs[0].at for trial in trials]
        decided = [trial.rungs[1].at for trial in trials]
        assert {trial.rungs[0].decision for trial in trials} == {"pause"}
        assert max(came) < min(decided)
        assert first == 0 or max(record.trials[first - 1].end.at, 0) < min(t.trial.at for t in trials)


def test_a_trial_that_diverges_does_not_keep_its_round_waiting(tmp_path: Path) -> None:
    def fate(job: Job, epochs: int) -> str:
        return "diverge" if job.number % 4 == 0 and epochs == 2 and job.trial["measure"]["test"] is False else ""

    runs = [
        World(tmp_path / str(slots)).run(strict("random"), slots=slots, order=random.Random(slots), fate=fate)
        for slots in (1, 3)
    ]
    assert final(runs[0]) == final(runs[1])
    assert all(trial.end is not None for trial in runs[0].trials.values())
    assert any(trial.status is Status.DIVERGED for trial in runs[0].trials.values())


def test_a_larger_budget_later_finds_what_it_had_found_at_once(tmp_path: Path) -> None:
    at_once = World(tmp_path / "at once").run(strict("tpe", max_trials=12), slots=3)
    world = World(tmp_path / "in two")
    world.run(strict("tpe", max_trials=8), slots=2)
    assert final(world.run(strict("tpe", max_trials=12), slots=1)) == final(at_once)


def test_a_round_is_proposed_whole_before_any_of_it_starts(tmp_path: Path) -> None:
    record = World(tmp_path).run(strict("random"), slots=1)
    proposals = [trial for trial in record.trials.values() if trial.trial.phase is Phase.SEARCH]
    for first in range(0, 12, 4):
        of_round = proposals[first : first + 4]
        assert max(trial.trial.at for trial in of_round) < min(trial.starts[0].at for trial in of_round)


def test_a_stopping_rung_lets_the_best_third_of_all_so_far_go_on() -> None:
    rungs = SynchronousRungs(Asha(grace_epochs=1, factor=3), 9)
    for number, value in enumerate([0.1, 0.4, 0.2]):
        assert rungs.judge(f"k{number}", 1, value, number) == Verdict("pause", None)
    # The 2/3 quantile of .1, .2, .4 lies a third of the way from .2 to .4.
    cutoff = pytest.approx(0.2 + 0.2 / 3)
    assert [(key, verdict.decision) for _, key, verdict in rungs.decide()] == [
        ("k0", "stop"), ("k1", "continue"), ("k2", "stop")
    ]  # fmt: skip
    known = rungs.judge("k1", 1, 0.4, 7)
    assert known is not None
    assert (known.decision, known.cutoff) == ("continue", cutoff)
    assert rungs.decide() == []
    # Of .1, .2, .4, .3 the 2/3 quantile is .3: the newcomer ties with it.
    rungs.judge("k3", 1, 0.3, 3)
    assert [(key, verdict.decision) for _, key, verdict in rungs.decide()] == [("k3", "continue")]


def test_promotion_takes_equal_values_in_the_order_of_their_proposals() -> None:
    for order in ([0, 1, 2], [2, 1, 0]):
        rungs = SynchronousRungs(Asha(grace_epochs=1, factor=3, mode="promote"), 9)
        for number in order:
            rungs.judge(f"k{number}", 1, 0.5, number)
        assert [(epochs, key) for epochs, key, _ in rungs.decide()] == [(1, "k0")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_trials": 12}, "search.round_size: missing"),
        ({"max_trials": 10, "round_size": 4}, "search.max_trials: 10 is no multiple of round_size=4"),
        ({"max_trials": 12, "round_size": 4, "max_hours": 1.0}, "search.max_hours: when hours are spent depends"),
    ],
)
def test_what_strict_determinism_cannot_promise_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        a_study(vary=RANGE, search={"determinism": "strict", **fields})
