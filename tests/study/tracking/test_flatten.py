from __future__ import annotations

import pytest
from pydantic import JsonValue

from study.tracking.flatten import as_text, flatten


def test_a_tree_becomes_its_leaves_by_dotted_path() -> None:
    tree: dict[str, JsonValue] = {
        "loss": {"scale": {"value": 20.0}, "kind": "arcface"},
        "seeds": [0, {"a": 1}],
        "none": {},
    }
    assert flatten(tree) == {"loss.scale.value": 20.0, "loss.kind": "arcface", "seeds": [0, {"a": 1}]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (20.0, "20"),
        (0.001, "0.001"),
        (1e300, "1e+300"),
        (-0.5, "-0.5"),
        (7, "7"),
        (True, "true"),
        (None, "null"),
        ("s=20", "s=20"),
        ([1, 2.5, "ü"], '[1,2.5,"ü"]'),
    ],
)
def test_a_value_is_spelled_as_a_person_writes_it(value: JsonValue, text: str) -> None:
    assert as_text(value) == text
