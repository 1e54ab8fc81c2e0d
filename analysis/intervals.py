"""Statistics over seeds and over test classes.

Over seeds everything rests on Student's t: with 5 seeds a percentile bootstrap covers 83%, not 95. The bootstrap is
kept for 20 units or more, test classes above all. Every interval called 95% is simulated in the tests.

statsmodels is imported inside the functions that plan studies: it loads for a second, and most reports need none.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]
MIN_BOOTSTRAP = 20
MIN_SEEDS_FOR_BEST_SCALE = 5
FITTED_SCALES = 5


class Interval(NamedTuple):
    """An estimate and its interval, in the unit of the values. low, high: None where the data cannot give them."""

    mean: float
    low: float | None
    high: float | None
    n: int

    def holds(self, value: float) -> bool:
        """Whether `value` lies inside; False where there is no interval."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


def _t_quantile(freedom: int, share: float) -> float:
    """Quantile of Student's t; scipy.stats.t.ppf gives the same a hundred times slower."""
    return float(special.stdtrit(freedom, share))


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
    half = _t_quantile(n - 1, (1 + confidence) / 2) * float(numbers.std(ddof=1)) / math.sqrt(n)
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
    return float(special.stdtr(len(numbers) - 1, -distance / error))


def p_below(values: ArrayLike, threshold: float = 0.0) -> float:
    """As `p_above`, for 'the mean is not below `threshold`'."""
    return p_above(-np.asarray(values, dtype=np.float64), -threshold)


def p_differs(values: ArrayLike, threshold: float = 0.0) -> float:
    """Two-sided p value of 'the mean is `threshold`' (Student's t); 1 with fewer than two values."""
    return min(1.0, 2 * min(p_above(values, threshold), p_below(values, threshold)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: below .05 keeps the family's error at 5% under any dependence.

    statsmodels' multipletests gives the same, but collects garbage at each call (.1 s); the tests compare the two.
    """
    count = len(p_values)
    adjusted, highest = [0.0] * count, 0.0
    for rank, place in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


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
    return [name for row, name in enumerate(frame.index) if _least_p_above(values - values[row]) > level]


def _least_p_above(differences: Array) -> float:
    """The smallest `p_above` over the rows of `differences` (nan left out); a thousand rows at once."""
    known = ~np.isnan(differences)
    counts = known.sum(axis=1)
    differences, known, counts = (array[counts > 1] for array in (differences, known, counts))
    if len(counts) == 0:
        return 1.0
    numbers = np.where(known, differences, 0.0)
    means = numbers.sum(axis=1) / counts
    squares = np.where(known, numbers - means[:, np.newaxis], 0.0) ** 2
    errors = np.sqrt(squares.sum(axis=1) / (counts - 1)) / np.sqrt(counts)
    certain = errors == 0  # identical values: as in p_above
    if (means[certain] > 0).any():
        return 0.0
    if certain.all():
        return 1.0
    t = means[~certain] / errors[~certain]
    freedom = counts[~certain] - 1
    # p falls with t, so one tail of Student's t for each number of seeds is enough.
    return min(float(special.stdtr(df, -t[freedom == df].max())) for df in np.unique(freedom))


class BestScale(NamedTuple):
    """Estimate of the best scale s (dimensionless). low, high: None on a side where the fitted scales do not end it."""

    scale: float
    low: float | None
    high: float | None
    seeds: int

    def holds(self, scale: float) -> bool:
        """Whether `scale` lies inside; an open side holds everything."""
        return (self.low is None or self.low <= scale) and (self.high is None or scale <= self.high)


def best_scale(frame: pd.DataFrame, confidence: float = 0.95) -> BestScale | None:
    """Where Recall is highest over log s: the top of a cubic, with an interval over seeds.

    frame: index = scale, columns = seed; seeds with a missing value among the fitted scales are left out.

    Method: a cubic in log s through each seed's values at the 5 scales nearest to the mean curve's highest. At the top
    the mean slope is 0; the interval is the stretch around the fitted top in which the mean slope over seeds does not
    differ from 0 by a t test (as Fieller 1954 for a ratio), so no single seed's top is needed. It is exact for cubics.
    A parabola is not enough: on curves that rise steeper than they fall its interval covers 15 to 70%, this one's
    89 to 96% (simulated).

    Returns None with fewer than 5 seeds or 5 scales.
    """
    logs = np.log(frame.index.to_numpy(dtype=np.float64))
    center = logs[int(np.argmax(frame.mean(axis=1).to_numpy()))]
    near = np.sort(np.argsort(np.abs(logs - center), kind="stable")[:FITTED_SCALES])
    fitted = frame.iloc[near].dropna(axis=1)
    n = fitted.shape[1]
    if n < MIN_SEEDS_FOR_BEST_SCALE or len(near) < FITTED_SCALES:
        return None
    x = logs[near] - center
    coefficients = np.polyfit(x, fitted.to_numpy(dtype=np.float64), 3)  # (4, seeds), highest power first
    grid = np.linspace(x.min(), x.max(), 2001)
    slopes = np.stack([3 * grid**2, 2 * grid, np.ones_like(grid)], axis=1) @ coefficients[:3]
    half = _t_quantile(n - 1, (1 + confidence) / 2) * slopes.std(axis=1, ddof=1) / math.sqrt(n)
    flat = np.abs(slopes.mean(axis=1)) <= half
    top = int(np.argmax(np.polyval(coefficients.mean(axis=1), grid)))
    below = np.flatnonzero(~flat[:top])
    above = np.flatnonzero(~flat[top + 1 :])
    return BestScale(
        scale=math.exp(center + grid[top]),
        low=math.exp(center + grid[below[-1]]) if len(below) else None,
        high=math.exp(center + grid[top + 1 + above[0]]) if len(above) else None,
        seeds=n,
    )


# Bootstrap ---------------------------------------------------------------------------------------------------------


def class_interval(
    hits: ArrayLike, images: ArrayLike, confidence: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Interval:
    """Interval of Recall@1 over *test classes* (which classes were drawn), for one trained network.

    hits, images: per class, queries answered rightly and queries asked; n counts classes. See `_bootstrap_ratio`.
    """
    return _bootstrap_ratio(np.asarray(hits, np.float64), np.asarray(images, np.float64), confidence, resamples, seed)


def class_difference_interval(
    first_hits: ArrayLike,
    second_hits: ArrayLike,
    images: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
) -> Interval:
    """As `class_interval`, for the difference of two networks on the same test classes, paired class by class."""
    difference = np.asarray(first_hits, np.float64) - np.asarray(second_hits, np.float64)
    return _bootstrap_ratio(difference, np.asarray(images, np.float64), confidence, resamples, seed)


def bootstrap_interval(values: ArrayLike, confidence: float = 0.95, resamples: int = 4000, seed: int = 0) -> Interval:
    """Bootstrap interval of a mean of 20 values or more. See `_bootstrap_ratio`."""
    numbers = np.asarray(values, np.float64)
    return _bootstrap_ratio(numbers, np.ones_like(numbers), confidence, resamples, seed)


def _bootstrap_ratio(top: Array, bottom: Array, confidence: float, resamples: int, seed: int) -> Interval:
    """Bootstrap interval of sum(top) / sum(bottom) over units, at least 20.

    Expanded percentiles (Hesterberg 2015): the levels are widened as Student's t with n - 1 degrees of
    freedom and the factor sqrt(n / (n - 1)) ask, since plain percentiles are too narrow by that much. Simulated
    coverage 94 to 95%; skewed values (a Recall near 1) cost a point, as they do a t interval.
    Raises: ValueError for fewer than 20 units.
    """
    n = len(top)
    if n < MIN_BOOTSTRAP:
        raise ValueError(
            f"a bootstrap over {n} units is too narrow; give {MIN_BOOTSTRAP} or more, or use mean_interval"
        )
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    ratios = (counts @ top) / (counts @ bottom)
    level = float(special.ndtr(math.sqrt(n / (n - 1)) * _t_quantile(n - 1, (1 - confidence) / 2)))
    low, high = np.quantile(ratios, [level, 1 - level])
    return Interval(float(top.sum() / bottom.sum()), float(low), float(high), n)


# Planning ----------------------------------------------------------------------------------------------------------


def smallest_detectable(sd_of_difference: float, seeds: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true paired difference that a two-sided t test over `seeds` finds with `power`, in the sd's unit."""
    if seeds < 2:
        return math.inf
    from statsmodels.stats.power import TTestPower

    effect = TTestPower().solve_power(nobs=seeds, alpha=alpha, power=power, alternative="two-sided")
    return float(effect) * sd_of_difference


def seeds_needed(difference: float, sd_of_difference: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Seeds that a two-sided paired t test needs to find `difference` with `power`; at least 2.

    Raises: ValueError if difference is 0, which no number of seeds finds.
    """
    if difference == 0:
        raise ValueError("no number of seeds finds a difference of 0; give the smallest one that matters")
    from statsmodels.stats.power import TTestPower

    effect = abs(difference) / sd_of_difference if sd_of_difference > 0 else math.inf

    def reached(seeds: int) -> bool:
        # The power of two seeds is 1 there to sixteen digits, and of larger effects statsmodels gives nan.
        return effect > 100 or float(TTestPower().power(effect, seeds, alpha, alternative="two-sided")) >= power

    enough = 2
    while not reached(enough):
        enough *= 2
    below = enough // 2  # not enough, or 1
    while enough - below > 1:
        middle = (enough + below) // 2
        below, enough = (below, middle) if reached(middle) else (middle, enough)
    return enough


def seed_correlation(frame: pd.DataFrame) -> float | None:
    """Correlation of two configurations' values over seeds: the share of the spread that pairing takes away.

    frame: index = configuration, columns = seed. Two-way analysis of variance: (seed variance) / (seed + residual
    variance), which can be negative by chance; the variance of a paired difference is 1 - this times an unpaired one's.
    Seeds with a missing value are left out. None with fewer than two configurations or two seeds.
    """
    values = frame.dropna(axis=1).to_numpy(dtype=np.float64)
    k, n = values.shape
    if k < 2 or n < 2:
        return None
    seeds = values.mean(axis=0)
    between = k * float(np.var(seeds, ddof=1))
    residual = values - values.mean(axis=1, keepdims=True) - seeds + values.mean()
    within = float((residual**2).sum()) / ((k - 1) * (n - 1))
    total = between + (k - 1) * within
    return (between - within) / total if total > 0 else None


class Optimism(NamedTuple):
    """What choosing the best configuration on the test classes adds to its score. Recall, fractions, over seeds.

    test_choice: test Recall of each seed's best configuration by test Recall (the thesis's way); val_choice: of its
    best by validation Recall; gap: the first minus the second, paired, never negative; elsewhere: the test choice's
    score minus the same configuration's mean over the other seeds (None with one seed).
    """

    test_choice: Interval
    val_choice: Interval
    gap: Interval
    elsewhere: Interval | None


def optimism(val: pd.DataFrame, test: pd.DataFrame) -> Optimism:
    """The optimism of choosing on test classes. val, test: index = configuration, columns = seed.

    Raises: ValueError if no seed has all configurations in both.
    """
    test = test.dropna(axis=1)
    val = val.reindex(index=test.index).dropna(axis=1)
    seeds = [seed for seed in test.columns if seed in val.columns]
    if not seeds:
        raise ValueError("no seed has every configuration on validation and test classes; run the missing trials")
    by_val = val[seeds].to_numpy(dtype=np.float64)
    by_test = test[seeds].to_numpy(dtype=np.float64)
    n = len(seeds)
    chosen = by_test.argmax(axis=0)
    flattered = by_test[chosen, range(n)]
    honest = by_test[by_val.argmax(axis=0), range(n)]
    elsewhere = None
    if n > 1:
        others = (by_test.sum(axis=1)[chosen] - flattered) / (n - 1)
        elsewhere = mean_interval(flattered - others)
    return Optimism(mean_interval(flattered), mean_interval(honest), mean_interval(flattered - honest), elsewhere)
