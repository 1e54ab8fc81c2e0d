"""Schedules of the softmax scale s: a pure function of the zero-based epoch.

Source: Sato 2021, sections 4.2.2 (linear), 4.2.3 (switch), 5.3 (quadratic). Both ends of a ramp are exact and returned
by comparison, not arithmetic, so that two schedules with equal values agree bit for bit.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, assert_never

from pydantic import Field, model_validator

from search_spaces.base import Count, Frozen, Index, Positive


class ConstantScale(Frozen):
    """s = value in every epoch."""

    kind: Literal["constant"] = "constant"
    value: Positive


class SwitchScale(Frozen):
    """s = before for epochs below switch_epoch, after from there on (Sato 2021, 4.2.3; Zhang et al. 2018)."""

    kind: Literal["switch"] = "switch"
    before: Positive
    after: Positive
    switch_epoch: Count

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.before == self.after:
            raise ValueError("before equals after, so nothing switches; use kind: constant")
        return self


class Ramp(Frozen):
    """Fields that linear and quadratic ramps share.

    start: s before and at first_epoch. end: s from the last ramp epoch on. first_epoch: zero-based; 0 is the thesis's
    'from the start', the length of the first phase its 'additional training'. epochs: ramp length n >= 2.
    ends: 'inclusive' has s = start at first_epoch and s = end at first_epoch + n - 1; 'step' takes the first step
    already at first_epoch; 'exclusive' reaches end one epoch after the ramp.
    """

    start: Positive
    end: Positive
    first_epoch: Index
    epochs: Annotated[int, Field(ge=2)]
    ends: Literal["inclusive", "step", "exclusive"] = "inclusive"

    @property
    def hold_epoch(self) -> int:
        """First zero-based epoch that uses `end`."""
        return self.first_epoch + self.epochs - (0 if self.ends == "exclusive" else 1)

    def progress(self, epoch: int) -> float:
        """Share u of the ramp done at zero-based `epoch`, which lies inside it."""
        done = epoch - self.first_epoch
        match self.ends:
            case "inclusive":
                return done / (self.epochs - 1)
            case "step":
                return (done + 1) / self.epochs
            case "exclusive":
                return done / self.epochs

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.start == self.end:
            raise ValueError("start equals end, so nothing ramps; use kind: constant")
        return self


class LinearScale(Ramp):
    """s falls (or rises) by the same amount each epoch of the ramp (Sato 2021, 4.2.2)."""

    kind: Literal["linear"] = "linear"


class QuadraticScale(Ramp):
    """s = end + (start - end)(1 - u)^2: convex, fast first, slope 0 at the end (Sato 2021, 5.3)."""

    kind: Literal["quadratic"] = "quadratic"

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.start < self.end:
            raise ValueError("a quadratic schedule falls: start must exceed end; use kind: linear to rise")
        return self


class StepsScale(Frozen):
    """s = initial * factor^floor(epoch / every): the staged decay of Zhang et al. 2018's code, a control."""

    kind: Literal["steps"] = "steps"
    initial: Positive
    factor: Positive
    every: Count


class LearnedScale(Frozen):
    """s is a parameter that the optimizer of the proxies trains (Wang et al. 2017, NormFace), a control.

    Starts at `initial` and is kept at or above `floor`.
    """

    kind: Literal["learned"] = "learned"
    initial: Positive = 10.0
    floor: Positive = 0.01


ScaleSchedule = Annotated[
    ConstantScale | SwitchScale | LinearScale | QuadraticScale | StepsScale | LearnedScale, Field(discriminator="kind")
]


def scale_at(schedule: ScaleSchedule, epoch: int) -> float:
    """Softmax scale s (dimensionless) that `schedule` gives zero-based `epoch`; for `learned` its initial value."""
    match schedule:
        case ConstantScale():
            return schedule.value
        case SwitchScale():
            return schedule.before if epoch < schedule.switch_epoch else schedule.after
        case LinearScale() | QuadraticScale():
            if epoch >= schedule.hold_epoch:
                return schedule.end
            if epoch < schedule.first_epoch or (epoch == schedule.first_epoch and schedule.ends != "step"):
                return schedule.start
            u = schedule.progress(epoch)
            if isinstance(schedule, LinearScale):
                return schedule.start * (1 - u) + schedule.end * u
            return schedule.end + (schedule.start - schedule.end) * (1 - u) ** 2
        case StepsScale():
            return schedule.initial * schedule.factor ** (epoch // schedule.every)
        case LearnedScale():
            return schedule.initial
        case _:
            assert_never(schedule)


def last_change(schedule: ScaleSchedule) -> int | None:
    """Zero-based epoch from which the scale no longer changes; None for a schedule without such a promise."""
    match schedule:
        case ConstantScale():
            return 0
        case SwitchScale():
            return schedule.switch_epoch
        case LinearScale() | QuadraticScale():
            return schedule.hold_epoch
        case StepsScale() | LearnedScale():
            return None
        case _:
            assert_never(schedule)
