"""Schedules against their controls at equal epochs, paired by seed on shared trunks."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from analysis import intervals, runs
from analysis.runs import Condition, Setting

NAN = float("nan")
POINT = 0.01
RECALL = "test_recall_at_1"
DECAYS = ("linear", "quadratic", "switch", "linear_from_start", "quadratic_from_start")


def differences(frame: pd.DataFrame, metric: str = RECALL) -> pd.DataFrame:
    """Each decaying schedule minus each control, paired by seed, after two and three phases.

    frame: runs.curves. Controls: its own start (after one phase: the thesis's comparison, not at equal epochs); its
    first constant continued; the best constant, chosen on validation classes at the same epoch; its final scale at once
    after the first phase (a switch); for schedules that fall from the start, the same fall after the first phase.

    Columns: the fields of Setting, condition, epochs_done, against, equal_epochs, mean, low, high, seeds, p, p_holm
    (Holm over all rows of a setting at equal epochs), detectable (smallest difference that these seeds find with power
    .8), seeds_for_a_point (seeds that a difference of .01 needs). A control that was not run has 0 seeds.
    """
    rows: list[dict[str, object]] = []
    for setting, part in runs.settings(frame):
        mine = [row | setting._asdict() for row in _differences(part, metric)]
        tested = [row for row in mine if row["equal_epochs"] and not math.isnan(float(str(row["p"])))]
        for row, p in zip(tested, intervals.holm([float(str(row["p"])) for row in tested]), strict=True):
            row["p_holm"] = p
        rows += mine
    return pd.DataFrame(rows, columns=[*Setting._fields, *_DIFFERENCE_COLUMNS])


_DIFFERENCE_COLUMNS = (
    *("condition", "epochs_done", "against", "equal_epochs", "mean", "low", "high", "seeds", "p", "p_holm"),
    *("detectable", "seeds_for_a_point"),
)


def _differences(part: pd.DataFrame, metric: str) -> Iterator[dict[str, object]]:
    phase = runs.phase_of(part)
    for condition in runs.conditions(part):
        if condition.schedule not in DECAYS:
            continue
        for epochs_done in (2 * phase, 3 * phase):
            own = runs.by_seed(part, condition, metric, epochs_done)
            if own.empty:
                continue
            for against, control in _controls(part, condition, epochs_done):
                if control is None:
                    other = pd.Series(dtype=float)
                else:
                    at = phase if against == "its own start" else epochs_done
                    other = runs.by_seed(part, control, metric, at)
                row = _difference_row(own, other)
                yield {
                    "condition": str(condition),
                    "epochs_done": epochs_done,
                    "against": against,
                    "equal_epochs": against != "its own start",
                    **row,
                }


def _controls(part: pd.DataFrame, condition: Condition, epochs_done: int) -> Iterator[tuple[str, Condition | None]]:
    schedule, start, end = condition
    if not schedule.endswith("_from_start"):
        yield "its own start", condition
    yield f"constant {start:g} continued", Condition("constant", start, start)
    best = runs.best_constant(part, epochs_done)
    name = "best constant" if best is None else f"best constant ({best:g})"
    yield name, None if best is None else Condition("constant", best, best)
    if schedule.endswith("_from_start"):
        later = Condition(schedule.removesuffix("_from_start"), start, end)
        yield f"{later.schedule} after the first phase", later
    if schedule != "switch":
        yield f"constant {end:g} after the first phase", Condition("switch", start, end)


def _difference_row(own: pd.Series, other: pd.Series) -> dict[str, object]:
    values = intervals.paired_differences(own, other).to_numpy(dtype=float)
    if len(values) == 0:
        return {"mean": NAN, "low": NAN, "high": NAN, "seeds": 0, "p": NAN, "p_holm": NAN, "detectable": NAN}
    mean, low, high, n = intervals.mean_interval(values)
    if low is None or high is None:
        return {"mean": mean, "low": NAN, "high": NAN, "seeds": n, "p": NAN, "p_holm": NAN, "detectable": NAN}
    sd = float(values.std(ddof=1))
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "seeds": n,
        "p": intervals.p_differs(values),
        "p_holm": NAN,
        "detectable": intervals.smallest_detectable(sd, n),
        "seeds_for_a_point": intervals.seeds_needed(POINT, sd),
    }


def precision(frame: pd.DataFrame, metric: str = RECALL) -> pd.DataFrame:
    """How much the constants of each setting can tell, after two phases (one row a setting with two or more).

    Columns: the fields of Setting, constants, seeds (that all constants have), sd (of a constant over seeds, root mean
    square), correlation (of the constants over seeds), sd_of_difference (paired), detectable (smallest difference found
    with power .8), seeds_for_a_point; and where validation classes were held out: test_choice, val_choice (mean test
    Recall of each seed's best constant, chosen on test or on validation), optimism and its t interval (their paired
    difference), flattery (the test choice minus the same constant on the other seeds).
    """
    rows: list[dict[str, object]] = []
    for setting, part in runs.settings(frame):
        epochs_done = 2 * runs.phase_of(part)
        values = runs.constants(part, metric, epochs_done).dropna(axis=1)
        constants, seeds = values.shape
        if constants < 2 or seeds < 1:
            continue
        row: dict[str, object] = {**setting._asdict(), "constants": constants, "seeds": seeds}
        if seeds > 1:
            sd = math.sqrt(float(values.var(axis=1, ddof=1).mean()))
            residual = values.sub(values.mean(axis=1), axis=0) - values.mean(axis=0) + values.to_numpy().mean()
            apart = math.sqrt(2 * float((residual**2).to_numpy().sum()) / ((constants - 1) * (seeds - 1)))
            row |= {
                "sd": sd,
                "correlation": intervals.seed_correlation(values),
                "sd_of_difference": apart,
                "detectable": intervals.smallest_detectable(apart, seeds),
                "seeds_for_a_point": intervals.seeds_needed(POINT, apart),
            }
        if runs.choice_metric(part) != metric:
            row |= _optimism(runs.constants(part, runs.choice_metric(part), epochs_done), values)
        rows.append(row)
    return pd.DataFrame(rows, columns=[*Setting._fields, *_PRECISION_COLUMNS])


_PRECISION_COLUMNS = (
    *("constants", "seeds", "sd", "correlation", "sd_of_difference", "detectable", "seeds_for_a_point"),
    *("test_choice", "val_choice", "optimism", "optimism_low", "optimism_high", "flattery"),
)


def _optimism(val: pd.DataFrame, test: pd.DataFrame) -> dict[str, object]:
    found = intervals.optimism(val, test)
    return {
        "test_choice": found.test_choice.mean,
        "val_choice": found.val_choice.mean,
        "optimism": found.gap.mean,
        "optimism_low": found.gap.low,
        "optimism_high": found.gap.high,
        "flattery": None if found.elsewhere is None else found.elsewhere.mean,
    }
