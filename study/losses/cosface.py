"""CosFace: cosine softmax with a margin taken from the target's cosine."""

from __future__ import annotations

from torch import Tensor

from study.losses.base import LossOutput
from study.losses.proxies import cosines, with_margin
from study.losses.scale import ScaledLoss, TrainedScale
from study.losses.softmax import normalized_softmax


class CosFaceLoss(ScaledLoss):
    """Mean cross-entropy on s (cos - margin [target]).

    weight: (C, D). margin: in cosine.
    Source: Wang et al. 2018 (CosFace), Eq. (4).
    """

    def __init__(self, weight: Tensor, trained_scale: TrainedScale | None, *, margin: float) -> None:
        super().__init__(weight, trained_scale)
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        cosine = cosines(embeddings, self.weight)
        logits = with_margin(cosine, labels, self.margin)
        return LossOutput(
            normalized_softmax(logits, labels, self.current_scale(scale)),
            similarities=cosine.detach(),
        )
