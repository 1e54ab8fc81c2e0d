"""A configuration as one flat table row: values by dotted path."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from pydantic import JsonValue


def flatten(tree: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """The leaves of `tree` by dotted path; lists are leaves, an empty mapping is none."""
    leaves: dict[str, JsonValue] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves |= flatten(value, f"{prefix}{name}.")
        else:
            leaves[sys.intern(f"{prefix}{name}")] = value  # thousands of configurations have the same paths
    return leaves


def as_text(value: JsonValue) -> str:
    """`value` as a person writes it: 20, 0.001, true, softmax, [1,2]."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
