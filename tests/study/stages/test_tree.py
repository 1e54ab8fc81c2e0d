"""Plans as trees: what the thesis would have saved, and what holds for any plan."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.load import parse_study
from search_spaces.schedules import ConstantScale, LinearScale, QuadraticScale, ScaleSchedule, SwitchScale
from search_spaces.trial_config import TrialConfig
from study.stages.key import prefix_keys
from study.stages.tree import ANYWHERE, Stage, StageTree, stage_tree

TRIAL: dict[str, Any] = {
    "dataset": {"kind": "glyphs"},
    "split": {"train_classes": 20, "val_classes": 5, "test_classes": 5},
    "loss": {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": 20}},
    "epochs": 30,
}
BASE = parse_study({"trial": TRIAL}, "base", "base").trial


def a_trial(scale: ScaleSchedule, epochs: int) -> TrialConfig:
    return BASE.replace(epochs=epochs, loss=BASE.loss.replace(scale=scale))


def thesis(p: int) -> list[tuple[TrialConfig, int]]:
    """All runs of the thesis on one dataset, phases of `p` epochs, those that it trained twice named twice."""

    def linear(end: float, first_epoch: int = p) -> LinearScale:
        return LinearScale(start=20, end=end, first_epoch=first_epoch, epochs=p)

    constant = ConstantScale(value=20)
    experiment_1 = [a_trial(ConstantScale(value=s), 2 * p) for s in (1, 3, 6.5, 10, 15, 20, 30)]
    experiment_2 = [a_trial(constant, 2 * p), *(a_trial(linear(b), 2 * p) for b in (10, 5, 2.5))]
    switch = SwitchScale(before=20, after=5, switch_epoch=p)
    experiment_3 = [a_trial(linear(5), 3 * p), a_trial(switch, 3 * p)]
    section_5_1 = [a_trial(ConstantScale(value=6.5), p), a_trial(linear(5), 2 * p)]
    section_5_2 = [a_trial(linear(5, first_epoch=0), 2 * p), a_trial(linear(5), 2 * p)]
    section_5_3 = [a_trial(QuadraticScale(start=20, end=5, first_epoch=p, epochs=p), 3 * p)]
    runs = experiment_1 + experiment_2 + experiment_3 + section_5_1 + section_5_2 + section_5_3
    return [(trial, 0) for trial in runs]


@pytest.mark.parametrize("p", [3, 10, 50])
def test_the_thesis_asks_for_38p_epochs_and_needs_24p_minus_5(p: int) -> None:
    tree = stage_tree(thesis(p))
    assert (tree.trained, tree.asked) == (24 * p - 5, 38 * p)
    assert tree.critical_path == 3 * p


def test_seeds_share_nothing() -> None:
    runs = [(trial, seed) for seed in range(3) for trial, _ in thesis(10)]
    tree = stage_tree(runs)
    assert (tree.trained, tree.asked) == (3 * 235, 3 * 380)


def test_a_grid_of_constants_and_switches_trains_750_of_1350_epochs() -> None:
    befores, afters = (10, 15, 20, 30, 60), (2.5, 5, 6.5, 8)
    schedules: list[ScaleSchedule] = [ConstantScale(value=s) for s in befores]
    schedules += [
        SwitchScale(before=before, after=after, switch_epoch=epoch)
        for before, after, epoch in itertools.product(befores, afters, (10, 20))
    ]
    tree = stage_tree([(a_trial(schedule, 30), 0) for schedule in schedules])
    assert (tree.trained, tree.asked) == (750, 1350)
    assert tree.critical_path == 30


def test_the_stages_of_a_switch_and_its_constant() -> None:
    switch = SwitchScale(before=20, after=5, switch_epoch=3)
    tree = stage_tree([(a_trial(ConstantScale(value=20), 5), 0), (a_trial(switch, 6), 0)])
    trunk, on, off = Stage(1, 3, None, (0, 1)), Stage(4, 5, 0, (0,)), Stage(4, 6, 0, (1,))
    assert tree == StageTree((trunk, on, off), asked=11)
    assert [stage.epochs for stage in tree.stages] == [3, 2, 3]
    assert (tree.trained, tree.critical_path) == (8, 6)


def test_a_shorter_twin_ends_inside() -> None:
    tree = stage_tree([(a_trial(ConstantScale(value=20), epochs), 0) for epochs in (2, 5)])
    assert tree.stages == (Stage(1, 2, None, (0, 1)), Stage(3, 5, 0, (1,)))


def test_no_trials_make_no_tree() -> None:
    assert stage_tree([]) == StageTree((), 0)
    assert stage_tree([]).critical_path == 0


@st.composite
def plans(draw: st.DrawFn) -> list[tuple[TrialConfig, int]]:
    plan = []
    for _ in range(draw(st.integers(1, 6))):
        epochs = draw(st.integers(2, 6))
        scale = draw(st.sampled_from(["constant", "switch"]))
        s = draw(st.sampled_from([5.0, 20.0]))
        switch = SwitchScale(before=s, after=10.0, switch_epoch=draw(st.integers(1, epochs - 1)))
        schedule = ConstantScale(value=s) if scale == "constant" else switch
        plan.append((a_trial(schedule, epochs), draw(st.integers(0, 1))))
    return plan


@settings(deadline=None, derandomize=True, max_examples=80)
@given(plans())
def test_stages_are_the_distinct_epochs_of_a_plan_and_every_trial_is_one_way_down(
    plan: list[tuple[TrialConfig, int]],
) -> None:
    tree = stage_tree(plan)
    chains = [prefix_keys(trial, seed, ANYWHERE) for trial, seed in plan]
    assert tree.trained == len({key for chain in chains for key in chain[1:]})
    assert tree.asked == sum(trial.epochs for trial, _ in plan)
    assert tree.critical_path == max(trial.epochs for trial, _ in plan)
    for index, stage in enumerate(tree.stages):
        if stage.parent is None:
            assert stage.first == 1
        else:
            parent = tree.stages[stage.parent]
            assert stage.parent < index
            assert stage.first == parent.last + 1
            assert set(stage.trials) < set(parent.trials)
        for epoch in range(stage.first, stage.last + 1):
            keys = {chains[number][epoch] for number in stage.trials}
            assert len(keys) == 1
            assert sum(len(chain) > epoch and chain[epoch] in keys for chain in chains) == len(stage.trials)
    for number, (trial, _) in enumerate(plan):
        assert sum(stage.epochs for stage in tree.stages if number in stage.trials) == trial.epochs


@pytest.mark.slow
def test_ten_thousand_configurations_make_a_plan() -> None:
    vary = {
        "loss.scale.value": [1 + n / 4 for n in range(100)],
        "optimizer.lr": [1e-3 * 1.1**n for n in range(100)],
    }
    study = parse_study({"trial": {**TRIAL, "epochs": 40}, "vary": vary}, "large", "large")
    configurations = study.configurations()
    assert len({each.name for each in configurations}) == 10_000
    tree = stage_tree([(each.trial, 0) for each in configurations])
    assert tree.trained == tree.asked == 400_000
