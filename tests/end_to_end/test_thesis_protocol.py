"""The thesis's protocol as its full-size study file states it, on a miniature of CUB-200-2011 with photos of real size.

What differs from the file is in SHRUNK: numbers of classes and epochs, random weights, the processor.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import analysis
from analysis import report as reports_of
from search_spaces.load import parse_study, read_yaml
from search_spaces.trial_config import TrialConfig
from study.data.draws import generator
from study.records import Status
from study.stages.key import prefix_keys
from study.stages.store import StageStore
from study.stages.tree import ANYWHERE
from study.training.models import build_model
from tests.study.data.miniatures import write

from .shipped import run

pytestmark = pytest.mark.slow

FILE = Path(__file__).parents[2] / "search_spaces" / "thesis" / "exp3-cub200.yaml"
TRAIN, TEST, EACH, PHASE = 4, 3, 3, 2
SIZES = [(300, 400), (500, 333), (260, 280)]
SHRUNK = {
    "trial.dataset.complete": False,
    "trial.split.train_classes": TRAIN,
    "trial.split.test_classes": TEST,
    "trial.model.weights": {"kind": "random"},
    "trial.optimizer.lr_schedule.milestones": [1],
    "trial.batches.size": 6,
    "trial.compute": {"device": "cpu", "threads": 1},
    "seeds": [0],
    "keep_epochs": [3 * PHASE],
}


def in_phases(value: Any) -> Any:
    """Fifty epochs become two, wherever a case counts them."""
    if isinstance(value, dict):
        counts = {"epochs", "first_epoch", "switch_epoch"}
        return {key: item * PHASE // 50 if key in counts else in_phases(item) for key, item in value.items()}
    return [in_phases(item) for item in value] if isinstance(value, list) else value


def miniature_study() -> Any:
    tree = in_phases(read_yaml(FILE))
    for path, value in SHRUNK.items():
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch[parent]
        branch[name] = value
    return parse_study(tree, FILE.stem, str(FILE))


def write_birds(folder: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels, classes = [], [], []
    for label in range(1, TRAIN + TEST + 1):
        classes.append(f"{label} {label:03}.Bird\n")
        plumage = rng.integers(0, 255, 3)
        for image in range(EACH):
            number, (width, height) = len(images) + 1, SIZES[image]
            name = f"{label:03}.Bird/Bird_{number:04}.jpg"
            pixels = np.clip(plumage + rng.normal(0, 30, (height, width, 3)), 0, 255).astype(np.uint8)
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "JPEG")
            write(folder / "images" / name, data.getvalue())
            images.append(f"{number} {name}\n")
            labels.append(f"{number} {label}\n")
    for name, lines in (("images.txt", images), ("image_class_labels.txt", labels), ("classes.txt", classes)):
        write(folder / name, "".join(lines))


def running_statistics(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name.endswith(("running_mean", "running_var"))}


def test_the_protocol_runs_from_photos_to_its_table(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    write_birds(tmp_path / "data" / "CUB_200_2011")
    study_config = miniature_study()
    trial: TrialConfig = study_config.trial
    assert (trial.dataset.side, trial.dataset.shorter_side, trial.model.architecture) == (224, 256, "googlenet")
    assert trial.model.freeze_batch_norm
    folder = tmp_path / FILE.stem
    folder.mkdir()
    record = run(study_config, folder, tmp_path / "data", tmp_path_factory.mktemp("cache"))
    assert {each.status for each in record.trials.values()} == {Status.COMPLETE}
    assert {max(each.epochs) for each in record.trials.values()} == {3 * PHASE}
    trained = sum(not result.inherited for each in record.trials.values() for result in each.results)
    # A trunk, three branches of two phases; the ramp's first epoch still has the constant's scale.
    assert trained == PHASE + 3 * 2 * PHASE - 1
    for each in record.trials.values():
        assert all("test_recall_at_1" in result.metrics for result in each.results)
        assert each.results[0].metrics["loss"] != each.results[-1].metrics["loss"]

    constant = study_config.configurations()[0].trial
    state = StageStore(folder / "stages").load(prefix_keys(constant, 0, ANYWHERE)[constant.epochs])
    before = running_statistics(build_model(constant.model, 3, 224, generator(0, "model")).state_dict())
    after = running_statistics(state["model"])
    assert before.keys() == after.keys()
    assert len(before) > 50
    assert all(torch.equal(before[name], after[name]) for name in before), "batch norm is frozen"

    study = analysis.load(folder)
    reports_of.write([study], tmp_path / "report.html")
    assert "Table 4.4" in (tmp_path / "report.html").read_text(encoding="utf-8")
