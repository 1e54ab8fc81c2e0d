"""How long an epoch takes here, from a short run on some of the images."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from search_spaces.trial_config import TrialConfig
from study.data.build import LabeledImages, TrialData, load_trial_data
from study.data.photos import Photos
from study.training.train import Trainer

SAMPLE_IMAGES = 1000
"""Of each part of the split, rounded up to whole classes, and to as many classes as a batch has images."""


def seconds_per_epoch(trial: TrialConfig, data_dir: Path, cache_dir: Path) -> float:
    """Seconds of one epoch of `trial` on this machine, measuring included, scaled from a sample to all images.

    The second of two short epochs counts: the first also warms up. What grows faster than the images (Recall@K's
    products) is underestimated.

    Raises: DataError; Diverged.
    """
    data = load_trial_data(trial, data_dir, cache_dir)
    parts = [part for part in (data.val, data.test) if part is not None]
    sample = TrialData(
        train=_some(data.train, trial.batches.size),
        val=None if data.val is None else _some(data.val, 2),
        test=None if data.test is None else _some(data.test, 2),
    )
    sampled = [part for part in (sample.val, sample.test) if part is not None]
    trainer = Trainer(trial.replace(epochs=max(2, trial.epochs)), 0, sample)
    trainer.run_epoch()
    result = trainer.run_epoch().result
    # Clean training images are measured too where their accuracy or their angles are asked for.
    if trial.measure.train_accuracy or trial.measure.diagnostics:
        parts, sampled = [*parts, data.train], [*sampled, sample.train]
    train_share = len(data.train.labels) / len(sample.train.labels)
    return result.train_s * train_share + result.eval_s * _images(parts) / _images(sampled)


def _images(parts: list[LabeledImages]) -> int:
    return sum(len(part.labels) for part in parts)


def _some(part: LabeledImages, classes: int) -> LabeledImages:
    """The first classes of `part`: at least `classes` of them and SAMPLE_IMAGES images, as far as there are."""
    ends = part.labels.bincount().cumsum(0)
    enough = int((ends < SAMPLE_IMAGES).sum())
    count = int(ends[min(max(classes - 1, enough), len(ends) - 1)])
    if isinstance(part.images, Tensor):
        return LabeledImages(part.images[:count], part.labels[:count], part.names)
    photos = Photos(part.images.file, part.images.indices[:count], part.images.side)
    return LabeledImages(photos, part.labels[:count], part.names)
