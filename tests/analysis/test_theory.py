"""The worked values of every prediction, typed anew, to their printed digits.

Each was computed in float64 from the formula alone; a printed value is met if rounding ours gives it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis import theory
from search_spaces.losses import adacos_fixed_scale

CLASSES = (10, 98, 100, 121, 1000)


def met(ours: float | None, printed: str) -> bool:
    """Whether `ours` rounds to `printed`, a decimal or e-notation number; one half unit of its last digit is let be."""
    assert ours is not None
    mantissa, _, exponent = printed.partition("e")
    digits = len(mantissa.partition(".")[2])
    return abs(float(ours) - float(printed)) <= 0.5000001 * 10.0 ** (int(exponent or 0) - digits)


def by_classes(*rows: str) -> list[tuple[int, str]]:
    """(C, printed value) for one row of a table over C = 10, 98, 100, 121, 1000."""
    return [pair for row in rows for pair in zip(CLASSES, row.split(), strict=True)]


# AdaCos ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "row"),
    [
        (theory.adacos_end, "2.1972 4.5747 4.5951 4.7875 6.9068"),
        (theory.adacos_fixed, "3.1073 6.4696 6.4985 6.7705 9.7676"),
        (theory.adacos_fixed_as_printed, "4.3944 9.1494 9.1902 9.5750 13.8135"),
        (lambda c: theory.inflection_degrees(theory.adacos_fixed(c), c), "57.06 49.29 49.25 48.98 47.13"),
        (lambda c: theory.adacos_start(c, 64), "3.2219 7.0093 7.0434 7.3663 11.1128"),
        (lambda c: theory.adacos_start(c, 512), "3.1208 6.5285 6.5579 6.8351 9.9030"),
        (theory.adacos_simplex, "1.9775 4.5280 4.5492 4.7479 6.8998"),
    ],
)
def test_adacos_scales_by_number_of_classes(function, row):
    for classes, printed in by_classes(row):
        assert met(function(float(classes)), printed), (classes, function(float(classes)), printed)


def test_the_scale_whose_inflection_is_45_degrees() -> None:
    assert theory.scale_with_inflection_at_45(10) is None
    for classes, printed in zip(CLASSES[1:], ("5.7608", "5.7939", "6.1030", "9.3358"), strict=True):
        scale = theory.scale_with_inflection_at_45(classes)
        assert met(scale, printed)
        assert theory.inflection_degrees(scale, classes) == pytest.approx(45, abs=1e-6)


def test_the_inflection_is_where_the_probability_falls_fastest() -> None:
    angles = np.linspace(0, 90, 90001)
    fall = -np.gradient(theory.probability(angles, 6.5, 100))
    assert theory.inflection_degrees(6.5, 100) == pytest.approx(angles[fall.argmax()], abs=2e-3)


@pytest.mark.parametrize("classes", CLASSES)
def test_dynamic_adacos_has_no_fixed_point_in_the_plane(classes):
    assert theory.adacos_start(classes, 2) is None
    assert theory.adacos_start_approximate(classes, 2) is None


def test_the_approximate_start_is_near_and_exists_from_four_logarithms_of_dimensions() -> None:
    assert theory.adacos_start_approximate(100, 64) == pytest.approx(theory.adacos_start(100, 64), abs=0.005)
    assert theory.adacos_start_approximate(100, math.floor(4 * math.log(99))) is None
    assert theory.adacos_start_approximate(100, math.ceil(4 * math.log(99))) is not None


def test_the_mean_exponential_cosine_is_that_of_random_directions() -> None:
    x = np.random.default_rng(0).normal(size=(200_000, 16))
    cosine = x[:, 0] / np.linalg.norm(x, axis=1)
    assert theory.log_mean_exp_cosine(5.0, 16) == pytest.approx(math.log(np.exp(5 * cosine).mean()), abs=0.005)
    assert theory.log_mean_exp_cosine(0.5, 512) == pytest.approx(0.5**2 / 1024, rel=1e-3)


def test_the_mean_exponential_cosine_keeps_its_slope_where_the_plain_form_overflows() -> None:
    low, high = (theory.log_mean_exp_cosine(scale, 4) for scale in (700.0, 720.0))
    assert 0.99 < (high - low) / 20 < 1


def test_a_batch_grows_the_dynamic_scale_by_at_most_the_root_of_two() -> None:
    assert theory.adacos_growth(1.0, 126.87) == pytest.approx(math.sqrt(2))
    assert theory.adacos_growth(0.5, 30.0) == pytest.approx(0.5 / math.cos(math.pi / 6))


def test_the_training_code_and_the_theory_have_one_fixed_scale() -> None:
    for classes in CLASSES:
        assert theory.adacos_fixed(float(classes)) == pytest.approx(adacos_fixed_scale(classes), rel=1e-15)


# Lower bounds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probability", "row"),
    [
        (0.5, "1.9775 4.5280 4.5492 4.7479 6.8998"),
        (0.9, "3.9550 6.7028 6.7244 6.9270 9.0949"),
        (0.99, "6.1131 9.0763 9.0983 9.3051 11.4904"),
        (0.999, "8.1936 11.3643 11.3869 11.5976 13.7997"),
    ],
)
def test_cosface_lower_bound(probability, row):
    for classes, printed in by_classes(row):
        assert met(theory.cosface_scale(classes, probability), printed)


@pytest.mark.parametrize(
    ("probability", "row"),
    [(0.9, "4.2767 6.7616 6.7822 6.9763 9.1030"), (0.99, "6.6746 9.1595 9.1801 9.3742 11.5009")],
)
def test_l2_softmax_lower_bound(probability, row):
    for classes, printed in by_classes(row):
        assert met(theory.l2_softmax_scale(classes, probability), printed)


NORMFACE = {
    1.0: "1.37693 3.59232 3.61238 3.80174 5.90847",
    3.0: ".278439 1.73735 1.75471 1.92088 3.92372",
    5.0: ".0342017 .482886 .491156 .574114 2.04091",
    6.5: ".0065501 .127849 .130486 .157773 .913164",
    10.0: "1.34499e-4 .00396454 .00405454 .00499987 .0439239",
    20.0: "2.01027e-9 1.62681e-7 1.66728e-7 2.09367e-7 2.01828e-6",
}


@pytest.mark.parametrize("scale", NORMFACE)
def test_normface_bound_on_the_loss(scale):
    for classes, printed in by_classes(NORMFACE[scale]):
        assert met(theory.normface_bound(scale, classes), printed)


@pytest.mark.parametrize(
    ("scale", "row"),
    [
        (1.0, ".2320 .0273 .0267 .0222 .0027"),
        (6.5, ".9866 .8727 .8704 .8472 .3997"),
        (10.0, ".9996 .9956 .9955 .9946 .9566"),
    ],
)
def test_ceiling_of_the_probability_without_repulsion(scale, row):
    for classes, printed in by_classes(row):
        assert met(theory.probability(0.0, scale, classes), printed)


def test_normface_and_cosface_state_the_same_bound() -> None:
    for probability in (0.5, 0.9, 0.999):
        scale = theory.normface_scale(-math.log(probability), 100)
        assert scale == pytest.approx(theory.cosface_scale(100, probability))
        assert theory.normface_bound(scale, 100) == pytest.approx(-math.log(probability))


def test_no_class_arrangement_is_below_the_normface_bound() -> None:
    rng = np.random.default_rng(1)
    for dim in (2, 5, 20):
        proxies = rng.normal(size=(10, dim))
        proxies /= np.linalg.norm(proxies, axis=1, keepdims=True)
        logits = 7.0 * proxies @ proxies.T
        loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
        assert loss >= theory.normface_bound(7.0, 10)


def test_the_simplex_reaches_the_normface_bound() -> None:
    logits = 3.0 * np.where(np.eye(10), 1.0, theory.simplex_cosine(10.0))
    loss = np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))
    assert loss == pytest.approx(theory.normface_bound(3.0, 10), rel=1e-12)


# Probability, half-point, margins ----------------------------------------------------------------------------------

HALF_POINT_CLASSES = (10, 98, 100, 121, 1000, 2000, 20000)


@pytest.mark.parametrize(
    ("scale", "row"),
    [
        (6.5, "70.24 45.27 45.01 42.56"),
        (10.0, "77.31 62.78 62.64 61.40 46.32 40.53 7.97"),
        (15.0, "81.58 72.24 72.16 71.39 62.58 59.56 48.68"),
        (20.0, "83.69 76.78 76.72 76.15 69.80 67.67 60.32"),
        (30.0, "85.80 81.23 81.19 80.82 76.69 75.32 70.72"),
    ],
)
def test_half_point_angles(scale, row):
    for classes, printed in zip(HALF_POINT_CLASSES, row.split(), strict=False):
        assert met(theory.half_point_degrees(scale, classes), printed)


@pytest.mark.parametrize("classes", HALF_POINT_CLASSES)
def test_adacos_puts_the_half_point_at_45_degrees(classes):
    assert theory.half_point_degrees(theory.adacos_fixed(float(classes)), classes) == pytest.approx(45, abs=1e-9)


def test_adacos_fixed_scale_of_thousands_of_classes() -> None:
    assert met(theory.adacos_fixed(2000.0), "10.749")
    assert met(theory.adacos_fixed(20000.0), "14.006")


def test_the_half_point_starts_at_zero_degrees_and_does_not_exist_below() -> None:
    start = math.log(99)
    assert theory.half_point_degrees(start, 100) == 0
    assert math.isnan(theory.half_point_degrees(start - 0.01, 100))
    angles = theory.half_point_degrees(np.array([1.0, start, 6.5]), 100)
    assert np.isnan(angles[0])
    assert angles[1] == 0
    assert met(angles[2], "45.01")


@pytest.mark.parametrize(
    ("theta", "row"),
    [
        (0.0, ".7130 .8693 .8703 .8790 .9459"),
        (30.0, ".6210 .7366 .7374 .7457 .8252"),
        (45.0, ".5000 .5000 .5000 .5000 .5000"),
        (60.0, ".3444 .2075 .2065 .1975 .1168"),
    ],
)
def test_probability_at_the_fixed_scale(theta, row):
    for classes, printed in by_classes(row):
        assert met(theory.probability(theta, theory.adacos_fixed(float(classes)), classes), printed)


def test_probability_at_right_angles_is_that_of_chance() -> None:
    for classes in CLASSES:
        assert theory.probability(90.0, 6.5, classes) == pytest.approx(1 / classes)


@pytest.mark.parametrize(
    ("theta", "row"), [(45.0, "1.0000 .9999 .9999 .9999 .9993"), (60.0, ".9996 .9956 .9955 .9946 .9566")]
)
def test_probability_at_scale_20(theta, row):
    for classes, printed in by_classes(row):
        assert met(theory.probability(theta, 20.0, classes), printed)


@pytest.mark.parametrize(
    ("half_point", "row"),
    [
        (lambda c: theory.arcface_half_point_degrees(20.0, c, 0.5), "55.04 48.13 48.07 47.50 41.15"),
        (lambda c: theory.arcface_half_point_degrees(30.0, c, 0.5), "57.15 52.58 52.54 52.17 48.04"),
        (lambda c: theory.arcface_half_point_degrees(64.0, c, 0.5), "59.38 57.25 57.23 57.06 55.16"),
        (lambda c: theory.cosface_half_point_degrees(20.0, c, 0.35), "62.62 54.64 54.57 53.89 45.95"),
        (lambda c: theory.cosface_half_point_degrees(64.0, c, 0.35), "67.40 65.07 65.05 64.86 62.75"),
        (lambda c: theory.cosface_half_point_degrees(20.0, c, 0.01), "83.12 76.19 76.13 75.56 69.19"),
    ],
)
def test_half_points_with_a_margin(half_point, row):
    for classes, printed in by_classes(row):
        assert met(half_point(classes), printed)


def test_half_points_with_a_margin_are_where_the_probability_is_a_half() -> None:
    angle = theory.arcface_half_point_degrees(20.0, 100, 0.5)
    assert theory.arcface_probability(angle, 20.0, 100, 0.5) == pytest.approx(0.5)
    angle = theory.cosface_half_point_degrees(20.0, 100, 0.35)
    assert theory.cosface_probability(angle, 20.0, 100, 0.35) == pytest.approx(0.5)


def test_a_margin_can_take_the_half_point_away() -> None:
    assert math.isnan(theory.cosface_half_point_degrees(6.5, 100, 0.35))
    assert math.isnan(theory.arcface_half_point_degrees(5.0, 100, 0.5))


# Sharpness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "shares", "count"),
    [
        (1.0, ".2138 .2363 .2612 .2887", "3.9752"),
        (2.0, ".1807 .2207 .2695 .3292", "3.9029"),
        (5.0, ".1015 .1674 .2760 .4551", "3.4731"),
        (10.0, ".0321 .0871 .2369 .6439", "2.5793"),
    ],
)
def test_softmax_of_one_vector(scale, shares, count):
    ours = theory.softmax(scale, np.array([0.1, 0.2, 0.3, 0.4]))
    assert all(met(share, printed) for share, printed in zip(ours, shares.split(), strict=True))
    assert met(theory.effective_classes(ours), count)


def test_effective_classes_of_certain_and_uniform_distributions() -> None:
    assert theory.effective_classes(np.array([1.0, 0.0, 0.0])) == 1
    assert theory.effective_classes(np.full(7, 1 / 7)) == pytest.approx(7)


def test_effective_classes_at_random_initialization() -> None:
    for classes, printed in by_classes("7.2 70.4 71.9 87.0 719"):
        assert met(theory.effective_classes_at_start(6.5, classes, 64), printed)


# Gradient and loss -------------------------------------------------------------------------------------------------

ANGLES = (5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0)
GRADIENT = {
    1.0: ".0848 .1691 .3334 .4883 .6929 .8518 .9535 .99",
    3.0: ".2178 .4364 .8775 1.3207 1.9565 2.4856 2.8355 2.97",
    5.0: ".1764 .3634 .8109 1.4147 2.6255 3.8557 4.6580 4.95",
    6.5: ".0750 .1593 .4013 .8525 2.2969 4.4658 5.9550 6.435",
    10.0: ".0041 .0090 .0279 .0844 .5484 3.4653 8.5149 9.9",
    15.0: ".0000 .0001 .0004 .0017 .0259 .6744 9.7224 14.85",
    20.0: ".0000 .0000 .0000 .0000 .0010 .0775 6.9284 19.8",
    30.0: ".0000 .0000 .0000 .0000 .0000 .0008 1.1687 29.7",
}


@pytest.mark.parametrize("scale", GRADIENT)
def test_gradient_sizes_at_100_classes(scale):
    for angle, printed in zip(ANGLES, GRADIENT[scale].split(), strict=True):
        assert met(theory.gradient_size(angle, scale, 100), printed), angle


@pytest.mark.parametrize(("scale", "row"), [(5.0, ".265 1.402 1.415 1.531 2.323"), (10.0, ".0078 .083 .084 .102 .738")])
def test_gradient_sizes_at_30_degrees(scale, row):
    for classes, printed in by_classes(row):
        assert met(theory.gradient_size(30.0, scale, classes), printed)


@pytest.mark.parametrize("classes", CLASSES)
def test_scale_20_has_finished_with_an_image_at_30_degrees(classes):
    assert theory.gradient_size(30.0, 20.0, classes) < 0.0004


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    step = 1e-4
    slope = (theory.loss_at(40 + step, 5.0, 100) - theory.loss_at(40 - step, 5.0, 100)) / math.radians(2 * step)
    assert slope == pytest.approx(theory.gradient_size(40.0, 5.0, 100), rel=1e-6)


@pytest.mark.parametrize(
    ("theta", "row"),
    [
        (0.0, ".0000 .0000 .0045 .5111 2.2112"),
        (30.0, ".0000 .0002 .0170 .8344 2.5144"),
        (45.0, ".0001 .0024 .0807 1.3572 2.8848"),
    ],
)
def test_loss_of_frozen_embeddings_as_the_scale_falls(theta, row):
    for scale, printed in zip((20.0, 15.0, 10.0, 5.0, 2.5), row.split(), strict=True):
        assert met(theory.loss_at(theta, scale, 100), printed)


@pytest.mark.parametrize(("loss", "printed"), [(2.033, "57.3"), (2.033 - 0.1414, "55.0"), (1.972, "56.3")])
def test_the_angle_that_a_loss_means(loss, printed):
    angle = theory.angle_of_loss(loss, 5.0, 100)
    assert met(angle, printed)
    assert theory.loss_at(angle, 5.0, 100) == pytest.approx(loss)


def test_a_loss_that_no_angle_gives_has_none() -> None:
    assert math.isnan(theory.angle_of_loss(1e-9, 5.0, 100))


# Geometry of the proxies -------------------------------------------------------------------------------------------


def test_random_directions_have_cosine_variance_one_over_dimensions() -> None:
    assert theory.random_cosine_variance(64.0) == 0.015625
    assert met(theory.random_cosine_variance(512.0), ".001953")
    assert met(math.sqrt(theory.random_cosine_variance(64.0)), ".125")
    assert met(math.sqrt(theory.random_cosine_variance(512.0)), ".0442")


def test_spread_of_the_variance_over_draws() -> None:
    assert met(theory.random_cosine_variance_sd(64, 100), ".00031")
    assert met(theory.random_cosine_variance_sd(64, 1000), "3.05e-5")


def test_spread_of_the_variance_over_draws_is_that_of_xavier_proxies() -> None:
    rng = np.random.default_rng(2)
    draws = []
    for _ in range(100):
        proxies = rng.uniform(-1, 1, (100, 64))
        proxies /= np.linalg.norm(proxies, axis=1, keepdims=True)
        draws.append(np.mean((proxies @ proxies.T)[np.triu_indices(100, 1)] ** 2))
    assert np.mean(draws) == pytest.approx(1 / 64, abs=4 * np.std(draws) / 10)
    assert np.std(draws) == pytest.approx(theory.random_cosine_variance_sd(64, 100), rel=0.25)


@pytest.mark.parametrize(
    ("dim", "proxies", "simulated"), [(64, 100, 0.44), (64, 1000, 0.55), (512, 100, 0.16), (512, 1000, 0.21)]
)
def test_the_largest_cosine_of_random_proxies(dim, proxies, simulated):
    assert theory.largest_random_cosine(dim, proxies) == pytest.approx(simulated, abs=0.005)


def test_share_of_random_pairs_near_the_right_angle() -> None:
    assert round(theory.share_of_random_angles(75, 105, 64), 2) == 0.96
    assert round(theory.share_of_random_angles(75, 105, 512), 4) == 1


def test_best_spread_of_the_proxies() -> None:
    for classes, printed in by_classes("-.111111 -.010309 -.010101 -.008333 -.001001"):
        assert met(theory.simplex_cosine(float(classes)), printed)
    for classes, printed in zip(CLASSES, (".80902", ".99795", ".99803", ".99865", ".99998"), strict=True):
        assert met(theory.smallest_largest_cosine_in_the_plane(classes), printed)


@pytest.mark.parametrize(
    ("dim", "row"), [(2, ".6667 .7035 .7035 .7042 .7068"), (64, "simplex .0740 .0754 .0862 .1210")]
)
def test_welch_bound(dim, row):
    for classes, printed in by_classes(row):
        ours = theory.welch_bound(classes, dim)
        assert ours == pytest.approx(1 / (classes - 1)) if printed == "simplex" else met(ours, printed)


def test_welch_bound_at_512_dimensions() -> None:
    assert [theory.welch_bound(c, 512) for c in CLASSES[:4]] == pytest.approx([1 / (c - 1) for c in CLASSES[:4]])
    assert met(theory.welch_bound(1000, 512), ".0309")


@pytest.mark.parametrize(
    ("dim", "row"), [(64, ".0123 .0055 .0057 .0074 .0146"), (512, ".0123 .0001 .0001 .0001 .0010")]
)
def test_smallest_mean_square_cosine(dim, row):
    for classes, printed in by_classes(row):
        assert met(theory.smallest_mean_square_cosine(classes, dim), printed)


def test_share_of_pairs_within_a_class() -> None:
    for classes, printed in by_classes(".09091 .00919 .00901 .00744 .00090"):
        assert met(theory.within_class_share(classes, 10), printed)


@pytest.mark.parametrize(
    ("dim", "row"), [(64, ".1020 .0146 .0146 .0148 .0155"), (512, ".1020 .0093 .0091 .0075 .0019")]
)
def test_variance_of_merged_proxies_at_their_best_spread(dim, row):
    for classes, printed in by_classes(row):
        between = theory.best_spread_between(classes, dim)
        assert met(theory.merged_cosine_variance(classes, 10, between), printed)


def test_variance_of_merged_proxies_between_random_classes() -> None:
    assert met(theory.merged_cosine_variance(100, 10, theory.random_between(64)), ".0244")
    assert met(theory.merged_cosine_variance(100, 10, theory.random_between(512)), ".0109")
