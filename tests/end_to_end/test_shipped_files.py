"""Every study file that ships is run, shrunk: real training and the real driver, without Ray; then its report."""

from __future__ import annotations

import hashlib
import io
import math
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import analysis
from analysis import report as reports_of
from search_spaces.load import parse_study, read_yaml
from search_spaces.study_config import StudyConfig
from study.data import omniglot
from study.ledger.read import StudyRecord
from study.ledger.write import LedgerWriter
from study.records import DriverEvent, Status, StudyEvent
from study.stages.shelf import Shelf
from study.stages.store import StageStore
from study.stages.tree import ANYWHERE
from study.tuning.driver import Driver
from study.tuning.worker import EpochReport, Workplace, reports

pytestmark = pytest.mark.slow

FILES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*/*.yaml"))
HALVED = {
    "epochs",
    "first_epoch",
    "switch_epoch",
    "every",
    "milestones",
    "histogram_epochs",
    "embedding_epochs",
    "grace_epochs",
}
FEWER = {"val_classes": 3, "test_classes": 4, "images_per_class": 8, "max_trials": 6, "startup_trials": 2}
# Dynamic AdaCos has no fixed point at D = 2; lambda = 1 is too much for SGD at the articles' rate.
MAY_DIVERGE = {"theory-dims", "center-digits", "center-mnist"}
ALPHABETS = ("Arcadian", "Greek", "Zulu")


def shrunk(value: Any, path: str = "") -> Any:
    """The same study with half the epochs, few classes, small networks, the first two seeds, six proposals."""
    name = path.rsplit(".", 1)[-1]
    if isinstance(value, dict):
        small = {"model": {"kind": "small_cnn", "channels": [4, 8]} | value.get("model", {})} if name == "trial" else {}
        return {key: shrunk(item, key) for key, item in (value | small).items()}
    if name in HALVED and isinstance(value, list):
        return sorted({math.ceil(item / 2) for item in value})
    if name in HALVED:
        return math.ceil(value / 2)
    if name == "train_classes":
        return value if value < 8 else 8 + value // 100
    if name in FEWER and isinstance(value, int):
        return min(value, FEWER[name])
    if name == "seeds":
        return value[:2]
    return [shrunk(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A miniature of Omniglot's archives: 18 characters of four drawings, half of them in each."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "omniglot").mkdir()
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        for number, name in enumerate(("images_background_small1", "images_background_small2")):
            path = folder / "omniglot" / f"{name}.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for alphabet in ALPHABETS:
                    for character in range(1 + 3 * number, 4 + 3 * number):
                        strokes = rng.random((7, 7)) < 0.5
                        for drawing in range(1, 5):
                            archive.writestr(
                                f"{name}/{alphabet}/character{character:02}/{character:04}_{drawing:02}.png",
                                png(np.kron(strokes ^ (rng.random((7, 7)) < 0.1), np.ones((15, 15), dtype=bool))),
                            )
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            patch.setitem(omniglot.MD5, name, digest)
        yield folder


def png(drawing: np.ndarray[Any, np.dtype[np.bool_]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(~drawing).save(buffer, "PNG")
    return buffer.getvalue()


def run(study_config: StudyConfig, folder: Path, data_dir: Path, cache_dir: Path) -> StudyRecord:
    """One worker trains what the driver says, until nothing is left."""
    workplace = Workplace(data_dir=str(data_dir), cache_dir=str(cache_dir), stages_dir=str(folder / "stages"))
    with LedgerWriter(folder) as ledger:
        config = study_config.model_dump(mode="json", by_alias=True)
        study = StudyEvent(at=time.time(), config=config, source="", versions={}, git_commit=None, machine={})
        ledger.append(study, DriverEvent(at=time.time(), what="opened", host="here", pid=1))
        driver = Driver(study_config, ledger, ANYWHERE, Shelf(StageStore(folder / "stages")))
        while (job := driver.next_job("alone")) is not None:
            for report in reports(job, workplace):
                if isinstance(report, EpochReport):
                    if not driver.on_epoch(job.number, report.result, report.arrays, stands=report.stands):
                        break
                elif report.diverged:
                    driver.on_diverged(job.number, report.diverged)
                else:
                    raise AssertionError(f"{report.error}\n{report.details}")
            driver.on_exit(job.number, None)
        ledger.append(DriverEvent(at=time.time(), what="closed", host="here", pid=1, note="finished"))
        return ledger.record


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_runs_shrunk_to_its_report(path: Path, data_dir: Path, tmp_path: Path, cache_dir: Path) -> None:
    study_config = parse_study(shrunk(read_yaml(path)), path.stem, str(path))
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
