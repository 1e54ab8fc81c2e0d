"""Where Recall@1 is highest over constant scales, per setting and length of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import intervals, runs
from analysis.intervals import BestScale, Interval
from analysis.runs import Setting

METRICS = ("val_recall_at_1", "test_recall_at_1")


class Measured(NamedTuple):
    """The best constant scale of a setting after epochs_done, by `metric`. Scales are dimensionless.

    scales: those that ran. kept: those not shown to be worse than another. best: highest mean over seeds.
    estimate: from 5 seeds and 5 scales on, the top of a curve over log s with its interval.
    """

    setting: Setting
    epochs_done: int
    metric: str
    scales: tuple[float, ...]
    kept: tuple[float, ...]
    best: float
    estimate: BestScale | None
    seeds: int

    @property
    def interval(self) -> Interval:
        """Estimate and interval; without an estimate the best mean and the ends of the set `kept`."""
        if self.estimate is None:
            return Interval(self.best, min(self.kept), max(self.kept), self.seeds)
        return Interval(self.estimate.scale, self.estimate.low, self.estimate.high, self.estimate.seeds)


def lengths(part: pd.DataFrame) -> list[int]:
    """epochs_done after which the constants of a part of `runs.curves` can be compared.

    The planned lengths that all of them share (a study may train each for several), or else the last epoch that all
    have reached.
    """
    rows = part[part["schedule"] == "constant"]
    if rows.empty:
        return []
    trained = rows.groupby("start")["epochs_done"].max()
    planned = [set(values) for _, values in rows.groupby("start")["epochs_planned"]]
    common = sorted(length for length in set.intersection(*planned) if length <= trained.min())
    return common or [int(trained.min())]


def measured(frame: pd.DataFrame) -> Iterator[Measured]:
    """Every setting of `frame` (runs.curves) that ran three constant scales or more, at each of its lengths."""
    for setting, part in runs.settings(frame):
        yield from of_setting(setting, part)


def of_setting(setting: Setting, part: pd.DataFrame) -> Iterator[Measured]:
    """The best scales of one part of `runs.settings`, by validation and by test classes."""
    for epochs_done in lengths(part):
        for metric in METRICS:
            recall = runs.constants(part, metric, epochs_done)
            if len(recall) < 3:
                continue
            scales = tuple(float(str(scale)) for scale in recall.index)
            yield Measured(
                setting,
                epochs_done,
                metric,
                scales,
                tuple(float(str(scale)) for scale in intervals.not_worse_than_best(recall)),
                scales[int(np.argmax(recall.mean(axis=1).to_numpy()))],
                intervals.best_scale(recall),
                recall.shape[1],
            )
