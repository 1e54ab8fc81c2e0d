"""Triplet loss: an anchor nearer to its positive than to a negative, by a margin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from study.losses.base import LossModule, LossOutput
from study.losses.pairs import euclidean_distances, others, same_class, squared_distances, zero_with_graph
from study.losses.running import RunningMean

Distance = Literal["euclidean", "squared"]
Mining = Literal["all", "semi_hard", "hard"]
Average = Literal["all", "nonzero"]


@dataclass(frozen=True)
class Triplets:
    """Distances of a batch's triplets: anchor to positive and anchor to negative, (T,) each.

    candidates: how many triplets mining chose from, a scalar tensor.
    """

    positive: Tensor
    negative: Tensor
    candidates: Tensor


def mined(distances: Tensor, labels: Tensor, mining: Mining, margin: float) -> Triplets:
    """The triplets of a batch that `mining` takes.

    all: every (anchor, positive, negative). semi_hard: those with d_ap < d_an < d_ap + margin. hard: for each anchor
    its farthest positive and nearest negative, if it has both; the candidates are then these.

    Args: distances (B, B); labels (B,) int64. Memory grows with the batch's positive pairs times B.
    Source: Schroff et al. 2015 (FaceNet), section 3.2; hard: Hermans et al. 2017, 'batch hard'.
    """
    same = same_class(labels)
    positives, negatives = same & others(labels), ~same
    if mining == "hard":
        usable = positives.any(1) & negatives.any(1)
        farthest = distances.masked_fill(~positives, -math.inf).max(dim=1).values[usable]
        nearest = distances.masked_fill(~negatives, math.inf).min(dim=1).values[usable]
        return Triplets(farthest, nearest, usable.sum())
    anchors = positives.nonzero()[:, 0]
    to_positive = distances[positives][:, None].expand(-1, len(labels))
    to_negative = distances[anchors]
    taken = negatives[anchors]
    candidates = taken.sum()
    if mining == "semi_hard":
        taken = taken & (to_positive < to_negative) & (to_negative < to_positive + margin)
    return Triplets(to_positive[taken], to_negative[taken], candidates)


class TripletLoss(LossModule):
    """Mean of [d_ap - d_an + margin]_+ over the mined triplets, or over those of them where it is above 0.

    distance: Euclidean or squared Euclidean, of the normalized embeddings; margin: in that distance. A batch without a
    triplet has loss 0, with a graph. Nothing to train.
    Source: Schroff et al. 2015 (FaceNet), section 3.1, with squared distances; Sato 2021 takes Euclidean ones.
    """

    def __init__(self, *, margin: float, distance: Distance, mining: Mining, average: Average) -> None:
        super().__init__()
        self.margin = margin
        self.distance: Distance = distance
        self.mining: Mining = mining
        self.average: Average = average
        self._active = RunningMean()

    def _distances(self, embeddings: Tensor) -> Tensor:
        match self.distance:
            case "euclidean":
                return euclidean_distances(embeddings)
            case "squared":
                return squared_distances(embeddings)
            case _:
                assert_never(self.distance)

    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None = None) -> LossOutput:
        """The loss of one batch; see LossModule."""
        triplets = mined(self._distances(embeddings), labels, self.mining, self.margin)
        losses = (triplets.positive - triplets.negative + self.margin).clamp_min(0)
        active = torch.count_nonzero(losses)
        if self.training:
            self._active.add(active, triplets.candidates)
        if len(losses) == 0:
            return LossOutput(zero_with_graph(embeddings))
        match self.average:
            case "all":
                return LossOutput(losses.mean())
            case "nonzero":
                return LossOutput(losses.sum() / active.clamp_min(1))
            case _:
                assert_never(self.average)

    def epoch_metrics(self) -> dict[str, float]:
        """`active_triplets`: share of the epoch's candidate triplets that were taken with a loss above 0.

        Candidates are all triplets of a batch, with `hard` mining one for each anchor. 0 if there were none.
        """
        return {"active_triplets": self._active.take() or 0.0}
