"""Ranges of a study file as Optuna's distributions, and what Optuna drew as values by dotted path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import JsonValue

from search_spaces.ranges import Choice, FloatRange, IntRange, as_range
from search_spaces.study_config import StudyConfig, Values

Params = dict[str, Any]
SEED, CASE = "seed", "case"
_ANY_SEED = IntDistribution(0, 2**31 - 1)


class Draw(Protocol):
    """Draws one parameter: Optuna's trial, or a record of what was drawn."""

    def __call__(self, name: str, distribution: BaseDistribution) -> Any: ...


def values_of(study_config: StudyConfig, draw: Draw) -> Values:
    """The values by dotted path that `draw` gives: ranges drawn, mappings with all their inner ranges drawn."""
    return {path: _drawn(path, span, draw) for path, span in study_config.vary.items()}


def _drawn(name: str, span: FloatRange | IntRange | Choice, draw: Draw) -> JsonValue:
    match span:
        case FloatRange():
            return float(draw(name, FloatDistribution(span.low, span.high, log=span.log, step=span.step)))
        case IntRange():
            return int(draw(name, IntDistribution(span.low, span.high, log=span.log, step=span.step)))
        case Choice():
            label = draw(name, CategoricalDistribution(span.labels))
            option = span.options[_position(span.labels, label)]
            return _filled(f"{name}.{label}" if isinstance(option, dict) else name, option, draw)


def _position(labels: tuple[Any, ...], label: object) -> int:
    for position, known in enumerate(labels):
        if known == label and type(known) is type(label):
            return position
    return labels.index(label)


def _filled(name: str, value: JsonValue, draw: Draw) -> JsonValue:
    span = as_range(value)
    if span is not None:
        return _drawn(name, span, draw)
    if isinstance(value, dict):
        return {key: _filled(f"{name}.{key}", item, draw) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(f"{name}.{index}", item, draw) for index, item in enumerate(value)]
    return value


def optuna_draw(trial: optuna.Trial) -> Draw:
    """Draws from an Optuna trial in progress."""

    def draw(name: str, distribution: BaseDistribution) -> Any:
        match distribution:
            case FloatDistribution():
                return trial.suggest_float(
                    name, distribution.low, distribution.high, log=distribution.log, step=distribution.step
                )
            case IntDistribution():
                return trial.suggest_int(
                    name, distribution.low, distribution.high, log=distribution.log, step=distribution.step
                )
            case CategoricalDistribution():
                return trial.suggest_categorical(name, distribution.choices)
        raise AssertionError(f"a distribution that _drawn never makes: {distribution}")

    return draw


def distributions(study_config: StudyConfig, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
    """The distributions of `params`, which a trial of this study drew or a fixed plan listed."""
    found: dict[str, BaseDistribution] = {}

    def draw(name: str, distribution: BaseDistribution) -> Any:
        found[name] = distribution
        return params[name]

    if all(path in params for path in study_config.vary):
        values_of(study_config, draw)
    if SEED in params:
        found[SEED] = _ANY_SEED
    if CASE in params:
        names = [case.name for case in study_config.cases]
        if study_config.confirm is not None:
            names += [case.name for case in study_config.confirm.baselines]
        found[CASE] = CategoricalDistribution([*names, *([] if params[CASE] in names else [params[CASE]])])
    return {name: found[name] for name in params if name in found}


def point_params(study_config: StudyConfig, point: Values) -> Params:
    """A point of `search.start_from` or of a grid in Optuna's terms: choices by their labels."""
    params: Params = {}
    for path, value in point.items():
        span = study_config.vary[path]
        place = span.index_of(value) if isinstance(span, Choice) else None
        params[path] = value if place is None or not isinstance(span, Choice) else span.labels[place]
    return params
