"""Optimizers with separate rates for network and proxies, and the learning-rate schedule."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_spaces.base import Frozen, Index, NonNegative, Positive


class TieToScale(Frozen):
    """Multiply both rates by (s / reference)^power: the control that separates the scale from the step size.

    power -1 undoes, for plain gradients, the factor s that the scale puts on the gradient (theory: dL/dcos = s(P - t)).
    """

    reference: Positive = 20.0
    power: float = -1.0


class LrSchedule(Frozen):
    """Factor on both rates per zero-based epoch: times `factor` from each milestone on.

    restarts: epochs at which the rates are whole again, whatever the milestones before them have done. warmup_epochs:
    in these first epochs only the proxies and the last linear layer train.
    """

    milestones: tuple[Index, ...] = ()
    factor: Positive = 0.1
    restarts: tuple[Index, ...] = ()
    warmup_epochs: Index = 0
    tie_to_scale: TieToScale | None = None

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must rise; list each epoch once, in order")
        return self


class Optimizer(Frozen):
    """fresh_epochs: zero-based epochs before which the optimizer forgets its moments, as one that is built anew."""

    lr_schedule: LrSchedule = LrSchedule()
    fresh_epochs: tuple[Index, ...] = ()


class Adam(Optimizer):
    """torch.optim.Adam. eps matters: gradients scale with s, and eps far above them makes Adam act like SGD."""

    kind: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    proxy_lr: Positive = 1e-2
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0


class AdamW(Optimizer):
    """torch.optim.AdamW (decoupled weight decay)."""

    kind: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    proxy_lr: Positive = 1e-2
    eps: Positive = 1e-8
    weight_decay: NonNegative = 1e-2


class Sgd(Optimizer):
    """torch.optim.SGD."""

    kind: Literal["sgd"] = "sgd"
    lr: Positive = 1e-2
    proxy_lr: Positive = 1e-1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 0.0


OptimizerConfig = Annotated[Adam | AdamW | Sgd, Field(discriminator="kind")]


def lr_factor(schedule: LrSchedule, epoch: int, scale: float | None) -> float:
    """Factor on both learning rates in zero-based `epoch`, whose softmax scale is `scale` (None: the loss has none)."""
    factor = 1.0
    restarted = max((restart for restart in schedule.restarts if restart <= epoch), default=0)
    for milestone in schedule.milestones:
        if restarted <= milestone <= epoch:
            factor *= schedule.factor
    if schedule.tie_to_scale is not None and scale is not None:
        factor *= (scale / schedule.tie_to_scale.reference) ** schedule.tie_to_scale.power
    return factor
