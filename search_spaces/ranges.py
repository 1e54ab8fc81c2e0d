"""Ranges that a grid lists or a search draws from."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, TypeAdapter, model_validator

from search_spaces.base import Count, Frozen

Options = Annotated[tuple[JsonValue, ...], Field(min_length=1)]


class FloatRange(Frozen):
    """A number between low and high; log: uniform in its logarithm; step: on a grid from low (not with log)."""

    kind: Literal["float"] = "float"
    low: float
    high: float
    log: bool = False
    step: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}; swap them")
        if self.log and self.low <= 0:
            raise ValueError(f"log: low {self.low} must be above 0; raise it or drop log")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; drop one")
        if self.step is not None and not _on_grid(self.high, self.low, self.step):
            raise ValueError(f"high {self.high} is not low {self.low} plus a multiple of step {self.step}; change one")
        return self

    def allows(self, value: JsonValue) -> bool:
        """Whether a search can propose `value`."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        return self.step is None or _on_grid(value, self.low, self.step)


class IntRange(Frozen):
    """A whole number between low and high; log: uniform in its logarithm; step: on a grid from low (not with log)."""

    kind: Literal["int"] = "int"
    low: int
    high: int
    log: bool = False
    step: Count = 1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}; swap them")
        if self.log and self.low < 1:
            raise ValueError(f"log: low {self.low} must be at least 1; raise it or drop log")
        if self.log and self.step != 1:
            raise ValueError("log and step exclude each other; drop one")
        if not _on_grid(self.high, self.low, self.step):
            raise ValueError(f"high {self.high} is not low {self.low} plus a multiple of step {self.step}; change one")
        return self

    def allows(self, value: JsonValue) -> bool:
        """Whether a search can propose `value`."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            return False
        return _on_grid(value, self.low, self.step)


class Choice(Frozen):
    """One of `options`. A mapping among them may hold ranges itself: they are drawn only where it is chosen."""

    kind: Literal["choice"] = "choice"
    options: Options

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        texts = [json.dumps(_as_floats(option), sort_keys=True) for option in self.options]
        if len(set(texts)) < len(texts):
            twice = next(option for option, text in zip(self.options, texts, strict=True) if texts.count(text) > 1)
            raise ValueError(f"{json.dumps(twice)} stands twice; list each value once")
        return self

    def allows(self, value: JsonValue) -> bool:
        """Whether a search can propose `value`, an option or its label."""
        return self.index_of(value) is not None

    def index_of(self, value: JsonValue) -> int | None:
        """The place of `value` among the options or their labels; True is not 1. None: it is not among them."""
        for known in (self.options, self.labels):
            for index, option in enumerate(known):
                if option == value and isinstance(option, bool) == isinstance(value, bool):
                    return index
        return None

    @property
    def labels(self) -> tuple[str | int | float | bool | None, ...]:
        """What names each option to people and to Optuna: the value itself, or a mapping's kind where it is unique."""
        kinds = [option.get("kind") if isinstance(option, dict) else None for option in self.options]
        labels: list[str | int | float | bool | None] = []
        for option, kind in zip(self.options, kinds, strict=True):
            if isinstance(option, dict) and isinstance(kind, str) and kinds.count(kind) == 1:
                labels.append(kind)
            elif isinstance(option, dict | list):
                labels.append(json.dumps(option, separators=(",", ":")))
            else:
                labels.append(option)
        return tuple(labels)


def _on_grid(value: float, low: float, step: float) -> bool:
    """Whether `value` is low plus a multiple of step, in decimals: 0.3 is on the grid of 0.1."""
    try:
        return (Decimal(str(value)) - Decimal(str(low))) % Decimal(str(step)) == 0
    except InvalidOperation:  # more steps than a decimal has digits
        return False


def _as_floats(value: JsonValue) -> JsonValue:
    """`value` with whole numbers as floats, so that 1 and 1.0 are the same."""
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53:
        return float(value)
    return value


Range = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]
_RANGE: TypeAdapter[FloatRange | IntRange | Choice] = TypeAdapter(Range)


def as_range(value: JsonValue) -> FloatRange | IntRange | Choice | None:
    """The range that `value`, taken from inside a choice's option, spells out, or None where it is a plain value.

    Raises: pydantic.ValidationError for a mapping of kind float, int or choice that is no valid range.
    """
    if isinstance(value, dict) and value.get("kind") in ("float", "int", "choice"):
        return _RANGE.validate_json(json.dumps(value))
    return None


def holds_range(value: JsonValue) -> bool:
    """Whether a range stands anywhere inside `value`."""
    if isinstance(value, dict):
        return value.get("kind") in ("float", "int", "choice") or any(holds_range(item) for item in value.values())
    return isinstance(value, list) and any(holds_range(item) for item in value)
