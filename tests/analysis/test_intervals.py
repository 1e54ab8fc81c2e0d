"""Statistics: worked values, and simulations of what they promise (vectorized, seeded)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import intervals


def test_a_mean_interval_worked_by_hand():
    # t(.975, 4) = 2.776445; sd of 1..5 = sqrt(2.5)
    interval = intervals.mean_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3
    assert interval.low == pytest.approx(3 - 2.776445 * (2.5 / 5) ** 0.5, abs=1e-6)
    assert interval.high == pytest.approx(3 + 2.776445 * (2.5 / 5) ** 0.5, abs=1e-6)
    assert interval.n == 5


def test_one_value_has_no_interval_and_none_is_refused():
    assert intervals.mean_interval([0.5]) == (0.5, None, None, 1)
    assert intervals.mean_interval([0.5, np.nan]) == (0.5, None, None, 1)
    assert not intervals.mean_interval([0.5]).holds(0.5)
    with pytest.raises(ValueError, match="no values"):
        intervals.mean_interval([np.nan])


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_mean_intervals_cover_95_percent(n):
    draws = np.random.default_rng(n).normal(0.5, 0.01, (2000, n))
    held = np.mean([intervals.mean_interval(draw).holds(0.5) for draw in draws])
    assert abs(held - 0.95) < 0.016  # 3 sd of a share over 2,000 runs


def test_paired_intervals_use_common_seeds_only():
    first = pd.Series({0: 0.5, 1: 0.6, 2: 0.7})
    second = pd.Series({1: 0.5, 2: 0.5, 3: 0.9})
    interval = intervals.paired_interval(first, second)
    assert interval.mean == pytest.approx(0.15)
    assert interval.n == 2


def test_p_values_are_those_of_scipy():
    values = [0.1, 0.3, -0.1, 0.4, 0.2]
    assert intervals.p_above(values) == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert intervals.p_below(values, 0.3) == pytest.approx(stats.ttest_1samp(values, 0.3, alternative="less").pvalue)
    assert intervals.p_differs(values, 0.1) == pytest.approx(stats.ttest_1samp(values, 0.1).pvalue)


def test_p_values_without_spread_or_without_seeds():
    assert intervals.p_above([0.1]) == 1
    assert intervals.p_above([0.25, 0.25]) == 0
    assert intervals.p_above([0.0, 0.0]) == 1
    assert intervals.p_differs([0.0, 0.0]) == 1


def test_holm_worked_by_hand():
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([]) == []


# The set of configurations not worse than the best -------------------------------------------------------------------


def test_a_clear_winner_stands_alone_and_ties_stand_together():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(0, 0.005, (4, 5)), index=[1, 5, 20, 60]) + 0.5
    frame.loc[[1, 60]] -= 0.2
    assert intervals.not_worse_than_best(frame) == [5, 20]
    frame.loc[20] -= 0.2
    assert intervals.not_worse_than_best(frame) == [5]


def test_without_two_seeds_nothing_is_shown_to_be_worse():
    assert intervals.not_worse_than_best(pd.DataFrame({0: [0.1, 0.9]}, index=["a", "b"])) == ["a", "b"]
    assert intervals.not_worse_than_best(pd.DataFrame({0: [0.1], 1: [0.2]}, index=["only"])) == ["only"]


def test_missing_seeds_are_left_out_pair_by_pair():
    frame = pd.DataFrame([[0.1, 0.11, np.nan, 0.1], [0.9, 0.91, 0.9, np.nan]], index=["low", "high"])
    assert intervals.not_worse_than_best(frame) == ["high"]


def simulated_sets(k: int, n: int, spread: np.ndarray, means: np.ndarray, runs: int, seed: int) -> np.ndarray:
    """How often each configuration was kept: the module's rule, vectorized over runs and checked against it below."""
    rng = np.random.default_rng(seed)
    values = means[:, None] + rng.normal(0, 0.01, (runs, 1, n)) + spread[:, None] * rng.normal(size=(runs, k, n))
    difference = values[:, None, :, :] - values[:, :, None, :]  # [run, row, other, seed]
    error = difference.std(axis=-1, ddof=1) / np.sqrt(n)
    t = difference.mean(axis=-1) / np.where(error == 0, np.inf, error)
    kept = (t < stats.t.ppf(1 - 0.05 / (k - 1), n - 1)).all(axis=2)
    for run in range(5):
        assert intervals.not_worse_than_best(pd.DataFrame(values[run])) == list(np.flatnonzero(kept[run]))
    return kept.mean(axis=0)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("spread", ["equal", "unequal"])
def test_the_true_best_is_kept_in_95_percent_of_runs(n, spread):
    k = 7
    sd = np.full(k, 0.008) if spread == "equal" else np.linspace(0.002, 0.02, k)
    # the hardest case: all means equal, so each configuration is a true best and is tempted to be left out
    kept = simulated_sets(k, n, sd, np.full(k, 0.5), 3000, seed=n)
    assert kept.min() > 0.95 - 0.012


def test_the_set_shrinks_to_what_the_seeds_can_tell():
    means = np.array([0.50, 0.49, 0.46, 0.40])
    kept = simulated_sets(4, 10, np.full(4, 0.008), means, 2000, seed=1)
    assert kept[0] > 0.99
    assert kept[3] < 0.01
    assert kept[2] < 0.05
