"""A trial's images: from its configuration to tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from torch import Tensor

from search_spaces.datasets import (
    Cars196,
    Cub200,
    DatasetConfig,
    Digits,
    Emnist,
    Glyphs,
    ImageFolder,
    MnistLike,
    Omniglot,
    PhotoSet,
    Sop,
    Split,
)
from search_spaces.trial_config import TrialConfig
from study.data import cars196, cub200, digits, glyphs, image_folder, mnist, omniglot, sop
from study.data.arrays import ClassImages, DataError
from study.data.photos import PhotoFile, Photos
from study.data.splits import split_classes

__all__ = ["DataError", "LabeledImages", "TrialData", "load_trial_data"]


@dataclass(frozen=True)
class LabeledImages:
    """One part of a split.

    images: drawings as (N, 1, H, W) float32 in [0, 1], ink 1 on background 0, or photos; classes one after the other.
    labels: (N,) int64 in [0, classes). names: one per class, the dataset's own. The tensors are shared between trials:
    never write to them.
    """

    images: Tensor | Photos
    labels: Tensor
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and side of what the network sees."""
        if isinstance(self.images, Photos):
            return 3, self.images.side
        return self.images.shape[1], self.images.shape[2]

    def to(self, device: torch.device) -> LabeledImages:
        """The same on `device`; photos stay where they are, and their squares go there one batch at a time."""
        images = self.images if isinstance(self.images, Photos) else self.images.to(device)
        return LabeledImages(images, self.labels.to(device), self.names)

    def clean(self, size: int) -> Iterator[Tensor]:
        """All images in order, undistorted: (B, channels, side, side), `size` at once, on the labels' device."""
        if isinstance(self.images, Photos):
            return self.images.clean(size, self.labels.device)
        return iter(torch.split(self.images, size))


@dataclass(frozen=True)
class TrialData:
    """Training images; validation and test images of other classes, None where a trial has or may see none."""

    train: LabeledImages
    val: LabeledImages | None
    test: LabeledImages | None


def load_trial_data(trial: TrialConfig, data_dir: Path, cache_dir: Path) -> TrialData:
    """The images that `trial` trains on and measures; test classes only where it measures them.

    Args: data_dir: holds what was downloaded (omniglot/*.zip, CUB_200_2011); cache_dir: for drawn and decoded images,
    made if it is not there.
    Raises: DataError.
    """
    return _load(trial.dataset, trial.split, trial.measure.test, data_dir, cache_dir)


def image_shape(dataset: DatasetConfig) -> tuple[int, int]:
    """Channels and side of the images of `dataset`."""
    match dataset:
        case Glyphs() | Digits() | Omniglot() | MnistLike() | Emnist():
            return 1, 32
        case Cub200() | Cars196() | Sop() | ImageFolder():
            return 3, dataset.side
        case _:
            assert_never(dataset)


def forget_loaded() -> None:
    """Let go of the images that this process keeps for its next trial."""
    _load.cache_clear()
    _load_dataset.cache_clear()


# A worker runs many trials of one study: the arrays of a dataset, and the tensors of a split, are made once for all.
@lru_cache(maxsize=4)
def _load(dataset: DatasetConfig, split: Split, test: bool, data_dir: Path, cache_dir: Path) -> TrialData:
    if isinstance(dataset, ImageFolder):  # before the photos are decoded, which takes long
        image_folder.require_split(dataset, split, data_dir)
    images = _load_dataset(dataset, data_dir, cache_dir)
    side = dataset.side if isinstance(dataset, PhotoSet) else 0
    classes = split_classes(split, len(images.names), dataset.kind)
    return TrialData(
        train=_take(images, classes.train, side),
        val=_take(images, classes.val, side) if classes.val else None,
        test=_take(images, classes.test, side) if classes.test and test else None,
    )


@lru_cache(maxsize=2)
def _load_dataset(dataset: DatasetConfig, data_dir: Path, cache_dir: Path) -> ClassImages | PhotoFile:
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
        case Cub200():
            return cub200.load(dataset, data_dir, cache_dir)
        case Cars196():
            return cars196.load(dataset, data_dir, cache_dir)
        case Sop():
            return sop.load(dataset, data_dir, cache_dir)
        case ImageFolder():
            return image_folder.load(dataset, data_dir, cache_dir)
        case _:
            assert_never(dataset)


def _take(whole: ClassImages | PhotoFile, classes: tuple[int, ...], side: int) -> LabeledImages:
    members = [np.flatnonzero(whole.labels == index) for index in classes]
    labels = torch.from_numpy(np.repeat(np.arange(len(classes), dtype=np.int64), [len(own) for own in members]))
    names, indices = tuple(whole.names[index] for index in classes), np.concatenate(members)
    if isinstance(whole, PhotoFile):
        return LabeledImages(Photos(whole, indices, side), labels, names)
    pixels = torch.from_numpy(whole.pixels[indices]).unsqueeze(1).to(torch.float32).div_(255.0)
    return LabeledImages(pixels, labels, names)
