"""The order in which an epoch visits the training images. Every epoch's order is drawn anew, from its own generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from search_spaces.datasets import Batches


def epoch_batches(
    labels: Tensor, batches: Batches, images_per_class: int | None, generator: torch.Generator
) -> list[Tensor]:
    """Image indices of each batch of one epoch: ceil(N / size) batches, whichever way they are drawn.

    Args: labels (N,) int64 in [0, C); images_per_class: k of P x k batches, None to shuffle.
    Returns: int64 indices. Shuffled: each image once, the last batch smaller if size does not divide N. P x k: every
    batch holds size / k distinct classes with k images of each; classes come up equally often (up to one round over
    them), and so do the images within a class.
    """
    if images_per_class is None:
        return list(torch.split(torch.randperm(len(labels), generator=generator), batches.size))
    count = math.ceil(len(labels) / batches.size)
    return _class_batches(labels, batches.size // images_per_class, images_per_class, count, generator)


def _class_batches(labels: Tensor, p: int, k: int, count: int, generator: torch.Generator) -> list[Tensor]:
    members = [torch.nonzero(labels == label).flatten() for label in range(int(labels.max()) + 1)]
    queues: list[list[int]] = [[] for _ in members]
    groups: list[Tensor] = []
    batches = []
    for _ in range(count):
        if not groups:  # a round over the classes; those left over when p does not divide C wait for another round
            groups = [
                group for group in torch.split(torch.randperm(len(members), generator=generator), p) if len(group) == p
            ]
        indices: list[int] = []
        for label in groups.pop().tolist():
            own = members[label]
            while len(queues[label]) < k:
                # New images go behind those left, so no image comes twice before each has come once; a class of fewer
                # than k images repeats them within the batch.
                queues[label] += own[torch.randperm(len(own), generator=generator)].tolist()
            indices += queues[label][:k]
            del queues[label][:k]
        batches.append(torch.tensor(indices, dtype=torch.int64))
    return batches
