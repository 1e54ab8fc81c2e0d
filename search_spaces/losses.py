"""One configuration type per loss; `LossConfig` is their tagged union.

Defaults are the papers' (each docstring names the equation's source); the formulas live in study/losses.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from search_spaces.base import Count, Fraction, Frozen, NonNegative, Positive
from search_spaces.schedules import ScaleSchedule

Margin = Annotated[float, Field(ge=0, lt=1)]


class Loss(Frozen):
    """Base of all losses. `needs_pairs`: batches must hold several images of each class."""

    @property
    def needs_pairs(self) -> bool:
        return False


class Softmax(Loss):
    """Cross-entropy on W x + b; neither side is normalized, so there is no scale."""

    kind: Literal["softmax"] = "softmax"


class NormalizedSoftmax(Loss):
    """Cross-entropy on s cos(x, w_c) (Wang et al. 2017, NormFace)."""

    kind: Literal["normalized_softmax"] = "normalized_softmax"
    scale: ScaleSchedule


class AdaCos(Loss):
    """Cosine softmax whose scale follows Zhang et al. 2019.

    mode: 'fixed' is s = sqrt(2) ln(C-1) (Eq. 12); 'dynamic' recomputes s from each training batch (Eq. 15).
    """

    kind: Literal["adacos"] = "adacos"
    mode: Literal["fixed", "dynamic"] = "fixed"


class SoftTriple(Loss):
    """K proxies per class, softly assigned (Qian et al. 2019). `scale` is the paper's lambda, `gamma` its gamma itself.

    hard: HardTriple, the best proxy only. proxy_init: 'xavier' (Sato 2021) or 'kaiming' (the authors' code).
    """

    kind: Literal["soft_triple"] = "soft_triple"
    scale: ScaleSchedule
    gamma: Positive = 0.1
    delta: Margin = 0.01
    tau: NonNegative = 0.2
    proxies_per_class: Count = 10
    hard: bool = False
    proxy_init: Literal["xavier", "kaiming"] = "xavier"


class ArcFace(Loss):
    """Target logit s cos(theta + margin_rad) (Deng et al. 2019).

    guarded: beyond theta = pi - m use s (cos theta - m sin m), as insightface does; False is the paper's formula.
    """

    kind: Literal["arcface"] = "arcface"
    scale: ScaleSchedule
    margin_rad: Annotated[float, Field(ge=0, lt=math.pi / 2)] = 0.5
    guarded: bool = True


class CosFace(Loss):
    """Target logit s (cos theta - margin) (Wang et al. 2018). AM-Softmax is the same formula."""

    kind: Literal["cosface"] = "cosface"
    scale: ScaleSchedule
    margin: Margin = 0.35


class Circle(Loss):
    """Circle loss (Sun et al. 2020).

    level: 'pair' over the batch's pairs, one loss per anchor (m = .4, gamma = 80 are usual); 'batch' one loss over all
    pairs; 'class' over proxies (m = .25, gamma = 256). weighting: False gives the unified loss (a_n = a_p = 1, one
    margin), whose limits are triplet and AM-Softmax.
    """

    kind: Literal["circle"] = "circle"
    level: Literal["pair", "batch", "class"] = "pair"
    m: Margin = 0.4
    gamma: Positive = 80.0
    weighting: bool = True

    @property
    def needs_pairs(self) -> bool:
        return self.level != "class"


class Center(Loss):
    """Plain softmax plus lambda/2 |x - c_y|^2, both as means over the batch (Wen et al. 2016).

    lambda_: weight of the center term (`lambda` in the paper and in the study file). alpha: the centers' own step,
    Eq. (4), not a gradient step.
    """

    kind: Literal["center"] = "center"
    lambda_: Annotated[NonNegative, Field(alias="lambda")] = 0.003
    alpha: Fraction = 0.5
    center_init: Literal["xavier", "zeros", "normal"] = "xavier"

    model_config = {"validate_by_name": True, "validate_by_alias": True, "serialize_by_alias": True}


class ProxyAnchor(Loss):
    """Kim et al. 2020, Eq. (4). `alpha` is its scale, `delta` its margin."""

    kind: Literal["proxy_anchor"] = "proxy_anchor"
    alpha: Positive = 32.0
    delta: Margin = 0.1


class ProxyNca(Loss):
    """Movshovitz-Attias et al. 2017. with_target: the target is in the denominator, as in ProxyNCA++ (sigma = 9)."""

    kind: Literal["proxy_nca"] = "proxy_nca"
    sigma: Positive = 1.0
    with_target: bool = False


class Contrastive(Loss):
    """Over all pairs of the batch. form: 'hadsell' (Hadsell et al. 2006, squared) or 'thesis' (Sato 2021, 2.3.2)."""

    kind: Literal["contrastive"] = "contrastive"
    margin: Positive = 1.0
    form: Literal["hadsell", "thesis"] = "hadsell"

    @property
    def needs_pairs(self) -> bool:
        return True


class Triplet(Loss):
    """Over triplets of the batch (Schroff et al. 2015).

    mining: 'all', 'semi_hard' (d_ap < d_an < d_ap + margin) or 'hard' (each anchor's farthest positive and nearest
    negative). average: over all mined triplets or over those with a loss above 0.
    """

    kind: Literal["triplet"] = "triplet"
    margin: Positive = 0.2
    distance: Literal["euclidean", "squared"] = "euclidean"
    mining: Literal["all", "semi_hard", "hard"] = "all"
    average: Literal["all", "nonzero"] = "all"

    @property
    def needs_pairs(self) -> bool:
        return True


LossConfig = Annotated[
    Softmax
    | NormalizedSoftmax
    | AdaCos
    | SoftTriple
    | ArcFace
    | CosFace
    | Circle
    | Center
    | ProxyAnchor
    | ProxyNca
    | Contrastive
    | Triplet,
    Field(discriminator="kind"),
]

ScaledLoss = NormalizedSoftmax | SoftTriple | ArcFace | CosFace


def schedule_of(loss: LossConfig) -> ScaleSchedule | None:
    """The scale schedule of `loss`, or None for a loss without one (AdaCos reads its scale from the batch)."""
    return loss.scale if isinstance(loss, ScaledLoss) else None


def adacos_fixed_scale(classes: int) -> float:
    """sqrt(2) ln(C - 1) (Zhang et al. 2019, Eq. 12).

    Raises: ValueError if classes < 3; at C = 2 the scale would be 0 and nothing would learn.
    """
    if classes < 3:
        raise ValueError(f"AdaCos needs at least 3 training classes, got {classes}; its scale would be 0")
    return math.sqrt(2.0) * math.log(classes - 1)
