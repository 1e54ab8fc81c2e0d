"""Softmax cross-entropy: on plain logits, and on scaled cosines (NormFace)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from study.losses.base import LossModule, LossOutput
from study.losses.proxies import cosines
from study.losses.scale import ScaledLoss


class LinearClassifier(LossModule):
    """Base of losses on logits W x + b; weight (C, D) as given, bias 0."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(weight.new_zeros(weight.shape[0]))

    def logits(self, embeddings: Tensor) -> Tensor:
        """(B, C) logits of `embeddings` (B, D); neither side is normalized."""
        return F.linear(embeddings, self.weight, self.bias)

    def similarities(self, embeddings: Tensor) -> Tensor | None:
        """(B, C) logits, detached."""
        with torch.no_grad():
            return self.logits(embeddings)


class SoftmaxLoss(LinearClassifier):
    """Mean cross-entropy on W x + b; there is no scale, as |W| and |x| would absorb it."""

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        logits = self.logits(embeddings)
        return LossOutput(F.cross_entropy(logits, labels), similarities=logits.detach())


def normalized_softmax(cosines: Tensor, labels: Tensor, scale: float | Tensor) -> Tensor:
    """Mean cross-entropy on scaled cosines.

    Args: cosines (B, C); labels (B,) int64 in [0, C); scale: softmax scale s, dimensionless.
    Returns: scalar, in nats.
    Source: Wang et al. 2017 (NormFace); Sato 2021, 3.2.1.
    """
    return F.cross_entropy(scale * cosines, labels)


class NormalizedSoftmaxLoss(ScaledLoss):
    """Cosine softmax with one proxy per class, no bias and no margin."""

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        cosine = cosines(embeddings, self.weight)
        return LossOutput(
            normalized_softmax(cosine, labels, self.current_scale(scale)),
            similarities=cosine.detach(),
        )
