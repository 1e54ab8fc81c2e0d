from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import analysis
from analysis import claims, compare, runs, tables
from analysis.differences import differences
from analysis.runs import Condition
from benchmarks.made_up import curve, plan_config, search_config, trial_fields, write_plan, write_search
from search_spaces.losses import AdaCos, NormalizedSoftmax
from search_spaces.schedules import ConstantScale, LearnedScale, LinearScale, QuadraticScale, StepsScale, SwitchScale

CASES = [
    {"name": "constant 20"},
    {"name": "constant 5", "loss.scale": {"kind": "constant", "value": 5}},
    {"name": "linear", "loss.scale": {"kind": "linear", "start": 20, "end": 5, "first_epoch": 4, "epochs": 4}},
    {"name": "switch", "loss.scale": {"kind": "switch", "before": 20, "after": 5, "switch_epoch": 4}},
    {"name": "eps", "optimizer.eps": 0.01},
]


def a_study(folder: Path, **fields: Any) -> analysis.Study:
    config = plan_config(**{"vary": {}, "cases": CASES, "trial": trial_fields(epochs=12), **fields})
    return analysis.load(write_plan(folder / config.name, config))


@pytest.mark.parametrize(
    ("schedule", "condition", "phase"),
    [
        (ConstantScale(value=6.5), ("constant", 6.5, 6.5), None),
        (SwitchScale(before=20, after=5, switch_epoch=50), ("switch", 20, 5), 50),
        (LinearScale(start=20, end=5, first_epoch=50, epochs=50), ("linear", 20, 5), 50),
        (LinearScale(start=20, end=5, first_epoch=0, epochs=50), ("linear_from_start", 20, 5), 50),
        (QuadraticScale(start=20, end=5, first_epoch=50, epochs=50), ("quadratic", 20, 5), 50),
        (StepsScale(initial=16, factor=0.5, every=10), ("steps", 16, 16 * 0.5**9), None),
    ],
)
def test_schedules_in_the_words_of_the_thesis(schedule: Any, condition: tuple[str, float, float], phase: int) -> None:
    assert runs.condition_of(NormalizedSoftmax(scale=schedule), 100) == (condition, phase)


def test_losses_that_set_their_own_scale_have_no_start_and_end() -> None:
    condition, phase = runs.condition_of(AdaCos(mode="dynamic"), 100)
    assert condition.schedule == "adacos_dynamic"
    assert math.isnan(condition.start)
    assert phase is None
    assert math.isnan(runs.condition_of(NormalizedSoftmax(scale=LearnedScale()), 100)[0].end)


def test_conditions_read_as_words() -> None:
    assert str(Condition("constant", 6.5, 6.5)) == "constant 6.5"
    assert str(Condition("linear_from_start", 20, 5)) == "linear from start 20 to 5"
    assert str(Condition("adacos_dynamic", math.nan, math.nan)) == "adacos dynamic"


def test_a_study_falls_into_settings_by_what_is_not_its_schedule(tmp_path: Path) -> None:
    parts = runs.settings(runs.curves([a_study(tmp_path)]))
    assert [str(setting) for setting, _ in parts] == [
        "glyphs, normalized_softmax, C=100, D=64",
        "glyphs, normalized_softmax, C=100, D=64, optimizer.eps=0.01",
    ]
    part = parts[0][1]
    assert [str(condition) for condition in runs.conditions(part)] == [
        "constant 5",
        "constant 20",
        "linear 20 to 5",
        "switch 20 to 5",
    ]
    assert runs.phase_of(part) == 4
    assert runs.phase_of(parts[1][1]) == 4  # a control without a schedule of its own takes its study's


def test_a_study_of_constants_has_half_its_length_as_phase(tmp_path: Path) -> None:
    study = a_study(tmp_path, cases=[], vary={"loss.scale.value": [5, 20]})
    assert runs.phase_of(runs.curves([study])) == 6


def test_values_by_seed_are_the_ledger_s(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    part = runs.settings(runs.curves([study]))[0][1]
    values = runs.by_seed(part, Condition("switch", 20, 5), "test_recall_at_1", 8)
    trial = study.trial_configs[6]
    assert values.to_dict() == {s: pytest.approx(curve(trial, s, 8)["test_recall_at_1"]) for s in (0, 1)}
    three = runs.by_seed(part, Condition("switch", 20, 5), "test_recall_at_1", 8, last=3)
    assert three[0] == pytest.approx(sum(curve(trial, 0, e)["test_recall_at_1"] for e in (6, 7, 8)) / 3)


def test_what_was_not_run_or_not_measured_is_empty(tmp_path: Path) -> None:
    part = runs.settings(runs.curves([a_study(tmp_path)]))[0][1]
    assert runs.by_seed(part, Condition("switch", 20, 2.5), "test_recall_at_1", 8).empty
    assert runs.by_seed(part, Condition("switch", 20, 5), "test_recall_at_1", 13).empty
    assert runs.by_seed(part, Condition("switch", 20, 5), "theta_q50", 8).empty


def test_the_best_constant_is_chosen_on_validation_classes(tmp_path: Path) -> None:
    study = a_study(tmp_path, cases=[], vary={"loss.scale.value": [1, 8, 60]})
    part = runs.curves([study])
    assert runs.choice_metric(part) == "val_recall_at_1"
    assert runs.best_constant(part, 12) == 8
    assert runs.best_constant(part, 13) is None
    part["test_recall_at_1"] = -part["val_recall_at_1"]
    assert runs.best_constant(part, 12) == 8
    assert runs.choice_metric(part.assign(val_recall_at_1=math.nan)) == "test_recall_at_1"


def test_two_studies_of_one_condition_and_seed_count_once(tmp_path: Path) -> None:
    first, second = a_study(tmp_path), a_study(tmp_path, name="again", seeds=[1, 2])
    frame = runs.curves([first, second])
    counts = frame.groupby(["schedule", "start", "end", "other", "seed"])["epochs_done"].count()
    assert (counts == 12).all()
    assert set(frame.loc[frame["seed"] == 1, "study"]) == {"made-up"}
    assert set(frame.loc[frame["seed"] == 2, "study"]) == {"again"}


def test_proposals_of_a_search_are_left_out(tmp_path: Path) -> None:
    study = analysis.load(write_search(tmp_path / "search", search_config(), 6))
    frame = runs.of_studies([study])
    assert set(frame["seed"]) == {101, 102, 103}


def test_no_study_gives_an_empty_frame_with_columns() -> None:
    frame = runs.curves([])
    assert frame.empty
    assert {"dataset", "schedule", "seed", "epochs_done"} <= set(frame)
    assert runs.settings(frame) == []
    with pytest.raises(ValueError, match="no trial"):
        runs.phase_of(pd.DataFrame())


def test_tables_verdicts_and_differences_read_a_ledger(tmp_path: Path) -> None:
    study = a_study(tmp_path, seeds=[0, 1, 2])
    adacos = a_study(
        tmp_path,
        name="adacos",
        cases=[],
        vary={},
        trial=trial_fields(epochs=12, loss={"kind": "adacos", "mode": "dynamic"}),
    )
    frame = runs.curves([study, adacos])
    found = claims.outcomes(frame).set_index("id")
    assert found["setting"]["C8"] == "glyphs, normalized_softmax, C=100, D=64"
    assert found["verdict"]["C8"] in ("supported", "contradicted", "undecided")
    table = tables.table_4_4(frame).frame
    assert (table.loc[table["metric"] == "Recall@1, test classes", "seeds"] == 3).all()
    compared = differences(frame)
    assert {"constant 20 continued", "constant 5 after the first phase"} <= set(compared["against"])
    confronted = compare.confrontation(frame)
    assert "not run" not in set(confronted.loc[confronted["section"].isin(("2", "3")), "verdict"])


@pytest.mark.parametrize("order", [(3, 6), (6, 3)])
def test_of_two_lengths_of_one_condition_each_keeps_its_last_epoch(tmp_path: Path, order: tuple[int, int]) -> None:
    cases = [{"name": f"{epochs} epochs", "epochs": epochs} for epochs in order]
    frame = runs.curves([analysis.load(write_plan(tmp_path / "s", plan_config(vary={}, cases=cases, seeds=[0])))])
    planned = frame[frame["epochs_done"] > 0].set_index("epochs_done")["epochs_planned"]
    assert planned.to_dict() == {1: 3, 2: 3, 3: 3, 4: 6, 5: 6, 6: 6}
