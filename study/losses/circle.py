"""Circle loss: each similarity weighted by its distance from the optimum; over the batch's pairs, or over proxies."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from study.losses.base import LossModule, LossOutput
from study.losses.pairs import others, pair_cosines, same_class
from study.losses.proxies import ProxyLoss, cosines
from study.losses.running import RunningMean


def positive_logits(similarities: Tensor, m: float, gamma: float, weighting: bool) -> Tensor:
    """gamma a_p (s_p - (1 - m)) with a_p = [1 + m - s_p]_+ held constant; without weighting gamma s_p.

    Args: within-class similarities s_p of any shape, in [-1, 1], to be raised; m: relaxation; gamma: scale.
    Source: Sun et al. 2020 (Circle loss), Eq. (4) to (6); without weighting Eq. (1).
    """
    if not weighting:
        return gamma * similarities
    weights = (1 + m - similarities.detach()).clamp_min(0)
    return gamma * weights * (similarities - (1 - m))


def negative_logits(similarities: Tensor, m: float, gamma: float, weighting: bool) -> Tensor:
    """gamma a_n (s_n - m) with a_n = [s_n + m]_+ held constant; without weighting gamma (s_n + m).

    Args: between-class similarities s_n of any shape, in [-1, 1], to be lowered; m: relaxation; gamma: scale.
    Source: Sun et al. 2020 (Circle loss), Eq. (4) to (6); without weighting Eq. (1).
    """
    if not weighting:
        return gamma * (similarities + m)
    weights = (similarities.detach() + m).clamp_min(0)
    return gamma * weights * (similarities - m)


def circle_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """log(1 + sum_j exp(n_j) sum_i exp(-p_i)), one value for each row.

    Args: logits of positives (..., I) and negatives (..., J); +inf and -inf leave an entry out, but not all of a row.
    Returns: (...), at least 0.
    Source: Sun et al. 2020 (Circle loss), Eq. (6).
    """
    # The default threshold of softplus, 20, would be off by 2e-9; exp(40) is still small for float32.
    return F.softplus(torch.logsumexp(negative, -1) + torch.logsumexp(-positive, -1), threshold=40)


class SimilarityMeans:
    """Means of s_p and s_n over an epoch."""

    def __init__(self) -> None:
        self._within, self._between = RunningMean(), RunningMean()

    def add(self, similarities: Tensor, positive: Tensor, negative: Tensor) -> None:
        """Add a batch: similarities and two boolean masks of its shape."""
        similarities = similarities.detach()
        self._within.add((similarities * positive).sum(), positive.sum())
        self._between.add((similarities * negative).sum(), negative.sum())

    def take(self) -> dict[str, float]:
        """`mean_s_p` and `mean_s_n` since the last call, as far as there were any."""
        means = {"mean_s_p": self._within.take(), "mean_s_n": self._between.take()}
        return {name: mean for name, mean in means.items() if mean is not None}


class CirclePairLoss(LossModule):
    """Circle loss over the pairs of a batch: the mean of one loss for each anchor, or one loss for the whole batch.

    m, gamma, weighting: see positive_logits. whole_batch: one loss over all pairs i < j; the batch's hardest pairs then
    decide for everyone.
    Source: Sun et al. 2020 (Circle loss), Eq. (6); whole_batch from TinyZeaMays' code, not the authors'.
    """

    def __init__(self, *, m: float, gamma: float, weighting: bool, whole_batch: bool) -> None:
        super().__init__()
        self.m, self.gamma, self.weighting, self.whole_batch = m, gamma, weighting, whole_batch
        self._means = SimilarityMeans()

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule. Anchors without a positive or without a negative are left out.

        Raises: ValueError if no anchor has both.
        """
        similarities = pair_cosines(embeddings)
        same = same_class(labels)
        positive, negative = same & others(labels), ~same
        usable = positive.any(1) & negative.any(1)
        if not usable.any():
            raise ValueError(
                f"circle: no image of this batch of {len(labels)} has both another of its class and one of another "
                "class; draw batches of 2 or more classes with 2 or more images each"
            )
        if self.training:
            self._means.add(similarities, positive, negative)
        if self.whole_batch:
            # One row of all pairs i < j.
            similarities = similarities.view(1, -1)
            positive, negative = positive.triu().view(1, -1), negative.triu().view(1, -1)
        else:
            similarities, positive, negative = similarities[usable], positive[usable], negative[usable]
        raised = positive_logits(similarities, self.m, self.gamma, self.weighting).masked_fill(~positive, math.inf)
        lowered = negative_logits(similarities, self.m, self.gamma, self.weighting).masked_fill(~negative, -math.inf)
        return LossOutput(circle_loss(raised, lowered).mean())

    def epoch_metrics(self) -> dict[str, float]:
        """`mean_s_p`, `mean_s_n`: mean cosine within and between classes, over the epoch's training pairs."""
        return self._means.take()


class CircleClassLoss(ProxyLoss):
    """Circle loss over proxies: s_p is the cosine to the own proxy, s_n those to all others.

    With one s_p the loss is a cross-entropy on the logits. weight: (C, D). m, gamma, weighting: see positive_logits;
    without weighting this is CosFace with s = gamma and margin m.
    Source: Sun et al. 2020 (Circle loss), Eq. (6).
    """

    def __init__(self, weight: Tensor, *, m: float, gamma: float, weighting: bool) -> None:
        super().__init__(weight)
        self.m, self.gamma, self.weighting = m, gamma, weighting
        self._means = SimilarityMeans()

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        cosine = cosines(embeddings, self.weight)
        target = labels[:, None]
        own = positive_logits(cosine.gather(1, target), self.m, self.gamma, self.weighting)
        logits = negative_logits(cosine, self.m, self.gamma, self.weighting).scatter(1, target, own)
        if self.training:
            is_own = torch.zeros_like(cosine, dtype=torch.bool).scatter(1, target, True)
            self._means.add(cosine, is_own, ~is_own)
        return LossOutput(F.cross_entropy(logits, labels), similarities=cosine.detach())

    def epoch_metrics(self) -> dict[str, float]:
        """`mean_s_p`, `mean_s_n`: mean cosine to the own proxy and to the others, over the epoch's training samples."""
        return self._means.take()
