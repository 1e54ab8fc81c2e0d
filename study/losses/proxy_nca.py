"""Proxy-NCA: the own proxy near, all others far, in squared distance."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from study.losses.base import LossOutput
from study.losses.proxies import ProxyLoss, cosines


def proxy_nca(cosines: Tensor, labels: Tensor, sigma: float, with_target: bool) -> Tensor:
    """Mean of sigma d_y + log sum_c exp(-sigma d_c), where d = 2 - 2 cos is the squared distance of unit vectors.

    The original sums over c != y, so the loss may be negative; `with_target` sums over all c, which is cosine softmax
    with s = 2 sigma.

    Args: cosines (B, C); labels (B,) int64 in [0, C); sigma: inverse temperature, dimensionless.
    Returns: scalar, in nats.
    Source: Movshovitz-Attias et al. 2017 (Proxy-NCA); with_target from Teh et al. 2020 (ProxyNCA++).
    """
    logits = -sigma * (2 - 2 * cosines)
    if with_target:
        return F.cross_entropy(logits, labels)
    target = labels[:, None]
    return (logits.scatter(1, target, -math.inf).logsumexp(1) - logits.gather(1, target).squeeze(1)).mean()


class ProxyNcaLoss(ProxyLoss):
    """See proxy_nca. weight: (C, D)."""

    def __init__(self, weight: Tensor, *, sigma: float, with_target: bool) -> None:
        super().__init__(weight)
        self.sigma, self.with_target = sigma, with_target

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        cosine = cosines(embeddings, self.weight)
        return LossOutput(proxy_nca(cosine, labels, self.sigma, self.with_target), similarities=cosine.detach())
