"""Center loss: plain softmax, plus a pull of each embedding to the center of its class."""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from study.losses.base import LossOutput
from study.losses.proxies import xavier
from study.losses.softmax import LinearClassifier


def center_loss(embeddings: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Half the squared distance from each embedding to its class center, summed over the batch.

    Args: embeddings (B, D), not normalized; labels (B,) int64 in [0, C); centers (C, D).
    Returns: scalar, in squared embedding units; it grows with B.
    Raises: ValueError if D differs.
    Source: Wen et al. 2016, Eq. (2).
    """
    if embeddings.shape[1] != centers.shape[1]:
        raise ValueError(f"embeddings have D={embeddings.shape[1]}, centers D={centers.shape[1]}; give both one D")
    return 0.5 * (embeddings - centers[labels]).square().sum()  # a mean would divide lambda by B


def moved_centers(embeddings: Tensor, labels: Tensor, centers: Tensor, alpha: float) -> Tensor:
    """The centers after one step of their own rule, c_j - alpha sum_{i: y_i = j} (c_j - x_i) / (1 + n_j).

    No gradient step: that would lack 1 + n_j, in which n_j counts the batch's samples of class j. A class without a
    sample stays where it is.

    Args: embeddings (B, D); labels (B,) int64 in [0, C); centers (C, D); alpha: share of the way, in [0, 1].
    Returns: (C, D).
    Source: Wen et al. 2016, Eq. (4).
    """
    counts = torch.bincount(labels, minlength=len(centers))[:, None]
    pull = torch.zeros_like(centers).index_add(0, labels, centers[labels] - embeddings)
    return centers - alpha * pull / (1 + counts)


def initial_centers(
    kind: Literal["xavier", "zeros", "normal"], classes: int, embedding_dim: int, generator: torch.Generator
) -> Tensor:
    """(C, D) centers: Xavier-uniform in +-sqrt(6 / (C + D)), all 0, or standard normal.

    The paper names no start. `xavier` is what the authors' Caffe example asks for; Caffe's own bound is sqrt(3 / D).
    """
    match kind:
        case "xavier":
            return xavier(classes, embedding_dim, generator)
        case "zeros":
            return torch.zeros(classes, embedding_dim)
        case "normal":
            return torch.randn(classes, embedding_dim, generator=generator)
        case _:
            assert_never(kind)


class CenterLoss(LinearClassifier):
    """Mean cross-entropy on W x + b, plus lambda / B times center_loss.

    The paper sums both terms; a mean of one and a sum of the other would multiply lambda by B. Centers are state, not
    parameters: a buffer that moves by its own rule after each optimizer step, whatever lambda and learning rate are.

    weight: (C, D) of the classifier. centers: (C, D). lambda_: weight of the center term. alpha: see moved_centers.
    The loss's parts `ce` and `center` (lambda / B times the sum) add up to it.
    Source: Wen et al. 2016, Eq. (5).
    """

    centers: Tensor

    def __init__(self, weight: Tensor, centers: Tensor, *, lambda_: float, alpha: float) -> None:
        super().__init__(weight)
        self.lambda_, self.alpha = lambda_, alpha
        self.register_buffer("centers", centers)

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        logits = self.logits(embeddings)
        ce = F.cross_entropy(logits, labels)
        center = self.lambda_ * center_loss(embeddings, labels, self.centers) / len(labels)
        return LossOutput(
            ce + center, parts={"ce": ce.detach(), "center": center.detach()}, similarities=logits.detach()
        )

    def after_step(self, embeddings: Tensor, labels: Tensor) -> None:
        """Move the centers by the embeddings of the forward pass."""
        with torch.no_grad():
            self.centers.copy_(moved_centers(embeddings, labels, self.centers, self.alpha))
