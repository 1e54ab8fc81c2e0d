"""Ranges that a grid lists or a search draws from."""

from __future__ import annotations

import json
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, TypeAdapter, model_validator

from search_spaces.base import Count, Frozen


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
            raise ValueError(f"log: low {self.low} must be above 0")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; drop one")
        return self


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
            raise ValueError(f"log: low {self.low} must be at least 1")
        if self.log and self.step != 1:
            raise ValueError("log and step exclude each other; drop one")
        return self


class Choice(Frozen):
    """One of `options`. A mapping among them may hold ranges itself: they are drawn only where it is chosen."""

    kind: Literal["choice"] = "choice"
    options: Annotated[tuple[JsonValue, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        texts = [json.dumps(option, sort_keys=True) for option in self.options]
        for text in texts:
            if texts.count(text) > 1:
                raise ValueError(f"{text} stands twice; list each value once")
        return self

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
