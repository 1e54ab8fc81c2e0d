"""Two studies side by side: what their files differ in, and the configurations that both hold, paired by seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.intervals import holm, mean_interval, p_differs
from analysis.summary import judged

if TYPE_CHECKING:
    from analysis.load import Study

COLUMNS = ["configuration", "metric", "first", "second", "difference", "low", "high", "seeds", "p_holm"]


def compare(first: Study, second: Study) -> pd.DataFrame:
    """One row per configuration name that both studies completed, and metric (value, test_value).

    first, second: mean over the common seeds (fractions). difference: second - first, with its 95% t interval paired
    by seed (NaN for one seed). p_holm: two-sided paired t, Holm over all rows of one metric; NaN for one seed.
    """
    rows: list[dict[str, Any]] = []
    for metric in ("value", "test_value"):
        if metric == "value" and first.objective != second.objective:
            continue  # validation against test Recall is no comparison
        if metric == "test_value" and first.objective == second.objective == "test_recall_at_1":
            continue  # the value already
        left, right = (_by_seed(study, metric) for study in (first, second))
        found: list[dict[str, Any]] = []
        p_values: list[float] = []
        for name in [name for name in left.index if name in right.index]:
            pair = pd.DataFrame({"first": left.loc[name], "second": right.loc[name]}).dropna()
            if pair.empty:
                continue
            difference = (pair["second"] - pair["first"]).to_numpy()
            interval = mean_interval(difference)
            low, high = (np.nan if end is None else end for end in (interval.low, interval.high))
            both = {column: float(pair[column].mean()) for column in ("first", "second")}
            named = {"configuration": name, "metric": metric, **both}
            found.append({**named, "difference": interval.mean, "low": low, "high": high, "seeds": interval.n})
            p_values.append(p_differs(difference) if interval.n > 1 else np.nan)
        several = [place for place, p in enumerate(p_values) if not np.isnan(p)]
        corrected = holm([p_values[place] for place in several])
        for place, row in enumerate(found):
            row["p_holm"] = corrected[several.index(place)] if place in several else np.nan
        rows += found
    return pd.DataFrame(rows, columns=COLUMNS)


def _by_seed(study: Study, metric: str) -> pd.DataFrame:
    trials = judged(study.trials)
    complete = trials[(trials["status"] == "complete") & trials[metric].notna()]
    return complete.pivot_table(index="configuration", columns="seed", values=metric, aggfunc="last", sort=False)


def file_differences(first: Study, second: Study) -> list[tuple[str, str, str]]:
    """(dotted path, value in the first, value in the second) where the common trials of the two files differ."""
    left, right = (_flat(study.config.trial.model_dump(mode="json", by_alias=True)) for study in (first, second))
    return [
        (path, str(left.get(path, "")), str(right.get(path, "")))
        for path in dict.fromkeys([*left, *right])
        if left.get(path) != right.get(path)
    ]


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in node.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
