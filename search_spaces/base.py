"""Frozen, the base of every configuration and record."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""What every random generator in use takes: NumPy's, torch's, Optuna's."""


class Frozen(BaseModel):
    """An immutable value. Strict: a boolean is no number, a string is no number, unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    def replace(self, **changes: Any) -> Self:
        """A copy with `changes`, validated again (pydantic's own model_copy checks nothing).

        Raises: pydantic.ValidationError if the changed value is not valid.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**fields, **changes})
