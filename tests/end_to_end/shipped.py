"""Shipped study files in miniature: real training and the real driver, without Ray."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search_spaces.load import parse_study, read_yaml
from search_spaces.study_config import StudyConfig
from study.data import omniglot
from study.ledger.read import StudyRecord
from study.ledger.write import LedgerWriter
from study.records import DriverEvent, StudyEvent
from study.stages.shelf import Shelf
from study.stages.store import StageStore
from study.stages.tree import ANYWHERE
from study.tuning.driver import Driver
from study.tuning.worker import EpochReport, Workplace, reports

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
ALPHABETS = ("Arcadian", "Greek", "Zulu")


def shrunk(value: Any, path: str = "") -> Any:
    """The same study with half the epochs, few classes, small networks, the first two seeds, six proposals."""
    name = path.rsplit(".", 1)[-1]
    if isinstance(value, dict) and value.get("kind") == "mnist":
        return {**value, "images_per_class": 6, "complete": False}
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


def shrunk_study(path: Path) -> StudyConfig:
    """The study file at `path` in miniature."""
    return parse_study(shrunk(read_yaml(path)), path.stem, str(path))


def write_data(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Miniatures of Omniglot's archives (18 characters of four drawings, half of them in each) and of MNIST's files."""
    rng = np.random.default_rng(0)
    (folder / "omniglot").mkdir()
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
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    labels = np.repeat(np.arange(10), 6)
    strokes = rng.random((10, 7, 7)) < 0.5
    drawings = np.kron(strokes[labels] ^ (rng.random((60, 7, 7)) < 0.1), np.ones((1, 4, 4), dtype=bool)) * 255
    for name, part in (("train", slice(None)), ("t10k", slice(None, None, 6))):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(drawings[part]))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(labels[part]))


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """Unsigned bytes in MNIST's format: 0, 0, type 8, number of dimensions, then each as 4 bytes, big end first."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


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
