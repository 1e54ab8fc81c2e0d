"""A trial's images: from its configuration to tensors in memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from search_spaces.datasets import DatasetConfig, Digits, Emnist, Glyphs, MnistLike, Omniglot, Split
from search_spaces.trial_config import TrialConfig
from study.data import digits, glyphs, mnist, omniglot
from study.data.arrays import ClassImages, DataError
from study.data.splits import split_classes

__all__ = ["DataError", "LabeledImages", "TrialData", "load_trial_data"]


@dataclass(frozen=True)
class LabeledImages:
    """One part of a split.

    images: (N, 1, H, W) float32 in [0, 1], ink 1 on background 0, classes one after the other. labels: (N,) int64 in
    [0, classes). names: one per class, the dataset's own. The tensors are shared between trials: never write to them.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class TrialData:
    """Training images; validation and test images of other classes, None where a trial has or may see none."""

    train: LabeledImages
    val: LabeledImages | None
    test: LabeledImages | None


def load_trial_data(trial: TrialConfig, data_dir: Path, cache_dir: Path) -> TrialData:
    """The images that `trial` trains on and measures; test classes only where it measures them.

    Args: data_dir: holds what was downloaded (omniglot/*.zip, MNIST/raw); cache_dir: for drawn and decoded images,
    made if it is not there.
    Raises: DataError.
    """
    return _load(trial.dataset, trial.split, trial.measure.test, data_dir, cache_dir)


def image_shape(dataset: DatasetConfig) -> tuple[int, int]:
    """Channels and side of the images of `dataset`."""
    match dataset:
        case Glyphs() | Digits() | Omniglot() | MnistLike() | Emnist():
            return 1, 32
        case _:
            assert_never(dataset)


# A worker runs many trials of one study: the arrays of a dataset, and the tensors of a split, are made once for all.
@lru_cache(maxsize=4)
def _load(dataset: DatasetConfig, split: Split, test: bool, data_dir: Path, cache_dir: Path) -> TrialData:
    images = _load_dataset(dataset, data_dir, cache_dir)
    classes = split_classes(split, len(images.names), dataset.kind)
    return TrialData(
        train=_take(images, classes.train),
        val=_take(images, classes.val) if classes.val else None,
        test=_take(images, classes.test) if classes.test and test else None,
    )


@lru_cache(maxsize=2)
def _load_dataset(dataset: DatasetConfig, data_dir: Path, cache_dir: Path) -> ClassImages:
    match dataset:
        case Glyphs():
            return glyphs.load(dataset, cache_dir)
        case Digits():
            return digits.load(dataset)
        case Omniglot():
            return omniglot.load(dataset, data_dir, cache_dir)
        case MnistLike():
            return mnist.load(dataset, data_dir)
        case Emnist():
            return mnist.load_emnist(dataset, data_dir)
        case _:
            assert_never(dataset)


def _take(images: ClassImages, classes: tuple[int, ...]) -> LabeledImages:
    members = [np.flatnonzero(images.labels == index) for index in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(own) for own in members])
    pixels = torch.from_numpy(images.pixels[np.concatenate(members)])
    return LabeledImages(
        images=pixels.unsqueeze(1).to(torch.float32).div_(255.0),
        labels=torch.from_numpy(labels),
        names=tuple(images.names[index] for index in classes),
    )
