"""What every loss offers to training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn


class Diverged(Exception):
    """Training cannot go on: a loss, scale, weight or metric is not finite, or AdaCos's scale ran away. Says why."""


@dataclass(frozen=True)
class LossOutput:
    """One batch's loss.

    loss: scalar with a graph. parts: detached scalars, logged as loss_<name>. similarities: (B, C) detached, what the
    classifier compares before scale and margin (cosines, SoftTriple's S', plain logits); None for pair losses.
    """

    loss: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    similarities: Tensor | None = None


class LossModule(nn.Module, ABC):
    """A loss and its parameters. All its parameters train with the proxies' learning rate."""

    @abstractmethod
    def forward(self, embeddings: Tensor, labels: Tensor, scale: float | None) -> LossOutput:
        """The loss of one batch.

        Args: embeddings (B, D), as the network gives them; labels (B,) int64 in [0, C); scale: the schedule's s for
        this epoch, None for a loss without a schedule.
        Raises: Diverged where the loss has a state that can run away.
        """

    def similarities(self, embeddings: Tensor) -> Tensor | None:
        """(B, C) values whose arg max is the predicted class, before scale and margin; None for pair losses."""
        return None

    def proxies(self) -> Tensor | None:
        """(C, K, D) unit vectors, detached; None for a loss without proxies that live on the sphere."""
        return None

    def after_step(self, embeddings: Tensor, labels: Tensor) -> None:
        """Called without gradient after each optimizer step, with the batch's detached embeddings (B, D)."""

    def epoch_metrics(self) -> dict[str, float]:
        """Metrics since the last call (AdaCos's scale, active triplets); the call resets them."""
        return {}
