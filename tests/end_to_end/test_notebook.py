"""The notebook in docs runs from its first cell to its last, and what it shows was made by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from .shipped import run, shrunk_study

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[set[str]]:
    """What each output of a cell can be shown as."""
    return [set(output.get("data", {})) or {output.get("name", "")} for output in cell.outputs]


def test_the_notebook_runs_and_shows_what_it_says(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = nbformat.read(NOTEBOOK, as_version=4)
    study_config = shrunk_study(ROOT / "search_spaces" / "thesis" / "all-glyphs.yaml")
    folder = tmp_path / study_config.name
    folder.mkdir()
    run(study_config, folder, tmp_path, tmp_path_factory.mktemp("cache"))
    monkeypatch.setenv("STUDY_HOME", str(tmp_path))
    fresh = nbformat.from_dict({**kept, "cells": [dict(cell) for cell in kept.cells]})
    NotebookClient(fresh, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    for number, (there, now) in enumerate(zip(code_cells(kept), code_cells(fresh), strict=True), start=1):
        assert there.execution_count == number, "run all cells of the notebook once, in order, and save it"
        assert kinds(there) == kinds(now), there.source
    assert sum("image/png" in shown for cell in code_cells(kept) for shown in kinds(cell)) >= 3
