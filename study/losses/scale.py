"""The softmax scale of a proxy loss: a number that the schedule gives, or a parameter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from study.losses.proxies import ProxyLoss


class TrainedScale(nn.Module):
    """The scale as a parameter, started at `initial` and kept at or above `floor`.

    Kept by projection after each step: a clamp in the formula would pass no gradient below the floor, and hold the
    scale there for good.

    Source: Wang et al. 2017 (NormFace); initial value and floor from the authors' prototxt.
    """

    def __init__(self, initial: float, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.value = nn.Parameter(torch.tensor(float(max(initial, floor))))

    def project(self) -> None:
        """Lift the scale to the floor if the optimizer's step took it below."""
        with torch.no_grad():
            self.value.clamp_(min=self.floor)


class ScaledLoss(ProxyLoss):
    """A proxy loss whose logits are multiplied by a scale: the schedule's, or `trained_scale` where one is given."""

    def __init__(self, weight: Tensor, trained_scale: TrainedScale | None) -> None:
        super().__init__(weight)
        self.trained_scale = trained_scale

    def current_scale(self, scale: float | None) -> float | Tensor:
        """The scale of this step; the schedule's `scale` counts for nothing where the scale is trained.

        Raises: ValueError if neither is there.
        """
        if self.trained_scale is not None:
            return self.trained_scale.value
        if scale is None:
            raise ValueError(f"{type(self).__name__} got scale=None; give the schedule's scale for this epoch")
        return scale

    def after_step(self, embeddings: Tensor, labels: Tensor) -> None:
        """Keep a trained scale at or above its floor."""
        if self.trained_scale is not None:
            self.trained_scale.project()

    def epoch_metrics(self) -> dict[str, float]:
        """`scale`, if it is trained: its value now."""
        return {} if self.trained_scale is None else {"scale": self.trained_scale.value.item()}
