"""SoftTriple and HardTriple: several proxies per class."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from study.losses.base import LossOutput
from study.losses.proxies import uniform, unit, with_margin
from study.losses.scale import ScaledLoss, TrainedScale

ROOT_EPS = 1e-5


def soft_similarities(cosines: Tensor, gamma: float) -> Tensor:
    """Similarity S' of each sample to each class: its proxies' cosines, averaged with softmax weights.

    Args: cosines (B, K, C); gamma: temperature of the weights, dimensionless. Towards 0 the best proxy decides,
    towards infinity all count alike. The gradient flows through the weights too.
    Returns: (B, C), in [-1, 1].
    Source: Qian et al. 2019 (SoftTriple), the relaxed similarity; Sato 2021, 4.1.3.
    """
    weights = torch.softmax(cosines / gamma, dim=1)
    return (weights * cosines).sum(dim=1)


def hard_similarities(cosines: Tensor) -> Tensor:
    """Similarity (B, C) of each sample to the best proxy of each class; only that proxy gets a gradient.

    Args: cosines (B, K, C).
    Source: Qian et al. 2019 (SoftTriple), HardTriple.
    """
    return cosines.max(dim=1).values


def merging_regularizer(proxies: Tensor, pairs: Tensor, eps: float = ROOT_EPS) -> Tensor:
    """R: mean distance of two proxies of one class, halved; it pulls them together.

    Args: proxies (K, C, D), unit; pairs: flat indices into K x K of the pairs t < u, as `proxy_pairs(K)` gives them;
    eps keeps the root differentiable where two proxies have merged, which is what R is for.
    Returns: scalar in [0, 1]; 0 for K = 1.
    Source: Qian et al. 2019 (SoftTriple), the regularizer, with the eps of the authors' code. Sato 2021, 4.1.3 prints
    the sum over all ordered pairs, which would double R.
    """
    per_class, classes, _ = proxies.shape
    if per_class == 1:
        return proxies.new_zeros(())
    by_class = proxies.transpose(0, 1)
    inner = torch.bmm(by_class, by_class.transpose(1, 2)).flatten(1).index_select(1, pairs)
    distances = (2 + eps - (2 * inner).clamp(max=2)).sqrt()
    return distances.sum() / (classes * per_class * (per_class - 1))


def proxy_pairs(per_class: int) -> Tensor:
    """Flat indices t * K + u of the pairs t < u of K proxies, (K (K-1) / 2,) int64."""
    rows, columns = torch.triu_indices(per_class, per_class, offset=1)
    return torch.add(columns, rows, alpha=per_class)


def kaiming_proxies(classes: int, per_class: int, embedding_dim: int, generator: torch.Generator) -> Tensor:
    """(K, C, D) proxies, uniform in +-1/sqrt(C K), as the authors' code draws them (kaiming_uniform, a = sqrt 5)."""
    return uniform((per_class, classes, embedding_dim), 1 / math.sqrt(classes * per_class), generator)


def xavier_proxies(classes: int, per_class: int, embedding_dim: int, generator: torch.Generator) -> Tensor:
    """(K, C, D) proxies, uniform in +-sqrt(6 / (C K + D)) (Sato 2021, 4.1.4)."""
    bound = math.sqrt(6 / (classes * per_class + embedding_dim))
    return uniform((per_class, classes, embedding_dim), bound, generator)


class SoftTripleLoss(ScaledLoss):
    """Mean cross-entropy on s (S' - delta [target]) plus tau R.

    weight: (K, C, D), K first: the softmax over proxies is twice as fast over a middle dimension. gamma: see
    soft_similarities; `hard` does without it. delta: margin, in cosine. The loss's parts `ce` and `regularizer`
    (tau R) add up to it.
    Source: Qian et al. 2019 (SoftTriple); Sato 2021, 4.1.3.
    """

    pairs: Tensor

    def __init__(
        self, weight: Tensor, trained_scale: TrainedScale | None, *, gamma: float, delta: float, tau: float, hard: bool
    ) -> None:
        super().__init__(weight, trained_scale)
        self.gamma, self.delta, self.tau, self.hard = gamma, delta, tau, hard
        self.register_buffer("pairs", proxy_pairs(weight.shape[0]), persistent=False)

    def _class_similarities(self, embeddings: Tensor, proxies: Tensor) -> Tensor:
        per_class, classes, dim = proxies.shape
        if embeddings.shape[1] != dim:
            raise ValueError(f"embeddings have D={embeddings.shape[1]}, proxies D={dim}; give both one D")
        cosines = (unit(embeddings) @ proxies.flatten(0, 1).T).view(-1, per_class, classes)
        return hard_similarities(cosines) if self.hard else soft_similarities(cosines, self.gamma)

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        proxies = unit(self.weight)
        similarities = self._class_similarities(embeddings, proxies)
        logits = self.current_scale(scale) * with_margin(similarities, labels, self.delta)
        ce = F.cross_entropy(logits, labels)
        regularizer = self.tau * merging_regularizer(proxies, self.pairs)
        return LossOutput(
            ce + regularizer,
            parts={"ce": ce.detach(), "regularizer": regularizer.detach()},
            similarities=similarities.detach(),
        )

    def similarities(self, embeddings: Tensor) -> Tensor | None:
        """(B, C) similarities S', detached."""
        with torch.no_grad():
            return self._class_similarities(embeddings, unit(self.weight))

    def proxies(self) -> Tensor | None:
        """(C, K, D) unit vectors, detached."""
        return unit(self.weight.detach()).transpose(0, 1)
