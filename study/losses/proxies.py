"""Proxies: vectors that stand for classes, one or several each, and the cosines of embeddings to them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from study.losses.base import LossModule

EPS = 1e-12


def unit(vectors: Tensor) -> Tensor:
    """`vectors` (..., D) divided by their Euclidean norm, or by 1e-12 where the norm is smaller."""
    # F.normalize divides by the expanded norms; its backward makes the SoftTriple head a fifth slower.
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * norms.clamp_min(EPS).reciprocal()


def cosines(embeddings: Tensor, proxies: Tensor) -> Tensor:
    """Cosine of each embedding to each proxy.

    Args: embeddings (B, D) and proxies (N, D), of any length.
    Returns: (B, N), in [-1, 1] up to rounding.
    Raises: ValueError if D differs.
    """
    if embeddings.shape[1] != proxies.shape[1]:
        raise ValueError(f"embeddings have D={embeddings.shape[1]}, proxies D={proxies.shape[1]}; give both one D")
    return unit(embeddings) @ unit(proxies).T


def with_margin(similarities: Tensor, labels: Tensor, margin: float) -> Tensor:
    """`similarities` (B, C) with `margin` taken from each sample's target; labels (B,) int64 in [0, C)."""
    target = labels[:, None]
    return similarities.scatter_add(1, target, similarities.new_full(target.shape, -margin))


def uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    """A tensor of `shape`, uniform in [-bound, bound]."""
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def xavier(classes: int, embedding_dim: int, generator: torch.Generator) -> Tensor:
    """(C, D) proxies, uniform in +-sqrt(6 / (C + D)) (Glorot and Bengio 2010, Eq. 16)."""
    return uniform((classes, embedding_dim), math.sqrt(6 / (classes + embedding_dim)), generator)


class ProxyLoss(LossModule):
    """A loss with one proxy per class on the sphere, stored with its length, as the optimizer moves it off.

    weight: initial proxies, (C, D).
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def similarities(self, embeddings: Tensor) -> Tensor | None:
        """(B, C) cosines, detached."""
        with torch.no_grad():
            return cosines(embeddings, self.weight)

    def proxies(self) -> Tensor | None:
        """(C, 1, D) unit vectors, detached."""
        return unit(self.weight.detach())[:, None]
