"""Statistics: worked values, and simulations of what they promise (vectorized, seeded)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis import intervals


def test_a_mean_interval_worked_by_hand() -> None:
    # t(.975, 4) = 2.776445; sd of 1..5 = sqrt(2.5)
    interval = intervals.mean_interval([1, 2, 3, 4, 5])
    assert interval.mean == 3
    assert interval.low == pytest.approx(3 - 2.776445 * (2.5 / 5) ** 0.5, abs=1e-6)
    assert interval.high == pytest.approx(3 + 2.776445 * (2.5 / 5) ** 0.5, abs=1e-6)
    assert interval.n == 5


def test_one_value_has_no_interval_and_none_is_refused() -> None:
    assert intervals.mean_interval([0.5]) == (0.5, None, None, 1)
    assert intervals.mean_interval([0.5, np.nan]) == (0.5, None, None, 1)
    assert not intervals.mean_interval([0.5]).holds(0.5)
    with pytest.raises(ValueError, match="no values"):
        intervals.mean_interval([np.nan])


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_mean_intervals_cover_95_percent(n):
    draws = np.random.default_rng(n).normal(0.5, 0.01, (1500, n))
    held = np.mean([intervals.mean_interval(draw).holds(0.5) for draw in draws])
    assert abs(held - 0.95) < 0.017  # 3 sd of a share over 1,500 runs


def test_paired_intervals_use_common_seeds_only() -> None:
    first = pd.Series({0: 0.5, 1: 0.6, 2: 0.7})
    second = pd.Series({1: 0.5, 2: 0.5, 3: 0.9})
    interval = intervals.paired_interval(first, second)
    assert interval.mean == pytest.approx(0.15)
    assert interval.n == 2


def test_p_values_are_those_of_scipy() -> None:
    values = [0.1, 0.3, -0.1, 0.4, 0.2]
    assert intervals.p_above(values) == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert intervals.p_below(values, 0.3) == pytest.approx(stats.ttest_1samp(values, 0.3, alternative="less").pvalue)
    assert intervals.p_differs(values, 0.1) == pytest.approx(stats.ttest_1samp(values, 0.1).pvalue)


def test_p_values_without_spread_or_without_seeds() -> None:
    assert intervals.p_above([0.1]) == 1
    assert intervals.p_above([0.25, 0.25]) == 0
    assert intervals.p_above([0.0, 0.0]) == 1
    assert intervals.p_differs([0.0, 0.0]) == 1


def test_holm_worked_by_hand() -> None:
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([]) == []


def test_holm_is_that_of_statsmodels() -> None:
    p_values = np.random.default_rng(0).uniform(0, 0.2, 17)
    assert intervals.holm(list(p_values)) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


# The set of configurations not worse than the best -------------------------------------------------------------------


def test_a_clear_winner_stands_alone_and_ties_stand_together() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(0, 0.005, (4, 5)), index=[1, 5, 20, 60]) + 0.5
    frame.loc[[1, 60]] -= 0.2
    assert intervals.not_worse_than_best(frame) == [5, 20]
    frame.loc[20] -= 0.2
    assert intervals.not_worse_than_best(frame) == [5]


def test_without_two_seeds_nothing_is_shown_to_be_worse() -> None:
    assert intervals.not_worse_than_best(pd.DataFrame({0: [0.1, 0.9]}, index=["a", "b"])) == ["a", "b"]
    assert intervals.not_worse_than_best(pd.DataFrame({0: [0.1], 1: [0.2]}, index=["only"])) == ["only"]


def test_missing_seeds_are_left_out_pair_by_pair() -> None:
    frame = pd.DataFrame([[0.1, 0.11, np.nan, 0.1], [0.9, 0.91, 0.9, np.nan]], index=["low", "high"])
    assert intervals.not_worse_than_best(frame) == ["high"]


def test_the_set_is_what_a_slow_loop_over_pairs_keeps() -> None:
    rng = np.random.default_rng(0)
    for k, n, missing in ((2, 2, 0.0), (9, 5, 0.0), (12, 6, 0.3), (30, 12, 0.1)):
        values = rng.normal(0.5, 0.01, (k, n)) + rng.normal(0, 0.01, (k, 1))
        values[rng.uniform(size=(k, n)) < missing] = np.nan
        values[1] = values[0]  # a tie
        level = 0.05 / (k - 1)
        kept = [
            row
            for row in range(k)
            if all(intervals.p_above(values[other] - values[row]) > level for other in range(k) if other != row)
        ]
        assert intervals.not_worse_than_best(pd.DataFrame(values)) == kept


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


def test_the_set_shrinks_to_what_the_seeds_can_tell() -> None:
    means = np.array([0.50, 0.49, 0.46, 0.40])
    kept = simulated_sets(4, 10, np.full(4, 0.008), means, 2000, seed=1)
    assert kept[0] > 0.99
    assert kept[3] < 0.01
    assert kept[2] < 0.05


# The best scale ----------------------------------------------------------------------------------------------------

SCALES = np.array([1, 3, 6.5, 10, 15, 20, 30, 60.0])


def parabola(best: float) -> np.ndarray:
    return 0.55 - 0.02 * np.log(SCALES / best) ** 2


def steep_rise(best: float) -> np.ndarray:
    """Rises exponentially, falls slowly: the shape that the thesis and the glyph studies show."""
    log = np.log(SCALES / best)
    return 0.55 - 0.03 * (np.exp(-log) + log - 1)


def recall_over_scales(curve: np.ndarray, runs: int, seeds: int, seed: int) -> np.ndarray:
    """Recall (runs, scale, seed) around `curve`; sd .008, half of its variance the seed's own."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.0057, (runs, len(SCALES), seeds)) + rng.normal(0, 0.0057, (runs, 1, seeds))
    return curve[:, None] + noise


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("best", [8.0, 15.0])
@pytest.mark.parametrize("curve", [parabola, steep_rise])
def test_intervals_of_the_best_scale_cover_95_percent(curve, best, seeds):
    held = []
    for draw in recall_over_scales(curve(best), 400, seeds, seed=seeds):
        estimate = intervals.best_scale(pd.DataFrame(draw, index=SCALES))
        held.append(estimate is not None and estimate.holds(best))
    assert abs(np.mean(held) - 0.95) < 0.033  # 3 sd of a share over 400 runs


def test_the_best_scale_without_noise_is_the_top_of_the_curve() -> None:
    frame = pd.DataFrame(parabola(12.0)[:, None] + np.linspace(0, 0.01, 6), index=SCALES)
    estimate = intervals.best_scale(frame)
    assert estimate is not None
    assert estimate.scale == pytest.approx(12.0, rel=2e-3)
    assert estimate.low == pytest.approx(12.0, rel=4e-3)
    assert estimate.high == pytest.approx(12.0, rel=4e-3)
    assert not estimate.holds(6.5)


def test_the_best_scale_needs_five_seeds_and_five_scales() -> None:
    draw = recall_over_scales(parabola(10.0), 1, 5, seed=0)[0]
    assert intervals.best_scale(pd.DataFrame(draw[:, :4], index=SCALES)) is None
    assert intervals.best_scale(pd.DataFrame(draw[:4], index=SCALES[:4])) is None


def test_a_curve_that_still_rises_leaves_its_best_scale_open_above() -> None:
    rising = pd.DataFrame(0.1 * np.log(SCALES)[:, None] + recall_over_scales(0 * SCALES, 1, 5, seed=0)[0], index=SCALES)
    estimate = intervals.best_scale(rising)
    assert estimate is not None
    assert estimate.high is None
    assert estimate.holds(200.0)


# Bootstrap ---------------------------------------------------------------------------------------------------------


def class_draws(classes: int, runs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits per class (runs, classes) of 12 images each; a class's own Recall is Beta(2, 2), mean .5."""
    rng = np.random.default_rng(seed)
    return rng.binomial(12, rng.beta(2, 2, (runs, classes))), np.full(classes, 12)


@pytest.mark.parametrize("classes", [20, 50, pytest.param(200, marks=pytest.mark.slow)])
def test_intervals_over_test_classes_cover_95_percent(classes):
    hits, images = class_draws(classes, 400, seed=classes)
    held = [intervals.class_interval(row, images, resamples=500).holds(0.5) for row in hits]
    assert abs(np.mean(held) - 0.95) < 0.033


def test_intervals_of_differences_over_test_classes_cover_95_percent() -> None:
    rng = np.random.default_rng(5)
    own = rng.beta(2, 2, (400, 40))
    first, second = rng.binomial(12, own), rng.binomial(12, own)
    held = [
        intervals.class_difference_interval(a, b, np.full(40, 12), resamples=500).holds(0)
        for a, b in zip(first, second, strict=True)
    ]
    assert abs(np.mean(held) - 0.95) < 0.033


def test_bootstrap_of_a_skewed_mean_covers_a_point_less_as_the_t_interval_does() -> None:
    draws = np.random.default_rng(6).gamma(4.0, 1.0, (400, 30))
    held = [intervals.bootstrap_interval(draw, resamples=500).holds(4.0) for draw in draws]
    assert abs(np.mean(held) - 0.94) < 0.036  # 3 sd of a share over 400 runs


def test_a_bootstrap_over_few_seeds_is_refused() -> None:
    with pytest.raises(ValueError, match="mean_interval"):
        intervals.bootstrap_interval([0.5, 0.6, 0.7, 0.6, 0.5])


def test_recall_over_classes_weighs_classes_by_their_images() -> None:
    interval = intervals.class_interval([1] * 20, [1] * 10 + [3] * 10)
    assert interval.mean == pytest.approx(0.5)
    assert interval.n == 20


# Planning ----------------------------------------------------------------------------------------------------------


def test_the_smallest_detectable_difference_is_found_with_the_power_asked_for() -> None:
    difference = intervals.smallest_detectable(0.008, 5)
    draws = np.random.default_rng(7).normal(difference, 0.008, (20_000, 5))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / np.sqrt(5))
    assert np.mean(np.abs(t) > stats.t.ppf(0.975, 4)) == pytest.approx(0.8, abs=0.015)
    assert intervals.smallest_detectable(0.008, 1) == np.inf


@pytest.mark.parametrize("seeds", [3, 5, 10, 40])
def test_seeds_needed_undoes_the_smallest_detectable_difference(seeds):
    difference = intervals.smallest_detectable(0.008, seeds)
    assert intervals.seeds_needed(difference * 1.0001, 0.008) == seeds
    assert intervals.seeds_needed(-difference * 0.97, 0.008) > seeds


@pytest.mark.parametrize("sd", [0.0, 1e-300, 1e-17, 1e-9])
def test_differences_equal_up_to_rounding_need_two_seeds(sd: float) -> None:
    assert intervals.seeds_needed(0.01, sd) == 2


def test_seeds_needed_at_the_edges() -> None:
    assert intervals.seeds_needed(1.0, 0.0) == 2
    with pytest.raises(ValueError, match="difference of 0"):
        intervals.seeds_needed(0.0, 0.01)


def test_the_correlation_of_seeds_is_the_share_that_pairing_takes_away() -> None:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(rng.normal(0, 0.01, (1, 2000)) + rng.normal(0, 0.01, (6, 2000)))
    assert intervals.seed_correlation(frame) == pytest.approx(0.5, abs=0.04)
    paired = (frame.iloc[0] - frame.iloc[1]).var()
    assert paired == pytest.approx(frame.iloc[0].var() * 2 * 0.5, rel=0.15)
    assert intervals.seed_correlation(frame.iloc[:1]) is None
    assert intervals.seed_correlation(frame.iloc[:, :1]) is None


def test_choosing_on_test_classes_flatters_by_the_expected_maximum() -> None:
    rng = np.random.default_rng(9)
    # seven equal configurations: the best of seven normal draws lies 1.352 sd above the mean
    val, test = (pd.DataFrame(0.5 + rng.normal(0, 0.01, (7, 3000))) for _ in range(2))
    result = intervals.optimism(val, test)
    assert result.gap.mean == pytest.approx(0.01352, abs=0.0008)
    assert result.val_choice.mean == pytest.approx(0.5, abs=0.0008)
    assert result.elsewhere is not None
    assert result.elsewhere.mean == pytest.approx(0.01352, abs=0.0008)
    assert result.test_choice.mean - result.val_choice.mean == pytest.approx(result.gap.mean)


def test_optimism_of_one_seed_and_of_none() -> None:
    one = pd.DataFrame({0: [0.5, 0.6]})
    assert intervals.optimism(one, one).elsewhere is None
    assert intervals.optimism(one, one).gap.mean == 0
    with pytest.raises(ValueError, match="run the missing"):
        intervals.optimism(one, pd.DataFrame({1: [0.5, 0.6]}))
