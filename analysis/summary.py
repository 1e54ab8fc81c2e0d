"""A study's configurations, summarized over seeds; what is left out is counted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.intervals import mean_interval

if TYPE_CHECKING:
    from analysis.load import Study


def short_name(configuration: str) -> str:
    """'best 2' of 'best 2: s=2.54, delta=0.0677', as a search's winners are named; any other name as it stands."""
    winner = re.match(r"best \d+(?=: )", configuration)
    return winner[0] if winner else configuration


def judged(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that configurations are judged by: all but a search's proposals, whose best score flatters itself."""
    return trials[trials["phase"] != "search"]


def configurations(study: Study) -> pd.DataFrame:
    """One row per configuration, best mean first: mean, low, high (95% t over seeds) of the objective, n complete
    seeds, the same of test classes (test_mean, test_low, test_high), last_5 (mean over seeds of the last five epochs),
    scale (constant s or NaN), own_scale (AdaCos's fixed scale or NaN), schedule, baseline, and how many of its trials
    are `unfinished`, `diverged`, `failed`.
    """
    trials = judged(study.trials)
    # Plain arrays: a thousand configurations as frames of their own take seconds.
    column = {str(name): trials[name].to_numpy() for name in trials.columns}
    status = column["status"]
    rows = []
    for name, places in trials.groupby("configuration", sort=False).indices.items():
        first, complete = places[0], places[status[places] == "complete"]
        value, test = _interval(column["value"][complete]), _interval(column["test_value"][complete])
        last_5 = column["value_last_5"][complete]
        constant = column["schedule_kind"][first] == "constant"
        rows.append(
            {
                "configuration": name,
                "n": value.n,
                "mean": value.mean,
                "low": value.low,
                "high": value.high,
                "last_5": np.nan if np.isnan(last_5).all() else np.nanmean(last_5),
                "test_mean": test.mean,
                "test_low": test.low,
                "test_high": test.high,
                "scale": column["scale_first"][first] if constant else np.nan,
                "own_scale": column["scale_first"][first] if column["loss_kind"][first] == "adacos" else np.nan,
                "schedule": column["schedule_kind"][first],
                "train_classes": column["train_classes"][first],
                "baseline": bool(column["baseline"][first]),
                "unfinished": sum(one not in ENDED for one in status[places]),
                "diverged": int((status[places] == "diverged").sum()),
                "failed": int((status[places] == "failed").sum()),
                "wall_s": column["wall_s"][places].sum(),
            }
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values("mean", ascending=False, na_position="last", kind="stable", ignore_index=True)


class _Interval(NamedTuple):
    mean: float
    low: float
    high: float
    n: int


def _interval(values: NDArray[np.float64]) -> _Interval:
    """The mean's t interval for a frame: NaN where there is none."""
    if np.isnan(values).all():
        return _Interval(np.nan, np.nan, np.nan, 0)
    found = mean_interval(values)
    low, high = (np.nan if end is None else end for end in (found.low, found.high))
    return _Interval(found.mean, low, high, found.n)


ENDED = ("complete", "pruned", "diverged", "failed")
COLUMNS = [
    *("configuration", "n", "mean", "low", "high", "last_5", "test_mean", "test_low", "test_high", "scale"),
    *("own_scale", "schedule", "train_classes", "baseline", "unfinished", "diverged", "failed", "wall_s"),
]


def seeds_table(study: Study) -> tuple[pd.DataFrame, list[str]]:
    """Objective by configuration (rows) and seed (columns, NaN where one is missing), and who is left out of it.

    With several seeds a configuration needs two of them to be compared at all; what has fewer is left out.
    """
    trials = judged(study.trials)
    complete = trials[(trials["status"] == "complete") & trials["value"].notna()]
    if complete.empty:
        return pd.DataFrame(), list(dict.fromkeys(trials["configuration"]))
    table = complete.pivot_table(index="configuration", columns="seed", values="value", aggfunc="last", sort=False)
    counts = table.notna().sum(axis=1)
    kept = table[counts >= min(2, counts.max())]
    left_out = [name for name in dict.fromkeys(trials["configuration"]) if name not in kept.index]
    return kept, left_out


def epochs_cost(study: Study) -> dict[str, float]:
    """Epochs trained and inherited over all trials, and seconds trained: trained, inherited, planned, wall_s."""
    trials = study.trials
    inherited = int(trials["epochs_inherited"].sum())
    return {
        "trained": int(trials["epochs_done"].sum()) - inherited,
        "inherited": inherited,
        "planned": int(trials["epochs_planned"].sum()),
        "wall_s": float(trials["wall_s"].sum()),
    }
