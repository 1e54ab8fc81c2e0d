"""Recall@K, exactly."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

_QUERIES_PER_BLOCK = 4096


@dataclass(frozen=True)
class Recall:
    """at: Recall@K by K, fractions. class_hits: per class, queries whose nearest neighbour shares their class (K = 1).

    class_images: per class, its queries. Both int64, (classes,).
    """

    at: dict[int, float]
    class_hits: npt.NDArray[np.int64]
    class_images: npt.NDArray[np.int64]


def recall_at_k(embeddings: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], ks: tuple[int, ...]) -> Recall:
    """Share of images with one of their class among their K nearest other images, by cosine.

    The search is exhaustive. A query is taken out of its neighbours by its index, not by distance: a duplicate image
    stays and counts. Where more than K neighbours lie at one distance (duplicates, collapsed embeddings), faiss's
    choice among them holds; if it leaves the query itself out, the last neighbour found is dropped instead, so each
    query always has K. An image that is alone in its class is a query that cannot succeed, and counts as a miss.

    Args: embeddings (N, D), finite, not necessarily normalized; labels (N,) from 0; ks: the K, at least 1. With fewer
    than K other images, all of them are the neighbours.
    Raises: ValueError if N < 2 or shapes differ.
    Source: Jegou et al. 2011's Recall@K as used by Oh Song et al. 2016 (any hit among the K counts as 1).
    """
    n = len(embeddings)
    if n < 2 or labels.shape != (n,):
        raise ValueError(f"Recall@K needs 2 or more images with a label each, got {n} images, labels {labels.shape}")
    unit = np.ascontiguousarray(embeddings, dtype=np.float32).copy()
    faiss.normalize_L2(unit)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    depth = min(max(ks), n - 1)
    # Rank of the first neighbour of the query's own class; `depth` if there is none.
    ranks = np.empty(n, dtype=np.int64)
    for start in range(0, n, _QUERIES_PER_BLOCK):
        own = np.arange(start, min(start + _QUERIES_PER_BLOCK, n))
        _, found = index.search(unit[own], depth + 1)
        same = labels[_without_self(found, own)] == labels[own, None]
        ranks[own] = np.where(same.any(axis=1), same.argmax(axis=1), depth)
    return _recall(ranks, labels, ks, depth)


def recall_on_device(embeddings: Tensor, labels: Tensor, ks: tuple[int, ...]) -> Recall:
    """As recall_at_k, by blocked matrix products on the device of `embeddings`: for many images on a GPU.

    The same neighbours wherever no two lie at one distance; rounding may part what faiss finds equal, and tf32, if it
    is on, rounds coarsely: products here are float32 in full. Memory: a block of queries against all images.

    Args: embeddings (N, D) float32, finite; labels (N,) int64, both on one device.
    Raises: ValueError if N < 2 or shapes differ.
    """
    n = len(embeddings)
    if n < 2 or labels.shape != (n,):
        raise ValueError(f"Recall@K needs 2 or more images with a label each, got {n} images, labels {labels.shape}")
    unit = F.normalize(embeddings.float(), dim=1)
    depth = min(max(ks), n - 1)
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        ranks = torch.cat(
            [_ranks(unit, labels, own, depth) for own in torch.split(torch.arange(n), _QUERIES_PER_BLOCK)]
        )
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
    return _recall(ranks.cpu().numpy(), labels.cpu().numpy(), ks, depth)


def _ranks(unit: Tensor, labels: Tensor, own: Tensor, depth: int) -> Tensor:
    """(Q,) int64: place of the first neighbour of each query's class among `depth`; `depth` if there is none."""
    own = own.to(unit.device)
    cosines = unit[own] @ unit.T
    cosines[torch.arange(len(own), device=unit.device), own] = -torch.inf
    same = labels[cosines.topk(depth, dim=1).indices] == labels[own, None]
    # argmax of equal values takes the first on a CPU and any on a GPU, so places are counted.
    places = torch.arange(depth, device=unit.device).expand_as(same)
    return torch.where(same, places, depth).amin(dim=1)


def _recall(ranks: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], ks: tuple[int, ...], depth: int) -> Recall:
    n, classes = len(ranks), int(labels.max()) + 1
    hits = np.bincount(labels[ranks == 0], minlength=classes).astype(np.int64)
    at = {k: float(np.count_nonzero(ranks < min(k, depth)) / n) for k in ks}
    return Recall(at, hits, np.bincount(labels, minlength=classes).astype(np.int64))


def _without_self(found: npt.NDArray[np.int64], own: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Neighbours (Q, k+1) without the query's own index, or without the last where it is not among them: (Q, k)."""
    is_self = found == own[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    others: npt.NDArray[np.int64] = found[~is_self].reshape(len(found), -1)
    return others
