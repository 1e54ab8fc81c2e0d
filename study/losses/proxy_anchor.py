"""Proxy Anchor: each proxy pulls and pushes the samples of the batch, the hard ones most."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from study.losses.base import LossOutput
from study.losses.proxies import ProxyLoss, cosines


def proxy_anchor(cosines: Tensor, labels: Tensor, alpha: float, delta: float) -> Tensor:
    """Pull of the proxies that have a sample in the batch, plus push of all proxies.

        1/|P+| sum_{p in P+} log(1 + sum_{x of p} exp(-alpha (cos - delta)))
        + 1/C  sum_p         log(1 + sum_{x not of p} exp(alpha (cos + delta)))

    Args: cosines (B, C); labels (B,) int64 in [0, C); alpha: scale, dimensionless; delta: margin, in cosine.
    Returns: scalar, at least 0.
    Source: Kim et al. 2020 (Proxy Anchor), Eq. (4).
    """
    own = torch.zeros_like(cosines, dtype=torch.bool).scatter(1, labels[:, None], True)
    pull = (-alpha * (cosines - delta)).masked_fill(~own, -math.inf)
    push = (alpha * (cosines + delta)).masked_fill(own, -math.inf)
    # A row of 0 is the 1 in log(1 + sum); it also makes the pull of a proxy without a sample exactly 0.
    pull, push = (F.pad(logits, (0, 0, 1, 0)).logsumexp(0) for logits in (pull, push))
    return pull.sum() / own.any(0).sum() + push.mean()


class ProxyAnchorLoss(ProxyLoss):
    """See proxy_anchor. weight: (C, D)."""

    def __init__(self, weight: Tensor, *, alpha: float, delta: float) -> None:
        super().__init__(weight)
        self.alpha, self.delta = alpha, delta

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        cosine = cosines(embeddings, self.weight)
        return LossOutput(proxy_anchor(cosine, labels, self.alpha, self.delta), similarities=cosine.detach())


def kaiming_normal(classes: int, embedding_dim: int, generator: torch.Generator) -> Tensor:
    """(C, D) proxies, normal with standard deviation sqrt(2 / C): the authors' kaiming_normal, fan_out."""
    return torch.randn(classes, embedding_dim, generator=generator) * math.sqrt(2 / classes)
