"""Every study file that ships is run, shrunk, to its report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import analysis
from analysis import report as reports_of
from study.records import Status

from .shipped import run, shrunk_study, write_data

pytestmark = pytest.mark.slow

# The full-size files need photos and networks that no test has; tests/search_spaces checks that they plan.
FILES = [
    path
    for path in sorted((Path(__file__).parents[2] / "search_spaces").glob("*/*.yaml"))
    if not path.stem.endswith(("-cub200", "-cars196")) and path.stem != "careful"
]
# Dynamic AdaCos has no fixed point at D = 2; lambda = 1 is too much for SGD at the articles' rate.
MAY_DIVERGE = {"theory-dims", "center-digits", "center-mnist"}
MANY = 15
"""Configurations; of a larger plan one seed is trained here."""


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        write_data(folder, patch)
        yield folder


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_runs_shrunk_to_its_report(path: Path, data_dir: Path, tmp_path: Path, cache_dir: Path) -> None:
    study_config = shrunk_study(path)
    if study_config.search is None and len(study_config.points()) > MANY:
        study_config = study_config.replace(seeds=study_config.seeds[:1])
    folder = tmp_path / path.stem
    folder.mkdir()
    record = run(study_config, folder, data_dir, cache_dir)
    statuses = {trial.status for trial in record.trials.values()}
    expected = {Status.COMPLETE} | ({Status.PRUNED} if study_config.search else set())
    expected |= {Status.DIVERGED} if path.stem in MAY_DIVERGE else set()
    assert Status.COMPLETE in statuses
    assert statuses <= expected
    if study_config.search is None:
        assert len(record.trials) == len(study_config.points()) * len(study_config.seeds)
    answers = reports_of.write([analysis.load(folder)], tmp_path / "report.html")
    assert answers[0].sentences
