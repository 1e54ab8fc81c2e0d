"""Study files as values."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces.load import ConfigError, parse_study
from search_spaces.study_config import StudyConfig

TRIAL: dict[str, Any] = {
    "dataset": {"kind": "glyphs"},
    "split": {"train_classes": 10, "val_classes": 5, "test_classes": 5},
    "loss": {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": 20}},
    "epochs": 4,
}
VARY = [
    {"loss.scale.value": [1, 3.5]},
    {"loss.scale.value": {"kind": "choice", "options": [1, 3.5]}},
    {"loss": [{"kind": "softmax"}, {"kind": "center", "lambda": 0.1}]},
]


@pytest.mark.parametrize("vary", VARY)
def test_a_study_survives_json(vary: dict[str, Any]) -> None:
    study = parse_study({"trial": TRIAL, "vary": vary}, "a", "a")
    assert StudyConfig.model_validate_json(study.model_dump_json(by_alias=True)) == study


def test_cases_are_crossed_with_the_grid() -> None:
    cases = [{"name": "long", "epochs": 9}, {"name": "short"}]
    study = parse_study({"trial": TRIAL, "cases": cases, "vary": {"loss.scale.value": [1, 30]}}, "a", "a")
    assert [each.name for each in study.configurations()] == ["long, s=1", "long, s=30", "short, s=1", "short, s=30"]
    assert [each.trial.epochs for each in study.configurations()] == [9, 9, 4, 4]


def test_a_case_replaces_a_whole_part() -> None:
    cases = [{"name": "switch", "loss.scale": {"kind": "switch", "before": 20, "after": 5, "switch_epoch": 2}}]
    study = parse_study({"trial": TRIAL, "cases": cases}, "a", "a")
    assert study.configurations()[0].trial.loss.kind == "normalized_softmax"


def test_replace_validates_again() -> None:
    study = parse_study({"trial": TRIAL}, "a", "a")
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        study.trial.replace(epochs=0)


def test_every_configuration_of_the_plan_is_checked_and_named() -> None:
    scale = {"kind": "switch", "before": 20, "after": 5, "switch_epoch": 4}
    with pytest.raises(ConfigError) as caught:
        parse_study({"trial": TRIAL, "cases": [{"name": "late", "loss.scale": scale}]}, "a", "f.yaml")
    assert caught.value.problems == (
        "f.yaml: late: loss.scale.switch_epoch: 4 is not below epochs=4, so the switch never happens; lower it or "
        "raise epochs",
    )
