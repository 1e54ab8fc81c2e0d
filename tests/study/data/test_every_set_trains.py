"""Each data set, in miniature, from its files through one epoch of training."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from search_spaces.datasets import (
    Batches,
    Cars196,
    Cub200,
    DatasetConfig,
    Emnist,
    ImageFolder,
    MnistLike,
    Omniglot,
    PhotoSet,
    RandomResizedCrop,
    Sop,
    Split,
)
from search_spaces.losses import NormalizedSoftmax
from search_spaces.models import SmallCnn
from search_spaces.schedules import ConstantScale
from search_spaces.trial_config import TrialConfig
from study.data import omniglot
from study.data.build import load_trial_data
from study.training.train import Trainer
from tests.study.data import miniatures

SMALL = {"shorter_side": 32, "side": 24}
PETS = ImageFolder(folder="pets", **SMALL)


def twice(folder: str) -> Callable[[Path], Path]:
    return lambda data_dir: miniatures.mnist(data_dir, folder, train=[*range(10), *range(10)])


SETS: dict[str, tuple[DatasetConfig, Callable[[Path], Path]]] = {
    "cub200 folder": (Cub200(complete=False, **SMALL), miniatures.cub),
    "cub200 tgz": (Cub200(complete=False, **SMALL), lambda data_dir: miniatures.packed(miniatures.cub(data_dir))),
    "cars196 original": (Cars196(complete=False, **SMALL), miniatures.cars),
    "cars196 devkit": (Cars196(complete=False, **SMALL), miniatures.cars_devkit),
    "sop": (Sop(complete=False, **SMALL), miniatures.sop),
    "image_folder folders": (PETS, miniatures.class_folders),
    "image_folder table": (PETS.replace(table="table.csv"), miniatures.split_table),
    "mnist": (MnistLike(kind="mnist", complete=False), twice("MNIST")),
    "fashion_mnist": (MnistLike(kind="fashion_mnist", complete=False), twice("FashionMNIST")),
    "kmnist": (MnistLike(kind="kmnist", complete=False), twice("KMNIST")),
    "emnist": (Emnist(part="letters", complete=False), miniatures.emnist_letters),
    "omniglot": (Omniglot(sets=("images_background_small1",)), miniatures.omniglot),
}


def a_trial(dataset: DatasetConfig) -> TrialConfig:
    photos = {"augment": RandomResizedCrop()} if isinstance(dataset, PhotoSet) else {}
    return TrialConfig(
        dataset=dataset,
        split=Split(order="label", train_classes=2, val_classes=1, test_classes=1),
        model=SmallCnn(channels=(4, 8), embedding_dim=8),
        loss=NormalizedSoftmax(scale=ConstantScale(value=10)),
        batches=Batches(size=4),
        epochs=1,
        **photos,
    )


@pytest.mark.parametrize(("dataset", "make"), SETS.values(), ids=SETS)
def test_an_epoch_on_it_moves_the_network_and_is_measured(
    dataset: DatasetConfig, make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(tmp_path)
    if isinstance(dataset, Omniglot):
        monkeypatch.setitem(omniglot.MD5, made.stem, hashlib.md5(made.read_bytes(), usedforsecurity=False).hexdigest())
    trial = a_trial(dataset)
    trainer = Trainer(trial, 0, load_trial_data(trial, tmp_path, tmp_path / "cache"))
    before = trainer.state()["model"]
    metrics = trainer.run_epoch().result.metrics
    assert math.isfinite(metrics["loss"])
    assert 0 <= metrics["val_recall_at_1"] <= 1
    assert 0 <= metrics["test_recall_at_1"] <= 1
    after = trainer.state()["model"]
    assert any(not torch.equal(before[name], after[name]) for name in before if name.endswith("weight"))


def test_every_set_that_is_read_from_files_is_here() -> None:
    drawn = {"glyphs", "digits"}
    fields = TrialConfig.model_json_schema()["properties"]["dataset"]["discriminator"]["mapping"]
    assert {dataset.kind for dataset, _ in SETS.values()} == set(fields) - drawn
