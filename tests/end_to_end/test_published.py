"""What docs/ publishes: the runs are whole, and the page on them is one file that needs no network."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from study.ledger.read import load_arrays, read_study
from study.records import Status

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
ARCHIVES = sorted((DOCS / "studies").glob("*.tar.xz"))


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_published_runs_are_whole(archive: Path, tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)  # as README.md says
    folder = tmp_path / archive.name.removesuffix(".tar.xz")
    record = read_study(folder)
    assert record.finished
    assert {trial.status for trial in record.trials.values()} <= {Status.COMPLETE, Status.DIVERGED}
    files = {
        event.arrays.path: event.arrays
        for trial in record.trials.values()
        for event in trial.epochs.values()
        if event.arrays
    }
    assert all(load_arrays(folder, file) for file in files.values())


def test_the_published_page_is_one_small_file_on_all_published_runs() -> None:
    text = (DOCS / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 8e6
    assert 'src="http' not in text
    assert not [archive.name for archive in ARCHIVES if archive.name.removesuffix(".tar.xz") not in text]
