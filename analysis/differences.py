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
