"""Statistics over seeds and over test classes.

Over seeds everything rests on Student's t: with 5 seeds a percentile bootstrap covers 83 %, not 95. The bootstrap is
kept for 20 units or more, test classes above all. Every interval called 95 % is simulated in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

Array = NDArray[np.float64]
MIN_BOOTSTRAP = 20
MIN_SEEDS_FOR_BEST_SCALE = 5


class Interval(NamedTuple):
    """An estimate and its interval, in the unit of the values. low, high: None where the data cannot give them."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside; False where there is no interval."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


# Means and paired differences --------------------------------------------------------------------------------------


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t interval of a mean; nan values are left out. low and high are None for fewer than two values.

    Raises: ValueError if no value is left.
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    n = len(numbers)
    if n == 0:
        raise ValueError("no values to average; give at least one that is not nan")
    mean = float(numbers.mean())
    if n == 1:
        return Interval(mean, None, None, 1)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * float(numbers.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def paired_differences(first: pd.Series, second: pd.Series) -> pd.Series:
    """first - second for the seeds (index) that both have."""
    return (first - second).dropna()


def paired_interval(first: pd.Series, second: pd.Series, confidence: float = 0.95) -> Interval:
    """t interval of the mean of first - second over common seeds. Raises: ValueError if there is none."""
    return mean_interval(paired_differences(first, second).to_numpy(), confidence)


def p_above(values: ArrayLike, threshold: float = 0.0) -> float:
    """One-sided p value of 'the mean is not above `threshold`' (Student's t); 1 with fewer than two values."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    if len(numbers) < 2:
        return 1.0
    distance = float(numbers.mean()) - threshold
    error = float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    if error == 0:  # identical values: certain either way, and 1 for an exact tie
        return 0.0 if distance > 0 else 1.0
    return float(stats.t.sf(distance / error, len(numbers) - 1))


def p_below(values: ArrayLike, threshold: float = 0.0) -> float:
    """As `p_above`, for 'the mean is not below `threshold`'."""
    return p_above(-np.asarray(values, dtype=np.float64), -threshold)


def p_differs(values: ArrayLike, threshold: float = 0.0) -> float:
    """Two-sided p value of 'the mean is `threshold`' (Student's t); 1 with fewer than two values."""
    return min(1.0, 2 * min(p_above(values, threshold), p_below(values, threshold)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: below .05 keeps the family's error at 5 % under any dependence."""
    if not p_values:
        return []
    return [float(p) for p in multipletests(p_values, method="holm")[1]]


# The best of several configurations --------------------------------------------------------------------------------


def not_worse_than_best(frame: pd.DataFrame, confidence: float = 0.95) -> list[Hashable]:
    """The configurations not shown to be worse than another: a set that holds the true best one.

    frame: index = configuration, columns = seed, values to be large; nan where a seed is missing.

    Method: multiple comparisons with the best by paired t (Hsu's MCB, with Bonferroni in place of Dunnett's pooled
    variance). A configuration leaves the set if any of the k - 1 others exceeds it, paired by seed, by more than the
    one-sided t quantile at (1 - confidence) / (k - 1). The true best is exceeded by no other in the mean, so by
    Bonferroni's inequality it stays with at least `confidence`, whatever the variances and correlations, if paired
    differences are normal. Ties stay together. Pairs with fewer than two common seeds decide nothing.
    """
    values = frame.to_numpy(dtype=np.float64)
    k = len(values)
    if k < 2:
        return list(frame.index)
    level = (1 - confidence) / (k - 1)
    kept = []
    for row, name in enumerate(frame.index):
        others = (values[other] - values[row] for other in range(k) if other != row)
        if all(p_above(difference) > level for difference in others):
            kept.append(name)
    return kept
