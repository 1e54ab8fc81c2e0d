"""ArcFace: cosine softmax with a margin added to the target's angle."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from study.losses.base import LossOutput
from study.losses.proxies import cosines
from study.losses.scale import ScaledLoss, TrainedScale
from study.losses.softmax import normalized_softmax


def shifted_cosine(cosine: Tensor, margin_rad: float, guarded: bool) -> Tensor:
    """cos(theta + margin) of the angle theta whose cosine is given.

    Beyond theta = pi - margin that rises again, and would reward a sample for turning away: `guarded` goes on there
    with cos(theta) - margin sin(margin), which still falls. At the seam it jumps down by cos m + m sin m - 1 (0.117 for
    m = 0.5), as in insightface.

    Args: cosine of any shape; margin_rad: margin m in radians.
    Returns: the same shape, dimensionless. The gradient is finite everywhere.
    Source: Deng et al. 2019 (ArcFace), Eq. (3); the guard from insightface's code.
    """
    # A floor under sin^2 and not a clamp of the cosine: exact values at 0 and pi, yet no infinite slope there.
    sine = (1 - cosine.square()).clamp_min(torch.finfo(cosine.dtype).tiny).sqrt()
    shifted = cosine * math.cos(margin_rad) - sine * math.sin(margin_rad)
    if not guarded:
        return shifted
    return torch.where(cosine > -math.cos(margin_rad), shifted, cosine - margin_rad * math.sin(margin_rad))


class ArcFaceLoss(ScaledLoss):
    """Mean cross-entropy on s cos(theta + margin [target]).

    weight: (C, D). margin_rad, guarded: see shifted_cosine.
    Source: Deng et al. 2019 (ArcFace), Eq. (3).
    """

    def __init__(self, weight: Tensor, trained_scale: TrainedScale | None, *, margin_rad: float, guarded: bool) -> None:
        super().__init__(weight, trained_scale)
        self.margin_rad, self.guarded = margin_rad, guarded

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        cosine = cosines(embeddings, self.weight)
        target = labels[:, None]
        logits = cosine.scatter(1, target, shifted_cosine(cosine.gather(1, target), self.margin_rad, self.guarded))
        return LossOutput(
            normalized_softmax(logits, labels, self.current_scale(scale)),
            similarities=cosine.detach(),
        )
