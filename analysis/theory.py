"""Closed-form predictions about the softmax scale: plain functions of plain numbers.

Throughout, C is the number of training classes (`classes`), D the embedding size (`dim`), s the softmax scale
(`scale`), theta the angle of an embedding to its own class's proxy, in degrees. One unit proxy per class unless said.

Assumption A, where a docstring names it: all non-target cosines are 0, so that the other classes add C - 1 to the
softmax denominator. It holds at random initialization in high D, is off there by the factor exp(s^2 / 2D), and
late in training by the repulsion of the classes.

Where an argument is `Number`, a float gives a float and an array an array of the same shape.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Array = NDArray[np.float64]
Number = TypeVar("Number", float, Array)

SQRT2 = math.sqrt(2.0)


# AdaCos ------------------------------------------------------------------------------------------------------------


def adacos_fixed(classes: Number) -> Number:
    """sqrt(2) ln(C - 1): the scale at which an image at 45 degrees has probability 1/2, under A.

    Source: Zhang et al. 2019 (AdaCos), Eq. 12.
    """
    scale: Number = SQRT2 * np.log(np.subtract(classes, 1.0))
    return scale


def adacos_fixed_as_printed(classes: Number) -> Number:
    """2 ln(C - 1), as Sato 2021, 3.2.3 prints it: the root sign was lost, its own experiments use the right form."""
    scale: Number = 2.0 * np.log(np.subtract(classes, 1.0))
    return scale


def inflection_degrees(scale: float, classes: float) -> float:
    """Angle at which P(theta) falls fastest, degrees, under A.

    The root of s sin^2(theta) (1 - 2P) = cos(theta). It is unique: below the half-point angle the left side is
    negative, above it the left side rises while the right side falls. AdaCos takes it to be the half-point itself.
    """

    def slope(theta_deg: float) -> float:
        theta = math.radians(theta_deg)
        return scale * math.sin(theta) ** 2 * (1 - 2 * probability(theta_deg, scale, classes)) - math.cos(theta)

    return float(optimize.brentq(slope, 0.0, 90.0, xtol=1e-10))


def scale_with_inflection_at_45(classes: float) -> float | None:
    """The larger scale whose P(theta) falls fastest at exactly 45 degrees, under A; None where there is none.

    There s (1 - 2 P(45)) = sqrt(2). The left side starts at 0, has one maximum and is 0 again at AdaCos's scale, so the
    larger root lies between the maximum and that scale. C = 10 has no root.
    """

    def excess(scale: float) -> float:
        return scale * (1 - 2 * probability(45.0, scale, classes)) - SQRT2

    top = adacos_fixed(classes)
    peak = float(optimize.minimize_scalar(lambda s: -excess(s), bounds=(0.0, top), method="bounded").x)
    return float(optimize.brentq(excess, peak, top, xtol=1e-10)) if excess(peak) > 0 else None


def log_mean_exp_cosine(scale: float, dim: int) -> float:
    """ln E exp(s cos) for a random direction in D dimensions, about s^2 / 2D.

    E exp(s cos) = 0F1(; D/2; s^2/4), the normalizer of the von Mises-Fisher distribution.
    """
    value = float(special.hyp0f1(dim / 2, scale**2 / 4))
    if math.isfinite(value):
        return math.log(value)
    order = dim / 2 - 1  # for scales this large the Bessel form does not underflow
    bessel = math.log(float(special.ive(order, scale))) + scale
    return float(special.gammaln(dim / 2)) - order * math.log(scale / 2) + bessel


def adacos_start(classes: float, dim: int) -> float | None:
    """Fixed point of AdaCos's dynamic scale on a random initialization; None where the scale runs away.

    s = sqrt(2) (ln(C-1) + ln E exp(s cos)) with a median angle of at least 45 degrees. The right side minus s is
    convex, so there are two roots or none; the recursion settles at the smaller.
    """

    def excess(scale: float) -> float:
        return SQRT2 * (math.log(classes - 1) + log_mean_exp_cosine(scale, dim)) - scale

    highest = 4.0 * max(dim, 1) * SQRT2 + adacos_fixed(classes)
    lowest = float(optimize.minimize_scalar(excess, bounds=(0.0, highest), method="bounded").x)
    return float(optimize.brentq(excess, 0.0, lowest, xtol=1e-10)) if excess(lowest) <= 0 else None


def adacos_start_approximate(classes: float, dim: int) -> float | None:
    """(D / sqrt 2)(1 - sqrt(1 - 4 ln(C-1) / D)): `adacos_start` with log mean s^2 / 2D; None if D < 4 ln(C-1)."""
    inside = 1 - 4 * math.log(classes - 1) / dim
    return dim / SQRT2 * (1 - math.sqrt(inside)) if inside >= 0 else None


def adacos_end(classes: Number) -> Number:
    """ln(C - 1): the dynamic scale when every image sits on its proxy and the other cosines are 0 (A)."""
    scale: Number = np.log(np.subtract(classes, 1.0))
    return scale


def adacos_simplex(classes: Number) -> Number:
    """(C-1)/C ln(C-1): the dynamic scale at the best spread, every other cosine -1/(C-1) (needs D >= C - 1)."""
    scale: Number = np.subtract(classes, 1.0) / classes * np.log(np.subtract(classes, 1.0))
    return scale


def adacos_growth(largest_cosine: Number, median_deg: float) -> Number:
    """s'/s of the dynamic scale for large s: the batch's largest non-target cosine over cos(min(45, median angle)).

    Above 1 the scale grows without bound on a frozen batch.
    """
    growth: Number = np.divide(largest_cosine, math.cos(math.radians(min(45.0, median_deg))))
    return growth


# Lower bounds ------------------------------------------------------------------------------------------------------


def cosface_scale(classes: Number, probability_at_center: float) -> Number:
    """Smallest scale for own-class probability P_W at the class centers: (C-1)/C ln((C-1) P_W / (1 - P_W)).

    Reached at the simplex, which needs D >= C - 1. Source: Wang et al. 2018 (CosFace), without margin.
    """
    odds = probability_at_center / (1 - probability_at_center)
    scale: Number = np.subtract(classes, 1.0) / classes * np.log(np.subtract(classes, 1.0) * odds)
    return scale


def l2_softmax_scale(classes: Number, probability_at_center: float) -> Number:
    """ln(P (C-2) / (1 - P)): smallest scale with one class opposite and the others orthogonal, so D >= C/2.

    Source: Ranjan et al. 2017 (L2-constrained softmax).
    """
    odds = probability_at_center / (1 - probability_at_center)
    scale: Number = np.log(np.subtract(classes, 2.0) * odds)
    return scale


def normface_bound(scale: Number, classes: float) -> Number:
    """Smallest mean cross-entropy at a scale, balanced classes: ln(1 + (C-1) exp(-s C/(C-1))), in nats.

    Valid for any D; reached only if D >= C - 1. Source: Wang et al. 2017 (NormFace), whose l^2 is s.
    """
    bound: Number = np.log1p((classes - 1) * np.exp(np.multiply(scale, -classes / (classes - 1))))
    return bound


def normface_scale(loss: Number, classes: float) -> Number:
    """Scale whose `normface_bound` is `loss` (nats): (C-1)/C ln((C-1)/(e^L - 1)); cosface_scale at P_W = e^-L."""
    scale: Number = (classes - 1) / classes * np.log((classes - 1) / np.expm1(loss))
    return scale


# Probability and half-point ----------------------------------------------------------------------------------------


def probability(theta_deg: Number, scale: float, classes: float) -> Number:
    """Own-class probability at angle theta: 1 / (1 + (C-1) exp(-s cos theta)), under A.

    At 0 degrees it is the ceiling that training reaches without repulsion.
    """
    share: Number = special.expit(scale * np.cos(np.radians(theta_deg)) - math.log(classes - 1))
    return share


def arcface_probability(theta_deg: Number, scale: float, classes: float, margin_rad: float) -> Number:
    """As `probability`, with ArcFace's angle margin: target logit s cos(theta + m) (paper's formula, no guard)."""
    logit = scale * np.cos(np.radians(theta_deg) + margin_rad)
    share: Number = special.expit(logit - math.log(classes - 1))
    return share


def cosface_probability(theta_deg: Number, scale: float, classes: float, margin: float) -> Number:
    """As `probability`, with CosFace's (or SoftTriple's) cosine margin: the target logit is s (cos theta - m)."""
    logit = scale * (np.cos(np.radians(theta_deg)) - margin)
    share: Number = special.expit(logit - math.log(classes - 1))
    return share


def half_point_degrees(scale: Number, classes: float) -> Number:
    """Angle where P = 1/2, degrees, under A: arccos(ln(C-1)/s); nan where P stays below 1/2 (s < ln(C-1))."""
    return cosface_half_point_degrees(scale, classes, 0.0)


def arcface_half_point_degrees(scale: Number, classes: float, margin_rad: float) -> Number:
    """`half_point_degrees` less ArcFace's margin; nan where P stays below 1/2 at every theta >= 0."""
    half_point = half_point_degrees(scale, classes)
    angle: Number = _nan_below_zero(np.subtract(half_point, math.degrees(margin_rad)))
    return angle


def cosface_half_point_degrees(scale: Number, classes: float, margin: float) -> Number:
    """arccos(ln(C-1)/s + m) in degrees, for CosFace and SoftTriple; nan where the argument exceeds 1."""
    cosine = np.divide(math.log(classes - 1), scale) + margin
    # a scale of exactly ln(C-1) has its half-point at 0, and must not lose it to the last bit
    cosine = np.where(np.isclose(cosine, 1.0, rtol=0, atol=1e-12), 1.0, cosine)
    angle: Number = _arccos_degrees(cosine)
    return angle


def _arccos_degrees(cosine: Any) -> Any:
    """arccos in degrees, nan outside [-1, 1], without numpy's warning; [()] turns a 0-d array into a number."""
    return np.degrees(np.arccos(np.where(np.abs(cosine) <= 1, cosine, np.nan)))[()]


def _nan_below_zero(angle: Any) -> Any:
    return np.where(np.greater_equal(angle, 0), angle, np.nan)[()]


# Sharpness ---------------------------------------------------------------------------------------------------------


def softmax(scale: float, logits: Array) -> Array:
    """softmax(s z) of one vector (or of the last axis)."""
    shares: Array = special.softmax(scale * np.asarray(logits, dtype=np.float64), axis=-1)
    return shares


def effective_classes(shares: Array) -> float:
    """exp(entropy) of a distribution: as how many equally likely classes it counts."""
    return float(np.exp(special.entr(shares).sum()))


def effective_classes_at_start(scale: Number, classes: float, dim: int) -> Number:
    """C exp(-s^2 / 2D): effective number of classes of the softmax at random initialization, while s^2 < 2D."""
    count: Number = classes * np.exp(-np.square(scale) / (2 * dim))
    return count


# Gradient and loss -------------------------------------------------------------------------------------------------


def gradient_size(theta_deg: Number, scale: float, classes: float) -> Number:
    """|dL/dtheta| of one image, per radian, under A: s sin(theta) (1 - P). On the embedding divide by its length."""
    size: Number = scale * np.sin(np.radians(theta_deg)) * (1 - probability(theta_deg, scale, classes))
    return size


def loss_at(theta_deg: Number, scale: float, classes: float) -> Number:
    """Cross-entropy of one image at angle theta, nats, under A: ln(1 + (C-1) exp(-s cos theta)).

    With theta frozen it rises steeply as s falls, so losses at different scales are not comparable.
    """
    loss: Number = np.logaddexp(0.0, math.log(classes - 1) - scale * np.cos(np.radians(theta_deg)))
    return loss


def angle_of_loss(loss: Number, scale: float, classes: float) -> Number:
    """The single angle, degrees, at which `loss_at` is `loss` (nats); nan where no angle gives it."""
    angle: Number = _arccos_degrees((math.log(classes - 1) - np.log(np.expm1(loss))) / scale)
    return angle


# Geometry of the proxies -------------------------------------------------------------------------------------------


def random_cosine_variance(dim: Number) -> Number:
    """1 / D: variance of the cosine of two random directions, for any sign-symmetric exchangeable coordinates."""
    variance: Number = np.divide(1.0, dim)
    return variance


def random_cosine_variance_sd(dim: int, proxies: int) -> float:
    """Spread (sd over draws) of the mean squared cosine over all pairs of `proxies` random directions.

    Squared cosines of different pairs are uncorrelated and each has variance 2(D-1) / (D^2 (D+2)).
    """
    return math.sqrt(2 * (dim - 1) / (dim**2 * (dim + 2)) / math.comb(proxies, 2))


def share_of_random_angles(low_deg: float, high_deg: float, dim: int) -> float:
    """Share of pairs of random directions whose angle lies in [low, high]; (1 + cos)/2 is Beta((D-1)/2, (D-1)/2)."""
    low, high = (float((1 + np.cos(np.radians(angle))) / 2) for angle in (high_deg, low_deg))
    beta = stats.beta((dim - 1) / 2, (dim - 1) / 2)
    return float(beta.cdf(high) - beta.cdf(low))


def largest_random_cosine(dim: int, proxies: int) -> float:
    """Mean of the largest cosine over the pairs of `proxies` random directions; the smallest is its negative.

    Pairs are taken as independent; simulations agree to about .015. (The largest |cosine| is about .01 to .02 more.)
    """
    grid = np.linspace(-1.0, 1.0, 20001)
    not_above = stats.beta((dim - 1) / 2, (dim - 1) / 2).cdf((1 + grid) / 2) ** math.comb(proxies, 2)
    return float(np.trapezoid(1 - not_above, grid) - 1)


def simplex_cosine(classes: Number) -> Number:
    """-1 / (C-1): the smallest possible mean cosine of C unit vectors, reached by all pairs if D >= C - 1."""
    cosine: Number = np.divide(-1.0, np.subtract(classes, 1.0))
    return cosine


def smallest_mean_square_cosine(classes: int, dim: int) -> float:
    """Lower bound on the mean squared cosine over pairs of C unit vectors in D dimensions.

    The simplex's 1/(C-1)^2 if D >= C - 1, else the tight frame's (C-D) / (D (C-1)) (Welch 1974).
    """
    return 1 / (classes - 1) ** 2 if dim >= classes - 1 else (classes - dim) / (dim * (classes - 1))


def welch_bound(classes: int, dim: int) -> float:
    """Lower bound on the largest |cosine| of C unit vectors in D dimensions: root of `smallest_mean_square_cosine`."""
    return math.sqrt(smallest_mean_square_cosine(classes, dim))


def smallest_largest_cosine_in_the_plane(classes: int) -> float:
    """cos(2 pi / C): the largest cosine of C unit vectors in the plane is at least this."""
    return math.cos(2 * math.pi / classes)


class Cosines(NamedTuple):
    """Mean and mean square of the cosines of proxies of different classes."""

    mean: float
    mean_square: float


def random_between(dim: int) -> Cosines:
    """Cosines between random directions in D dimensions."""
    return Cosines(0.0, 1.0 / dim)


def best_spread_between(classes: int, dim: int) -> Cosines:
    """Cosines between C class directions that repel as far as D dimensions let them."""
    return Cosines(simplex_cosine(float(classes)), smallest_mean_square_cosine(classes, dim))


def within_class_share(classes: int, proxies_per_class: int) -> float:
    """Share of the pairs of all C K proxies that belong to one class: (K-1) / (CK-1)."""
    return (proxies_per_class - 1) / (classes * proxies_per_class - 1)


def merged_cosine_variance(classes: int, proxies_per_class: int, between: Cosines, within: float = 1.0) -> float:
    """Variance of the cosines over all pairs of C K proxies once those of a class have merged.

    within: cosine inside a class, 1 when merged. SoftTriple's regularizer merges the proxies of a class.
    """
    share = within_class_share(classes, proxies_per_class)
    mean = share * within + (1 - share) * between.mean
    return share * within**2 + (1 - share) * between.mean_square - mean**2
