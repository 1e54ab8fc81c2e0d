"""Ranges as Optuna draws them, and what was drawn as a trial's values."""

from __future__ import annotations

import json
import warnings
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.study_config import StudyConfig
from study.tuning.space import CASE, SEED, distributions, optuna_draw, point_params, values_of

from .simulated import a_study

NESTED = {
    "loss": [
        {
            "kind": "circle",
            "level": {"kind": "choice", "options": ["class", "pair"]},
            "m": {"kind": "float", "low": 0.1, "high": 0.5, "step": 0.1},
            "gamma": 64,
        },
        {
            "kind": "normalized_softmax",
            "scale": {
                "kind": "choice",
                "options": [
                    {"kind": "constant", "value": {"kind": "float", "low": 1, "high": 64, "log": True}},
                    {"kind": "switch", "before": 20, "after": 5, "switch_epoch": {"kind": "int", "low": 1, "high": 7}},
                ],
            },
        },
        {"kind": "softmax"},
    ],
    "optimizer.lr_schedule.milestones": [[], [3], [3, 6]],
    "batches.size": {"kind": "int", "low": 16, "high": 40, "step": 8},
    "optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
}
SPACES: dict[str, dict[str, Any]] = {
    "nested": NESTED,
    "two of one kind": {
        "loss": [{"kind": "circle", "m": {"kind": "float", "low": 0, "high": 0.5}}, {"kind": "circle"}]
    },
    "mixed": {
        "batches.images_per_class": [None, 4],
        "measure.diagnostics": [True, False],
        "loss.scale.value": [1, 2.5],
    },
}


def a_search(vary: dict[str, Any], **search: Any) -> StudyConfig:
    return a_study(vary=vary, search={"sampler": {"kind": "random"}, "max_trials": 3, **search})


def draws(study: StudyConfig, count: int = 60) -> list[tuple[optuna.Trial, dict[str, Any]]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna_study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with warnings.catch_warnings():
        # Optuna asks that choices be plain; ours are: labels, never the mappings themselves.
        warnings.simplefilter("error")
        found = []
        for _ in range(count):
            trial = optuna_study.ask()
            found.append((trial, values_of(study, optuna_draw(trial))))
    return found


@pytest.mark.parametrize("vary", SPACES.values(), ids=SPACES)
def test_what_is_drawn_is_a_trial_and_its_parameters_say_all_of_it(vary: dict[str, Any]) -> None:
    study = a_search(vary)
    seen: set[str] = set()
    for trial, values in draws(study):
        assert study.trial_with(values)
        assert list(values) == list(study.vary)
        params = trial.params
        assert values_of(study, lambda name, distribution, params=params: params[name]) == values
        seen.add(json.dumps(values, sort_keys=True))
    assert len(seen) >= (6 if vary is SPACES["mixed"] else 20)


@pytest.mark.parametrize("vary", SPACES.values(), ids=SPACES)
def test_the_distributions_of_what_was_drawn_are_those_it_was_drawn_from(vary: dict[str, Any]) -> None:
    study = a_search(vary)
    for trial, _ in draws(study):
        assert distributions(study, trial.params) == trial.distributions
        confirmed = distributions(study, {**trial.params, SEED: 7})
        assert confirmed == {**trial.distributions, SEED: IntDistribution(0, 2**31 - 1)}
        # as Optuna's storages check it
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params={**trial.params, SEED: 2**31 - 1},
            distributions=confirmed,
        )


def test_names_tell_which_option_a_range_belongs_to() -> None:
    names = {name for trial, _ in draws(a_search(NESTED)) for name in trial.params}
    assert names == {
        "loss",
        "loss.circle.level",
        "loss.circle.m",
        "loss.normalized_softmax.scale",
        "loss.normalized_softmax.scale.constant.value",
        "loss.normalized_softmax.scale.switch.switch_epoch",
        "optimizer.lr_schedule.milestones",
        "batches.size",
        "optimizer.lr",
    }


def test_a_range_is_drawn_only_where_its_option_is_chosen() -> None:
    kinds = set()
    for trial, values in draws(a_search(NESTED)):
        loss = values["loss"]
        assert isinstance(loss, dict)
        kinds.add(loss["kind"])
        assert trial.params["loss"] == loss["kind"]
        assert ("loss.circle.m" in trial.params) == (loss["kind"] == "circle")
        assert ("loss.normalized_softmax.scale" in trial.params) == (loss["kind"] == "normalized_softmax")
    assert kinds == {"circle", "normalized_softmax", "softmax"}


@pytest.mark.parametrize(
    ("span", "distribution"),
    [
        ({"kind": "float", "low": 1, "high": 64, "log": True}, FloatDistribution(1, 64, log=True)),
        ({"kind": "float", "low": 0.5, "high": 2, "step": 0.25}, FloatDistribution(0.5, 2, step=0.25)),
        ([1, 2.5], CategoricalDistribution((1, 2.5))),
        ({"kind": "choice", "options": [3]}, CategoricalDistribution((3,))),
    ],
)
def test_a_range_is_optunas(span: Any, distribution: BaseDistribution) -> None:
    study = a_search({"loss.scale.value": span})
    trial, values = draws(study, 1)[0]
    assert trial.distributions == {"loss.scale.value": distribution}
    assert values == trial.params


def test_whole_numbers_stay_whole() -> None:
    study = a_search({"batches.size": {"kind": "int", "low": 8, "high": 64, "log": True}, "epochs": [9, 10]})
    for trial, values in draws(study, 20):
        assert trial.distributions["batches.size"] == IntDistribution(8, 64, log=True)
        assert all(type(value) is int for value in values.values())


def test_a_starting_point_names_an_option_by_itself_or_by_its_label() -> None:
    study = a_search(NESTED)
    assert point_params(study, {"loss": "circle", "batches.size": 24}) == {"loss": "circle", "batches.size": 24}
    assert point_params(study, {"loss": {"kind": "softmax"}}) == {"loss": "softmax"}
    assert point_params(study, {"optimizer.lr_schedule.milestones": [3, 6]}) == {
        "optimizer.lr_schedule.milestones": "[3,6]"
    }


def test_true_is_not_one() -> None:
    study = a_search({"measure.diagnostics": [False, True]})
    assert point_params(study, {"measure.diagnostics": True}) == {"measure.diagnostics": True}
    found = values_of(study, lambda name, distribution: True)
    assert found == {"measure.diagnostics": True}
    assert type(found["measure.diagnostics"]) is bool


def test_the_distributions_of_a_plan_are_its_lists_its_cases_and_seeds() -> None:
    study = a_study(vary={"loss.scale.value": [1, 3]}, cases=[{"name": "a"}, {"name": "b", "epochs": 5}])
    params = {"loss.scale.value": 3, CASE: "b", SEED: 4}
    assert distributions(study, params) == {
        "loss.scale.value": CategoricalDistribution((1, 3)),
        CASE: CategoricalDistribution(("a", "b")),
        SEED: IntDistribution(0, 2**31 - 1),
    }


def test_a_baseline_has_no_varied_parameters() -> None:
    study = a_study(
        vary={"loss.scale.value": {"kind": "float", "low": 1, "high": 2}},
        search={"max_trials": 3},
        confirm={"seeds": [1], "baselines": [{"name": "constant 20"}]},
    )
    assert distributions(study, {CASE: "constant 20", SEED: 1}) == {
        CASE: CategoricalDistribution(("constant 20",)),
        SEED: IntDistribution(0, 2**31 - 1),
    }
