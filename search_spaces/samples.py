"""Points at which a search is tried before it runs: both ends of each range, each option of each choice."""

from __future__ import annotations

from pydantic import JsonValue

from search_spaces.ranges import Choice, FloatRange, IntRange, as_range
from search_spaces.study_config import StudyConfig, Values


def sample_points(study: StudyConfig) -> list[Values]:
    """A point with the first value of every range, and one more for each other value, the rest as in the first."""
    return _one_at_a_time({path: _ends(span) for path, span in study.vary.items()})


def _ends(span: FloatRange | IntRange | Choice) -> list[JsonValue]:
    match span:
        case FloatRange() | IntRange():
            return [span.low, span.high]
        case Choice():
            return [filled for option in span.options for filled in _filled(option)]


def _filled(value: JsonValue) -> list[JsonValue]:
    """`value` with the ranges inside it replaced by their ends."""
    span = as_range(value)
    if span is not None:
        return _ends(span)
    if isinstance(value, dict):
        return list(_one_at_a_time({key: _filled(item) for key, item in value.items()}))
    if isinstance(value, list):
        rows = _one_at_a_time({str(index): _filled(item) for index, item in enumerate(value)})
        return [list(row.values()) for row in rows]
    return [value]


def _one_at_a_time(values: dict[str, list[JsonValue]]) -> list[Values]:
    first = {key: found[0] for key, found in values.items()}
    return [first, *({**first, key: other} for key, found in values.items() for other in found[1:])]
