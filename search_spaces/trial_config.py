"""TrialConfig: everything that decides one trial's result, but its seed's draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_spaces.base import Count, Frozen, Index
from search_spaces.datasets import AugmentConfig, Batches, DatasetConfig, Distort, NoAugment, PhotoSet, Split
from search_spaces.losses import AdaCos, LossConfig, schedule_of
from search_spaces.models import ModelConfig, SmallCnn
from search_spaces.optimizers import Adam, OptimizerConfig, lr_factor
from search_spaces.schedules import LinearScale, QuadraticScale, StepsScale, SwitchScale, scale_at

MAX_EPOCHS = 100_000
"""Epochs of one trial; more are a slip of the pen, and a plan walks through each."""


class Compute(Frozen):
    """What a trial runs on. threads and device change the last bits of a result, so they belong to the configuration.

    gpus: share of one GPU that a trial reserves (device: cuda). precision: autocast type of the forward pass. tf32:
    let float32 products on a GPU round their factors to 10 bits. compile: train through torch.compile, which needs a
    C++ compiler and takes up to minutes at each trial's start; measuring goes without. Weights lie channels last and
    Adam is fused on every device; on a GPU photos pass through pinned memory. Deterministic kernels are asked for on a
    GPU; those that have no such form warn.
    """

    threads: Count = 1
    device: Literal["cpu", "cuda"] = "cpu"
    gpus: Annotated[float, Field(ge=0)] = 0.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    tf32: bool = False
    compile: bool = False

    @model_validator(mode="after")
    def _gpu(self) -> Self:
        if (self.device == "cuda") != (self.gpus > 0):
            raise ValueError("device: cuda and gpus > 0 go together; set both or neither")
        if self.gpus > 1:
            raise ValueError("gpus: a trial trains on one GPU or a share of it; give at most 1")
        return self


class Measure(Frozen):
    """What each epoch records.

    recall_at: the K of Recall@K. test: whether test classes are loaded at all. train_accuracy: also on clean training
    images, not only running. diagnostics: angles, gradient norms, effective classes, proxy cosines (theory.md's
    quantities). histogram_epochs, embedding_epochs: the epochs_done (0 = untrained) at which proxy-cosine histograms
    and 2-D embeddings are kept.
    """

    recall_at: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 4, 8)
    test: bool = True
    train_accuracy: bool = True
    diagnostics: bool = False
    histogram_epochs: tuple[Index, ...] = ()
    embedding_epochs: tuple[Index, ...] = ()

    @model_validator(mode="after")
    def _at_one(self) -> Self:
        if 1 not in self.recall_at:
            raise ValueError("recall_at: does not hold 1, and Recall@1 is the value of a trial; add it")
        if len(set(self.recall_at)) < len(self.recall_at):
            raise ValueError("recall_at: a K stands twice; list each once")
        return self


class TrialConfig(Frozen):
    """One configuration. With a seed (weights, order of the images, augmentation) it decides a trial to the bit."""

    dataset: DatasetConfig
    split: Split
    model: ModelConfig = SmallCnn()
    loss: LossConfig
    optimizer: OptimizerConfig = Adam()
    batches: Batches = Batches()
    augment: AugmentConfig = Distort()
    epochs: Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
    compute: Compute = Compute()
    measure: Measure = Measure()

    @property
    def images_per_class(self) -> int | None:
        """k of the P x k batches, or None for plain shuffling; pair losses take 4 unless the file says another."""
        if self.batches.images_per_class is None and self.loss.needs_pairs:
            return 4
        return self.batches.images_per_class

    @property
    def objective(self) -> str:
        """The metric that is a trial's value: validation Recall@1, or test Recall@1 where no class is held out."""
        return "val_recall_at_1" if self.split.val_classes else "test_recall_at_1"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := _problems(self):
            raise ValueError("\n".join(problems))
        return self


def _problems(trial: TrialConfig) -> list[str]:
    """What is wrong between the fields of `trial`, in words."""
    problems = []
    schedule = schedule_of(trial.loss)
    match schedule:
        case SwitchScale() if schedule.switch_epoch >= trial.epochs:
            problems.append(
                f"loss.scale.switch_epoch: {schedule.switch_epoch} is not below epochs={trial.epochs}, so the switch "
                "never happens; lower it or raise epochs"
            )
        case LinearScale() | QuadraticScale() if schedule.hold_epoch >= trial.epochs:
            problems.append(
                f"loss.scale: the ramp reaches its end at zero-based epoch {schedule.hold_epoch}, but epochs="
                f"{trial.epochs} stops before that; lower first_epoch or loss.scale.epochs, or raise epochs"
            )
        case StepsScale() if _leaves_range(lambda epoch: scale_at(schedule, epoch), trial.epochs):
            return ["loss.scale: steps out of the numbers that a computer holds; bring factor nearer to 1"]
        case _:
            pass
    lr_schedule = trial.optimizer.lr_schedule
    if (lr_schedule.milestones or lr_schedule.tie_to_scale) and _leaves_range(
        lambda epoch: lr_factor(lr_schedule, epoch, None if schedule is None else scale_at(schedule, epoch)),
        trial.epochs,
    ):
        problems.append(
            "optimizer.lr_schedule: leaves the numbers that a computer holds; bring factor nearer to 1, power to 0"
        )
    if isinstance(trial.loss, AdaCos) and trial.split.train_classes < 3:
        problems.append("split.train_classes: AdaCos needs at least 3, its scale would be 0; raise it")
    if not trial.split.val_classes and not (trial.split.test_classes and trial.measure.test):
        problems.append("split: no validation and no test classes, so nothing can be measured; set val_classes")
    if trial.measure.test and not trial.split.test_classes:
        problems.append("split.test_classes: 0, but measure.test is true; set one of them")
    photos, drawn = isinstance(trial.dataset, PhotoSet), isinstance(trial.augment, Distort)
    if photos == drawn and not isinstance(trial.augment, NoAugment):
        problems.append(
            f"augment.kind: {trial.augment.kind} is for {'drawings' if drawn else 'photos'}, and {trial.dataset.kind} "
            f"has none; take {'random_resized_crop, random_crop' if photos else 'distort'} or none"
        )
    k = trial.images_per_class
    if k is not None and trial.batches.size % k:
        problems.append(f"batches.size: {trial.batches.size} is no multiple of images_per_class={k}; change one")
    if k is not None and trial.batches.size // k > trial.split.train_classes:
        problems.append(
            f"batches.size: {trial.batches.size} images of {k} a class need {trial.batches.size // k} classes, the "
            f"split trains {trial.split.train_classes}; lower it"
        )
    return problems


def _leaves_range(value: Callable[[int], float], epochs: int) -> bool:
    """Whether `value` of some zero-based epoch is no number above 0 that a float holds."""
    try:
        return not all(0 < value(epoch) < math.inf for epoch in range(epochs))
    except OverflowError:
        return True
