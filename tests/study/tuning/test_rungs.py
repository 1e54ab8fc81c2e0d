"""ASHA's rungs: stopping against Ray Tune's own, promotion against the paper's Algorithm 2 as slow loops."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from search_spaces.study_config import Asha
from study.tuning.rungs import Rungs, Verdict

SEEDS = range(25)


def some_rungs(mode: str = "stop", *, epochs: int = 9, grace: int = 1, factor: int = 3) -> Rungs:
    return Rungs(Asha(grace_epochs=grace, factor=factor, mode=mode), epochs)  # type: ignore[arg-type]


def a_value(rng: random.Random, *, ties: bool) -> float:
    return rng.randrange(4) / 4 if ties else rng.random()


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "milestones"),
    [
        (1, 3, 9, (1, 3)),
        (1, 3, 10, (1, 3, 9)),
        (2, 2, 17, (2, 4, 8, 16)),
        (1, 3, 243, (1, 3, 9, 27, 81)),
        (5, 4, 6, (5,)),
        (5, 4, 5, ()),
    ],
)
def test_rungs_stand_below_the_last_epoch(grace: int, factor: int, epochs: int, milestones: tuple[int, ...]) -> None:
    rungs = some_rungs(epochs=epochs, grace=grace, factor=factor)
    assert rungs.milestones == milestones
    assert all(rungs.judge("a", n, 0.5) is None for n in range(1, epochs + 1) if n not in milestones)


def test_the_first_at_a_rung_goes_on_and_a_tie_survives() -> None:
    rungs = some_rungs()
    assert rungs.judge("a", 1, 0.4) == Verdict("continue", None)
    assert rungs.judge("b", 1, 0.4) == Verdict("continue", 0.4)
    assert rungs.judge("c", 1, 0.39) == Verdict("stop", 0.4)
    assert rungs.at(1) == {"a": 0.4, "b": 0.4, "c": 0.39}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("grace", "factor", "epochs"), [(1, 3, 10), (1, 2, 17), (2, 3, 9), (1, 4, 16), (3, 2, 7)])
def test_stopping_decides_as_ray_tune_does(grace: int, factor: int, epochs: int, ties: bool) -> None:
    stopped = 0
    for seed in SEEDS:
        rng = random.Random(seed)
        ray = AsyncHyperBandScheduler(
            time_attr="epochs_done",
            metric="value",
            mode="max",
            max_t=epochs,
            grace_period=grace,
            reduction_factor=factor,
        )
        rungs = some_rungs(epochs=epochs, grace=grace, factor=factor)
        trials = [SimpleNamespace(trial_id=f"t{number}") for number in range(12)]
        for trial in trials:
            ray.on_trial_add(None, trial)
        done = {trial.trial_id: 0 for trial in trials}
        while done:
            trial = rng.choice([trial for trial in trials if trial.trial_id in done])
            name = trial.trial_id
            done[name] += 1
            value = a_value(rng, ties=ties)
            result = {"epochs_done": done[name], "value": value}
            ray_says = ray.on_trial_result(None, trial, result)
            verdict = rungs.judge(f"{name} {done[name]}", done[name], value)
            if done[name] == epochs:
                # Ray stops every trial at its last epoch, without a look at the others; here a trial just ends.
                assert (ray_says, verdict) == (TrialScheduler.STOP, None)
            else:
                assert (ray_says == TrialScheduler.STOP) == (verdict is not None and verdict.decision == "stop")
            if ray_says == TrialScheduler.STOP:
                stopped += done[name] < epochs
                ray.on_trial_complete(None, trial, result)
                del done[name]
    assert stopped > len(SEEDS)


def test_ray_has_a_rung_at_the_last_epoch_and_it_stops_nobody_early() -> None:
    ray = AsyncHyperBandScheduler(
        time_attr="epochs_done", metric="value", mode="max", max_t=9, grace_period=1, reduction_factor=3
    )
    trials = [SimpleNamespace(trial_id=name) for name in "ab"]
    for trial, value in zip(trials, (0.9, 0.1), strict=True):
        ray.on_trial_add(None, trial)
        assert ray.on_trial_result(None, trial, {"epochs_done": 9, "value": value}) == TrialScheduler.STOP
    assert [milestone for milestone, _ in ray._brackets[0]._rungs] == [9, 3, 1]
    assert some_rungs().milestones == (1, 3)


@dataclass
class SlowPromotion:
    """Li et al. 2020, Algorithm 2, get_job, as it is printed: rungs from the top, the best 1/eta not yet promoted."""

    milestones: tuple[int, ...]
    factor: int
    results: dict[int, list[tuple[str, float]]] = field(default_factory=dict)
    promoted: dict[int, list[str]] = field(default_factory=dict)

    def arrived(self, name: str, milestone: int, value: float) -> None:
        self.results.setdefault(milestone, []).append((name, value))

    def get_job(self) -> tuple[int, str] | None:
        for milestone in sorted(self.milestones, reverse=True):
            rung = self.results.get(milestone, [])
            left = list(rung)
            for _ in range(len(rung) // self.factor):
                best = left[0]
                for entry in left:
                    if entry[1] > best[1]:
                        best = entry
                left.remove(best)
                if best[0] not in self.promoted.setdefault(milestone, []):
                    self.promoted[milestone].append(best[0])
                    return milestone, best[0]
        return None


@dataclass
class Workers:
    """Workers that train trials from rung to rung; a free one takes what `job` gives, else a new trial."""

    rng: random.Random
    milestones: tuple[int, ...]
    trials: int
    ties: bool
    busy: list[tuple[str, int]] = field(default_factory=list)
    made: int = 0

    def take(self, job: tuple[int, str] | None) -> bool:
        if job is not None:
            at = self.milestones.index(job[0]) + 1
            if at < len(self.milestones):
                self.busy.append((job[1], self.milestones[at]))
            return True
        if self.made < self.trials:
            self.busy.append((f"t{self.made}", self.milestones[0]))
            self.made += 1
            return True
        return False

    def arrival(self) -> tuple[str, int, float]:
        name, milestone = self.busy.pop(self.rng.randrange(len(self.busy)))
        return name, milestone, a_value(self.rng, ties=self.ties)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(("grace", "factor", "epochs"), [(1, 3, 28), (2, 2, 17), (1, 4, 5)])
def test_promotion_gives_the_jobs_of_algorithm_2(grace: int, factor: int, epochs: int, slots: int, ties: bool) -> None:
    promotions = 0
    for seed in SEEDS:
        rungs = some_rungs("promote", epochs=epochs, grace=grace, factor=factor)
        slow = SlowPromotion(rungs.milestones, factor)
        workers = Workers(random.Random(seed), rungs.milestones, 20, ties)
        while True:
            while len(workers.busy) < slots:
                job = rungs.promote()
                assert job == slow.get_job()
                if not workers.take(job):
                    break
            if not workers.busy:
                break
            name, milestone, value = workers.arrival()
            slow.arrived(name, milestone, value)
            verdict = rungs.judge(name, milestone, value)
            assert verdict is not None
            if verdict.decision == "continue":
                assert slow.get_job() == (milestone, name)
                workers.take((milestone, name))
                promotions += 1
            else:
                assert verdict.decision == "pause"
        for milestone in rungs.milestones:
            assert rungs.at(milestone) == dict(slow.results.get(milestone, []))
    assert promotions > len(SEEDS)


def test_a_paused_state_goes_on_once_when_its_turn_comes() -> None:
    rungs = some_rungs("promote", factor=2)
    assert rungs.judge("good", 1, 0.9) == Verdict("pause", None)
    assert rungs.promote() is None
    assert rungs.judge("bad", 1, 0.1) == Verdict("pause", 0.9)
    assert rungs.promote() == (1, "good")
    assert rungs.promote() is None
    assert rungs.judge("good", 1, 0.9) == Verdict("continue", None), "met again by a trial that inherits it"


@pytest.mark.parametrize("mode", ["stop", "promote"])
def test_a_state_that_trials_share_counts_once_and_gets_one_verdict(mode: str) -> None:
    rungs, alone = some_rungs(mode), some_rungs(mode)
    for key, value in (("a", 0.5), ("trunk", 0.3), ("b", 0.4), ("c", 0.6)):
        first = alone.judge(key, 1, value)
        again = [rungs.judge(key, 1, value) for _ in range(5 if key == "trunk" else 1)]
        assert again == [first] * len(again)
    assert rungs.at(1) == alone.at(1) == {"a": 0.5, "trunk": 0.3, "b": 0.4, "c": 0.6}


@pytest.mark.parametrize("mode", ["stop", "promote"])
def test_restored_rungs_decide_as_unbroken_ones(mode: str) -> None:
    for seed in SEEDS:
        rng = random.Random(seed)
        unbroken, record = some_rungs(mode, epochs=10), []
        cut = rng.randrange(1, 40)
        restored = some_rungs(mode, epochs=10)
        for step in range(60):
            if step == cut:
                for key, milestone, value, verdict in record:
                    restored.restore(key, milestone, value, verdict)
            key, milestone, value = f"{rng.randrange(30)}", rng.choice((1, 3, 9)), rng.randrange(8) / 8
            verdict = unbroken.judge(key, milestone, value)
            assert verdict is not None
            turn = unbroken.promote() if mode == "promote" else None
            if step < cut:
                if not any(entry[:2] == (key, milestone) for entry in record):
                    record.append((key, milestone, value, verdict))
                if turn is not None:
                    held = unbroken.at(turn[0])[turn[1]]
                    record.append((turn[1], turn[0], held, Verdict("continue", None)))
            else:
                found = restored.judge(key, milestone, value)
                assert found is not None
                assert found.decision == verdict.decision
                assert mode == "stop" or restored.promote() == turn
        assert all(restored.at(milestone) == unbroken.at(milestone) for milestone in (1, 3, 9))


def test_what_went_on_is_not_paused_again_by_a_twin_that_had_not_yet_heard() -> None:
    """Two trials share the paused state; the driver died between telling the first and the second to go on."""
    rungs = some_rungs("promote", factor=2)
    rungs.restore("shared", 1, 0.9, Verdict("pause", None))
    rungs.restore("shared", 1, 0.9, Verdict("continue", None))
    rungs.restore("shared", 1, 0.9, Verdict("pause", None))
    rungs.restore("other", 1, 0.1, Verdict("pause", 0.9))
    assert rungs.judge("shared", 1, 0.9) == Verdict("continue", None)
    assert rungs.promote() is None


def test_a_record_where_no_rung_stands_is_no_matter() -> None:
    rungs = some_rungs()
    rungs.restore("a", 2, 0.5, Verdict("stop", 0.6))
    assert [rungs.at(milestone) for milestone in rungs.milestones] == [{}, {}]
