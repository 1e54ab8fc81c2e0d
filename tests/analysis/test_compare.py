"""Verdicts on made-up curves whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import compare, theory
from analysis.differences import differences, precision

MakeUp = Callable[..., pd.DataFrame]


def recalls(best: float = 10.0, sd: float = 0.003) -> Any:
    def measure(condition: Any, done: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, Any]:
        height = 0.55 - 0.03 * np.log(condition[2] / best) ** 2
        luck = np.random.default_rng(seed).normal(0, 0.006)
        return {name: height + luck + rng.normal(0, sd, len(done)) for name in ("val_recall_at_1", "test_recall_at_1")}

    return measure


def verdicts(frame: pd.DataFrame, prediction: Any) -> list[str]:
    table = compare.confrontation(frame)
    return list(table.loc[table["prediction"] == prediction.prediction, "verdict"])


def test_without_a_run_every_prediction_stands_as_not_run() -> None:
    table = compare.confrontation(pd.DataFrame())
    assert len(table) == len(compare.PREDICTIONS)
    assert set(table["verdict"]) == {"not run"}
    assert table["seeds"].sum() == 0


@pytest.mark.parametrize(("best", "verdict"), [(6.5, "agrees"), (15.0, "disagrees")])
def test_the_best_scale_is_confronted_with_adacos_on_both_parts(made_up: MakeUp, best: float, verdict: str) -> None:
    assert verdicts(made_up(recalls(best), seeds=6), compare.BEST_SCALE) == [verdict, verdict]


@pytest.mark.parametrize(("best", "verdict"), [(6.5, "agrees"), (20.0, "disagrees")])
def test_below_five_seeds_the_set_of_scales_speaks(made_up: MakeUp, best: float, verdict: str) -> None:
    assert verdicts(made_up(recalls(best, sd=0.001), seeds=3), compare.BEST_SCALE) == [verdict, verdict]


def test_one_seed_says_nothing_about_the_best_scale(made_up: MakeUp) -> None:
    assert verdicts(made_up(recalls(20.0), seeds=1), compare.BEST_SCALE) == ["undecided", "undecided"]


def adacos(first: float, last: float) -> Any:
    def measure(condition: Any, done: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, Any]:
        return {"scale": np.linspace(first, last, len(done)) + 0.01 * rng.normal(), "test_recall_at_1": 0.5}

    return measure


@pytest.mark.parametrize(
    ("first", "last", "dim", "verdict"),
    [
        (6.9, 4.7, 64, "agrees"),
        (4.7, 6.9, 64, "disagrees"),
        (6.9, 3.0, 64, "disagrees"),
        (7.0, 60.0, 2, "agrees"),
        (7.0, 5.0, 2, "disagrees"),
    ],
)
def test_the_dynamic_scale(made_up: MakeUp, first: float, last: float, dim: int, verdict: str) -> None:
    condition = (("adacos_dynamic", np.nan, np.nan),)
    frame = made_up(adacos(first, last), condition, loss_kind="adacos", dim=dim)
    assert verdicts(frame, compare.DYNAMIC) == [verdict]


@pytest.mark.parametrize(("factor", "verdict"), [(1.3, "agrees"), (0.9, "disagrees")])
def test_the_training_loss_against_its_bound(made_up: MakeUp, factor: float, verdict: str) -> None:
    def measure(condition: Any, done: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, Any]:
        return {"loss": factor * theory.normface_bound(condition[1], 100) * rng.uniform(1, 1.05), "loss_ce": 99.0}

    constants = tuple(("constant", s, s) for s in (1.0, 6.5, 20.0))
    frame = made_up(measure, constants, loss_kind="normalized_softmax")
    assert verdicts(frame, compare.BOUND) == [verdict]


def angles(slope: float) -> Any:
    """The median angle follows the scale: `slope` degrees per unit of ln s."""

    def measure(condition: Any, done: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, Any]:
        schedule, start, end = condition
        now = np.where((done > 10) | (schedule == "constant"), end, start)
        luck = np.random.default_rng(seed).normal(0, 1)
        return {"theta_q50": 30 + slope * np.log(now) + luck + rng.normal(0, 0.2, len(done))}

    return measure


@pytest.mark.parametrize(("slope", "verdict"), [(5.0, "agrees"), (-5.0, "disagrees")])
def test_angles_after_the_scale_falls(made_up: MakeUp, slope: float, verdict: str) -> None:
    frame = made_up(angles(slope))
    falls = verdicts(frame, compare.FALL)
    assert len(falls) == 5  # three linear, a switch, a quadratic
    assert set(falls) == {verdict}
    assert verdicts(frame, compare.ORDER) == [verdict]


def test_angles_that_do_not_move_decide_nothing(made_up: MakeUp) -> None:
    assert verdicts(made_up(angles(0.0)), compare.ORDER) == ["undecided"]


def proxies(variance: float, mean: float = -1 / 99) -> Any:
    def measure(condition: Any, done: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, Any]:
        noise = rng.normal(0, 3e-5)
        return {
            "proxy_cos_var_all": np.where(done == 0, 1 / 64 + noise, 0.0200),
            "proxy_cos_var_class_mean": variance,
            "proxy_cos_mean_class_mean": mean,
        }

    return measure


def test_proxies_at_the_start_below_the_bound_and_merged(made_up: MakeUp) -> None:
    constants = (("constant", 6.5, 6.5), ("constant", 20.0, 20.0))
    frame = made_up(proxies(0.0060), constants, first_epoch=0)
    assert verdicts(frame, compare.RANDOM_VARIANCE) == ["agrees"]
    assert verdicts(frame, compare.FRAME) == ["agrees"]
    assert verdicts(frame, compare.MERGED) == ["agrees", "agrees"]
    assert verdicts(made_up(proxies(0.0050), constants), compare.FRAME) == ["disagrees"]
    far = frame.assign(proxy_cos_var_all=frame["proxy_cos_var_all"] + 0.01)
    assert verdicts(far, compare.RANDOM_VARIANCE) == ["disagrees"]
    assert verdicts(far, compare.MERGED) == ["disagrees", "disagrees"]


def margins(made_up: MakeUp, collapse: float, fall: float = 1.0) -> pd.DataFrame:
    """Recall and angle as functions of the half-point alone, but for `collapse` added to Recall under a margin."""

    def measure_with(margin: float) -> Any:
        def measure(condition: Any, done: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, Any]:
            half_point = theory.cosface_half_point_degrees(condition[1], 100, margin)
            luck = np.random.default_rng(seed).normal(0, 0.005)
            recall = 0.4 + 0.002 * half_point + luck + rng.normal(0, 0.002) + (collapse if margin else 0)
            return {"test_recall_at_1": recall, "theta_q50": 0.6 * fall * half_point + rng.normal(0, 0.3)}

        return measure

    constants = tuple(("constant", s, s) for s in (10.0, 15.0, 20.0, 30.0))
    parts = [
        made_up(measure_with(m), constants, loss_kind="cosface" if m else "normalized_softmax", margin=m, other=other)
        for m, other in ((0.0, ""), (0.1, "loss.margin=0.1"), (0.2, ""))
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize(("collapse", "verdict"), [(0.0, "agrees"), (0.05, "disagrees")])
def test_recall_collapses_on_the_half_point_or_not(made_up: MakeUp, collapse: float, verdict: str) -> None:
    assert verdicts(margins(made_up, collapse), compare.COLLAPSE) == [verdict]


@pytest.mark.parametrize(("fall", "verdict"), [(1.0, "agrees"), (-1.0, "disagrees")])
def test_angles_rise_with_the_half_point(made_up: MakeUp, fall: float, verdict: str) -> None:
    assert verdicts(margins(made_up, 0.0, fall), compare.ANGLES) == [verdict]


# Differences -------------------------------------------------------------------------------------------------------

SOME = (
    *(("constant", s, s) for s in (5, 10, 20)),
    *((schedule, 20, 5) for schedule in ("linear", "switch", "linear_from_start")),
)


def test_a_decay_is_compared_with_four_controls_at_equal_epochs(made_up: MakeUp) -> None:
    table = differences(made_up(recalls(best=10.0), SOME))
    rows = table[(table["condition"] == "linear 20 to 5") & (table["epochs_done"] == 20)].set_index("against")
    assert list(rows.index) == [
        "its own start",
        "constant 20 continued",
        "best constant (10)",
        "constant 5 after the first phase",
    ]
    assert rows["equal_epochs"].tolist() == [False, True, True, True]
    # both ends are as far from 10 in the logarithm, and 5 is what the made-up Recall looks at
    assert abs(rows["mean"]["constant 20 continued"]) < 0.005
    assert rows["mean"]["best constant (10)"] == pytest.approx(-0.03 * np.log(2) ** 2, abs=0.005)
    assert (rows["seeds"] == 5).all()
    assert rows["p_holm"]["best constant (10)"] < 0.05
    assert np.isnan(rows["p_holm"]["its own start"])
    assert rows["detectable"].between(0, 0.02).all()


def test_schedules_from_the_start_are_compared_with_the_additional_one(made_up: MakeUp) -> None:
    table = differences(made_up(recalls(), SOME))
    rows = table[table["condition"] == "linear from start 20 to 5"]
    assert "linear after the first phase" in set(rows["against"])
    assert "its own start" not in set(rows["against"])
    assert sorted(set(rows["epochs_done"])) == [20, 30]


def test_controls_that_were_not_run_have_no_seed(made_up: MakeUp) -> None:
    table = differences(made_up(recalls(), conditions=(("linear", 20, 5),)))
    rows = table[table["epochs_done"] == 20].set_index("against")
    assert rows["seeds"].to_dict() == {
        "its own start": 5,
        "constant 20 continued": 0,
        "best constant": 0,
        "constant 5 after the first phase": 0,
    }
    assert rows["mean"].isna().sum() == 3


def test_no_study_makes_no_difference() -> None:
    assert differences(pd.DataFrame()).empty


def test_precision_gives_the_noise_that_the_curves_were_made_with(made_up: MakeUp) -> None:
    row = precision(made_up(recalls(sd=0.003), seeds=40, epochs=20, first_epoch=20)).iloc[0]
    assert row["constants"] == 7
    assert row["seeds"] == 40
    assert row["sd"] == pytest.approx(np.hypot(0.006, 0.003), rel=0.25)
    assert row["correlation"] == pytest.approx(0.8, abs=0.1)
    assert row["sd_of_difference"] == pytest.approx(0.003 * np.sqrt(2), rel=0.1)
    assert 2 <= row["seeds_for_a_point"] <= 5
    assert 0 <= row["optimism"] < 0.003
    assert row["test_choice"] - row["val_choice"] == pytest.approx(row["optimism"])


def test_precision_of_one_seed_and_of_no_validation_classes(made_up: MakeUp) -> None:
    frame = made_up(recalls(), seeds=1, epochs=20)
    row = precision(frame).iloc[0]
    assert pd.isna(row["detectable"])
    assert row["optimism"] >= 0
    assert pd.isna(precision(frame.drop(columns="val_recall_at_1")).iloc[0]["optimism"])
    assert precision(pd.DataFrame()).empty
