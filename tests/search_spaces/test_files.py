"""Every study file that ships is valid and says what it answers and costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.load import load_study

FILES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*/*.yaml"))


def test_there_are_examples_and_thesis_files() -> None:
    assert {path.parent.name for path in FILES} == {"examples", "thesis"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_is_valid_and_asks_a_question(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert study.question.endswith("?")
    assert path.read_text(encoding="utf-8").startswith("# ")
