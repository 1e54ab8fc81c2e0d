"""Which classes train, validate and test; no class is in two of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from search_spaces.datasets import Split
from study.data.arrays import DataError
from study.data.draws import generator


@dataclass(frozen=True)
class SplitClasses:
    """Class indices of the dataset, in the split's order; a class's place here is its label within its part."""

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]


def split_classes(split: Split, classes: int, dataset: str) -> SplitClasses:
    """The parts of a dataset of `classes` classes, by the rule that Split's docstring states.

    Args: dataset: its name, for the error.
    Raises: DataError if the dataset has fewer classes than the split needs.
    """
    if split.classes > classes:
        raise DataError(
            f"split: {split.train_classes} train + {split.val_classes} val + {split.test_classes} test classes = "
            f"{split.classes}, but {dataset} has {classes}; ask for fewer"
        )
    order = list(range(classes))
    if split.order == "seeded":
        order = torch.randperm(classes, generator=generator(split.seed, "split")).tolist()
    first_test = classes - split.test_classes
    first_val = first_test - split.val_classes
    return SplitClasses(
        tuple(order[: split.train_classes]), tuple(order[first_val:first_test]), tuple(order[first_test:])
    )
