"""Contrastive loss: same-class pairs together, other pairs a margin apart."""

from __future__ import annotations

from typing import Literal, assert_never

from torch import Tensor

from study.losses.base import LossModule, LossOutput
from study.losses.pairs import euclidean_distances, others, same_class, zero_with_graph

Form = Literal["hadsell", "thesis"]


def contrastive(embeddings: Tensor, labels: Tensor, margin: float, form: Form) -> Tensor:
    """Mean over all pairs i < j of the batch, in the distance d of the normalized embeddings.

    hadsell: d^2 / 2 for a pair of one class, [margin - d]_+^2 / 2 for any other. thesis: d, and [margin - d]_+.

    Args: embeddings (B, D), of any length; labels (B,) int64; margin: in distance, at most 2 has an effect.
    Returns: scalar, at least 0; 0 with a graph if the batch has no pair.
    Source: Hadsell et al. 2006, Eq. (4); Sato 2021, 2.3.2.
    """
    once = others(labels).triu()
    if len(labels) < 2:
        return zero_with_graph(embeddings)
    distances = euclidean_distances(embeddings)[once]
    same = same_class(labels)[once]
    gaps = distances.where(same, (margin - distances).clamp_min(0))
    match form:
        case "hadsell":
            return 0.5 * gaps.square().mean()
        case "thesis":
            return gaps.mean()
        case _:
            assert_never(form)


class ContrastiveLoss(LossModule):
    """See contrastive; nothing to train."""

    def __init__(self, *, margin: float, form: Form) -> None:
        super().__init__()
        self.margin = margin
        self.form: Form = form

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        return LossOutput(contrastive(embeddings, labels, self.margin, self.form))
