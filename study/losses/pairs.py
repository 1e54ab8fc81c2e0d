"""What losses without proxies share: distances and same-class masks within a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from study.losses.proxies import unit


def pair_cosines(embeddings: Tensor) -> Tensor:
    """(B, B) cosines of all pairs of embeddings (B, D)."""
    directions = unit(embeddings)
    return directions @ directions.T


def squared_distances(embeddings: Tensor) -> Tensor:
    """(B, B) squared Euclidean distances 2 - 2 cos of the normalized embeddings (B, D), in [0, 4]."""
    return (2 - 2 * pair_cosines(embeddings)).clamp_min(0)


def euclidean_distances(embeddings: Tensor) -> Tensor:
    """(B, B) Euclidean distances of the normalized embeddings (B, D), in [1e-6, 2].

    1e-12 under the root keeps the slope finite where two embeddings coincide.
    """
    return (squared_distances(embeddings) + 1e-12).sqrt()


def same_class(labels: Tensor) -> Tensor:
    """(B, B) bool: both samples have one label; the diagonal is True."""
    return labels[:, None] == labels[None, :]


def others(labels: Tensor) -> Tensor:
    """(B, B) bool: two different samples; only the diagonal is False."""
    return ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)


def zero_with_graph(embeddings: Tensor) -> Tensor:
    """0, whose gradient in `embeddings` is 0: the loss of a batch without any pair."""
    return (embeddings * 0).sum()
