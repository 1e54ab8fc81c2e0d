"""The study's loop on made-up learning curves."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from search_spaces.study_config import StudyConfig
from study.ledger.read import StudyRecord
from study.records import Phase, Status
from study.tuning.inherited import Source
from study.tuning.job import Job

from .simulated import TRIAL, Killed, World, a_study

SCALES = {"loss.scale.value": [1, 3, 10, 30]}
RANGE = {"loss.scale.value": {"kind": "float", "low": 1, "high": 64, "log": True}}
CONDITIONAL = {
    "optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "loss": [
        {"kind": "circle", "level": "class", "m": {"kind": "float", "low": 0.1, "high": 0.5}, "gamma": 64},
        {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": {"kind": "float", "low": 1, "high": 64}}},
        {"kind": "center", "lambda": 0.01},
    ],
}
SAMPLERS = ("random", "tpe", "qmc", "gp", "cmaes")


def a_search(sampler: str = "random", *, vary: dict[str, Any] = RANGE, asha: str = "", **search: Any) -> StudyConfig:
    scheduler = {"kind": "asha", "grace_epochs": 1, "factor": 3, "mode": asha} if asha else {"kind": "none"}
    fields = {"sampler": {"kind": sampler}, "scheduler": scheduler, "max_trials": 12, **search}
    return a_study(vary=vary, search=fields)


def outcomes(record: StudyRecord) -> dict[str, Any]:
    """What a study came to, without clock and attempts."""
    return {
        f"{trial.trial.configuration} seed {trial.trial.seed}": (
            trial.status,
            trial.end and (trial.end.value, trial.end.value_last_5, trial.end.reason),
            [(n, event.result.metrics) for n, event in sorted(trial.epochs.items())],
        )
        for trial in record.trials.values()
    }


def test_a_grid_trains_every_configuration_on_every_seed(tmp_path: Path) -> None:
    record = World(tmp_path).run(a_study(vary=SCALES, seeds=[0, 1]))
    assert [trial.trial.seed for trial in record.trials.values()] == [0] * 4 + [1] * 4
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}
    assert record.finished
    last = record.trials[0].epochs[9].result.metrics["val_recall_at_1"]
    assert record.trials[0].end is not None
    assert record.trials[0].end.value == last


def test_configurations_that_begin_alike_train_those_epochs_once(tmp_path: Path) -> None:
    switch = {"kind": "switch", "before": 20, "after": 5}
    cases = [
        {"name": "constant 20"},
        {"name": "constant 5", "loss.scale": {"kind": "constant", "value": 5}},
        *({"name": f"switch at {n}", "loss.scale": {**switch, "switch_epoch": n}} for n in (3, 6)),
    ]
    world = World(tmp_path)
    record = world.run(a_study(cases=cases), slots=3)
    assert len(world.store.trained) == len(set(world.store.trained)) == 9 + 9 + 6 + 3
    assert [trial.starts[0].from_epochs for trial in record.trials.values()] == [0, 0, 3, 6]
    assert record.trials[2].starts[0].from_trial == 0
    inherited = [event.result.inherited for _, event in sorted(record.trials[2].epochs.items())]
    assert inherited == [True] * 3 + [False] * 6
    assert world.store.standing == set(), "what nobody needs any more is freed"


@pytest.mark.parametrize("slots", [1, 2, 4])
@pytest.mark.parametrize("p", [3, 10])
def test_the_thesis_programme_trains_24p_minus_5_of_38p_epochs(tmp_path: Path, p: int, slots: int) -> None:
    ramp = {"start": 20, "first_epoch": p, "epochs": p}

    def case(name: str, length: int, scale: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "epochs": length, "loss.scale": scale}

    cases = [
        *(case(f"constant {s}", 2 * p, {"kind": "constant", "value": s}) for s in (1, 3, 6.5, 10, 15, 20, 30)),
        *(case(f"linear to {b}", 2 * p, {"kind": "linear", "end": b, **ramp}) for b in (10, 5, 2.5)),
        case("linear to 5, held", 3 * p, {"kind": "linear", "end": 5, **ramp}),
        case("switch to 5", 3 * p, {"kind": "switch", "before": 20, "after": 5, "switch_epoch": p}),
        case("constant 6.5, one phase", p, {"kind": "constant", "value": 6.5}),
        case("linear from start", 2 * p, {"kind": "linear", "start": 20, "end": 5, "first_epoch": 0, "epochs": p}),
        case("quadratic to 5", 3 * p, {"kind": "quadratic", "end": 5, **ramp}),
    ]
    # The thesis trained three of these anew: constant 20 for experiment 2, linear to 5 for sections 5.1 and 5.2.
    assert sum(each["epochs"] for each in cases) + 3 * 2 * p == 38 * p
    world = World(tmp_path)
    record = world.run(a_study(cases=cases), slots=slots, order=random.Random(0))
    assert len(world.store.trained) == len(set(world.store.trained)) == 24 * p - 5
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}
    assert all(sorted(trial.epochs) == list(range(1, trial.config.epochs + 1)) for trial in record.trials.values())


@pytest.mark.parametrize("asha", ["", "stop", "promote"])
@pytest.mark.parametrize("vary", [RANGE, CONDITIONAL], ids=["flat", "conditional"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_keeps_its_budget_and_proposes_the_same_again(
    tmp_path: Path, sampler: str, vary: dict[str, Any], asha: str
) -> None:
    study = a_search(sampler, vary=vary, asha=asha)
    first = World(tmp_path / "a").run(study, slots=1)
    again = World(tmp_path / "b").run(study, slots=1)
    assert outcomes(first) == outcomes(again)
    assert len(first.trials) == 12
    states = Counter(trial.status for trial in first.trials.values())
    assert states[Status.COMPLETE] + states[Status.PRUNED] == 12
    assert (states[Status.PRUNED] > 0) == bool(asha)
    assert len({str(trial.trial.params) for trial in first.trials.values()}) >= 8


def test_a_grid_sampler_ends_when_every_point_was_tried(tmp_path: Path) -> None:
    study = a_search("grid", vary=SCALES, max_trials=50)
    record = World(tmp_path).run(study)
    assert [trial.trial.values["loss.scale.value"] for trial in record.trials.values()] == [1, 3, 10, 30]


def test_a_search_starts_from_the_points_of_the_file(tmp_path: Path) -> None:
    study = a_search(start_from=[{"loss.scale.value": 6.5}, {"loss.scale.value": 20}])
    record = World(tmp_path).run(study)
    assert [record.trials[n].trial.values["loss.scale.value"] for n in (0, 1)] == [6.5, 20]


def test_proposals_of_a_round_do_not_hear_of_each_other(tmp_path: Path) -> None:
    record = World(tmp_path).run(a_search(round_size=4), slots=2)
    for number, trial in record.trials.items():
        earlier = [record.trials[n] for n in range(number - number % 4)]
        assert all(other.end is not None and other.end.at < trial.trial.at for other in earlier)


def test_test_classes_are_measured_only_in_the_confirm_phase(tmp_path: Path) -> None:
    study = a_study(
        vary=RANGE,
        search={"sampler": {"kind": "random"}, "max_trials": 5},
        confirm={"best": 2, "seeds": [101, 102], "baselines": [{"name": "constant 20"}]},
    )
    record = World(tmp_path).run(study)
    search = [trial for trial in record.trials.values() if trial.trial.phase is Phase.SEARCH]
    confirm = [trial for trial in record.trials.values() if trial.trial.phase is Phase.CONFIRM]
    assert len(search) == 5
    assert [trial.trial.seed for trial in confirm] == [101] * 3 + [102] * 3
    assert all("test_recall_at_1" not in event.result.metrics for trial in search for event in trial.epochs.values())
    assert all("test_recall_at_1" in event.result.metrics for trial in confirm for event in trial.epochs.values())
    best = sorted(search, key=lambda trial: -(trial.end.value or 0) if trial.end else 0)[:2]
    names = [trial.trial.configuration for trial in confirm[:3]]
    assert names == ["constant 20"] + [
        f"best {rank}: {trial.trial.configuration.split(': ')[1]}" for rank, trial in enumerate(best, start=1)
    ]
    assert [trial.trial.baseline for trial in confirm[:3]] == [True, False, False]


def test_a_diverged_trial_ends_at_once_and_the_study_goes_on(tmp_path: Path) -> None:
    record = World(tmp_path).run(
        a_study(vary=SCALES), fate=lambda job, epochs: "diverge" if job.number == 1 and epochs == 4 else ""
    )
    assert [trial.status.value for trial in record.trials.values()] == ["complete", "diverged", "complete", "complete"]
    assert record.trials[1].end is not None
    assert record.trials[1].end.reason == "the loss is nan"
    assert record.trials[1].end.epochs_done == 4


def test_a_crashed_trial_goes_on_from_its_last_state_and_fails_the_third_time(tmp_path: Path) -> None:
    crashes = {(1, 4, 1), (2, 0, 1), (2, 0, 2), (2, 0, 3)}
    world = World(tmp_path)
    record = world.run(
        a_study(vary=SCALES),
        fate=lambda job, epochs: "crash" if (job.number, epochs, job.attempt) in crashes else "",
    )
    assert [trial.status.value for trial in record.trials.values()] == ["complete", "complete", "failed", "complete"]
    assert [start.from_epochs for start in record.trials[1].starts] == [0, 4]
    assert len(world.store.trained) == len(set(world.store.trained))
    assert record.trials[2].end is not None
    assert record.trials[2].end.reason == "its process died (3 attempts)"


def test_a_damaged_state_costs_its_stage_and_not_the_trial(tmp_path: Path) -> None:
    world = World(tmp_path)
    damaged: list[str] = []

    def fate(job: Job, epochs: int) -> str:
        if (job.number, epochs, job.attempt) == (1, 4, 1):
            return "crash"
        if job.number == 1 and job.attempt == 2 and not damaged:
            damaged.append(job.keys[job.start])
            return f"damaged {job.keys[job.start]}"
        return ""

    record = world.run(a_study(vary=SCALES), fate=fate, slots=1)
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}
    assert [start.from_epochs for start in record.trials[1].starts] == [0, 4, 0]
    clean = World(tmp_path / "clean").run(a_study(vary=SCALES), slots=1)
    assert outcomes(record) == outcomes(clean)


def test_a_search_gives_up_after_too_many_failures(tmp_path: Path) -> None:
    record = World(tmp_path).run(a_search(max_failures=3), fate=lambda job, epochs: "diverge", slots=1)
    assert len(record.trials) == 4


def test_a_search_ends_when_its_hours_are_spent(tmp_path: Path) -> None:
    record = World(tmp_path).run(a_search(max_hours=100 / 3600, max_trials=1000), slots=1)
    assert 1 < len(record.trials) < 20
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}


def test_an_invalid_proposal_is_a_failed_trial_with_its_reason(tmp_path: Path) -> None:
    vary = {
        "loss.scale": [
            {"kind": "switch", "before": 20, "after": 5, "switch_epoch": {"kind": "int", "low": 5, "high": 15}}
        ]
    }
    record = World(tmp_path).run(a_search(vary=vary, max_trials=8))
    failed = [trial for trial in record.trials.values() if trial.status is Status.FAILED]
    assert failed
    assert all(
        trial.end and trial.end.reason.startswith("not a valid trial: loss.scale.switch_epoch") for trial in failed
    )


@pytest.mark.parametrize("kill_after", range(0, 40, 3))
@pytest.mark.parametrize("kind", ["grid", "search", "promote"])
def test_a_killed_study_resumes_to_the_same_end(tmp_path: Path, kind: str, kill_after: int) -> None:
    study = {
        "grid": a_study(vary=SCALES),
        "search": a_search("tpe", asha="stop"),
        "promote": a_search("qmc", asha="promote"),
    }[kind]
    whole = World(tmp_path / "whole").run(study, slots=1)
    world = World(tmp_path / "killed")
    with contextlib.suppress(Killed):
        world.run(study, slots=1, kill_after=kill_after)
    record = world.run(study, slots=1)
    assert outcomes(record) == outcomes(whole)
    assert len(world.store.trained) == len(set(world.store.trained))


def test_promotion_goes_on_from_a_rung_that_all_trials_share(tmp_path: Path) -> None:
    vary = {
        "loss.scale": [
            {"kind": "switch", "before": 20, "after": {"kind": "float", "low": 1, "high": 10}, "switch_epoch": 4}
        ]
    }
    world = World(tmp_path)
    record = world.run(a_search("random", vary=vary, asha="promote", max_trials=6))
    states = Counter(trial.status for trial in record.trials.values())
    assert states[Status.COMPLETE] >= 1
    assert states[Status.COMPLETE] + states[Status.PRUNED] == 6
    assert len(world.store.trained) == len(set(world.store.trained))


def test_a_trial_at_its_own_last_epoch_is_complete_even_where_a_rung_stands(tmp_path: Path) -> None:
    vary = {**RANGE, "epochs": [3, 9]}
    record = World(tmp_path).run(a_search("random", vary=vary, asha="stop", max_trials=12))
    short = [trial for trial in record.trials.values() if trial.config.epochs == 3]
    assert any(trial.status is Status.COMPLETE and trial.epochs_done == 3 for trial in short)
    assert all(trial.status is Status.COMPLETE for trial in short if trial.epochs_done == 3)


def test_proposals_that_begin_alike_branch_from_what_stands(tmp_path: Path) -> None:
    vary = {
        "loss.scale": [
            {"kind": "switch", "before": 20, "after": 5, "switch_epoch": {"kind": "int", "low": 1, "high": 8}}
        ]
    }
    world = World(tmp_path)
    record = world.run(a_search("random", vary=vary, max_trials=12), slots=1)
    inherited = sum(event.result.inherited for trial in record.trials.values() for event in trial.epochs.values())
    assert inherited > 0
    assert len(world.store.trained) == 12 * 9 - inherited
    assert world.store.largest <= 20


def test_confirmed_winners_keep_their_weights(tmp_path: Path) -> None:
    study = a_study(
        vary=RANGE,
        search={"sampler": {"kind": "random"}, "max_trials": 4},
        confirm={"best": 1, "seeds": [101, 102], "baselines": [{"name": "constant 20"}]},
    )
    world = World(tmp_path)
    record = world.run(study)
    winners = [t.number for t in record.trials.values() if t.trial.phase is Phase.CONFIRM and not t.trial.baseline]
    assert world.store.weights == set(winners)
    assert len(winners) == 2


def test_a_study_starts_from_the_states_that_an_earlier_one_kept(tmp_path: Path) -> None:
    first = World(tmp_path / "exp1")
    earlier = first.run(a_study(vary=SCALES, keep_epochs=[4]))
    assert len(first.store.standing) == 4
    second = World(tmp_path / "exp2", foreign=frozenset(first.store.standing))
    source = Source("exp1", first.folder, tmp_path / "stages", earlier, second.foreign)
    scale = {"kind": "switch", "before": 10, "after": 5, "switch_epoch": 4}
    cases = [{"name": "switch", "loss.scale": scale}, {"name": "constant 2", "loss.scale.value": 2}]
    record = second.run(a_study(cases=cases, inherit_from=["exp1"]), sources=[source])
    start = record.trials[0].starts[0]
    assert (start.from_epochs, start.from_study, start.from_trial) == (4, "exp1", 2)
    assert [event.result.inherited for _, event in sorted(record.trials[0].epochs.items())] == [True] * 4 + [False] * 5
    assert record.trials[0].epochs[4].result.metrics == earlier.trials[2].epochs[4].result.metrics
    assert record.trials[1].starts[0].from_epochs == 0
    assert first.store.standing == second.foreign, "an earlier study's states are never freed"


def test_the_store_stays_small(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run(a_study(vary=SCALES, seeds=list(range(8))), slots=2)
    assert world.store.largest <= 2 * 2
    assert TRIAL["epochs"] == 9
