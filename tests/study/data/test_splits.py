import pytest

from search_spaces.datasets import Split
from study.data.arrays import DataError
from study.data.splits import split_classes


def test_label_order_takes_train_first_test_last_and_val_before_it() -> None:
    split = Split(order="label", train_classes=3, val_classes=2, test_classes=4)
    parts = split_classes(split, 12, "digits")
    assert (parts.train, parts.val, parts.test) == ((0, 1, 2), (6, 7), (8, 9, 10, 11))


def test_val_and_test_stay_when_training_classes_grow() -> None:
    few = split_classes(Split(train_classes=3, val_classes=2, test_classes=4), 12, "digits")
    more = split_classes(Split(train_classes=6, val_classes=2, test_classes=4), 12, "digits")
    assert (few.val, few.test) == (more.val, more.test)
    assert more.train[:3] == few.train
    assert sorted(more.train + more.val + more.test) == list(range(12))


def test_a_seeded_order_is_its_seeds_own() -> None:
    orders = [
        split_classes(Split(seed=seed, train_classes=20, val_classes=0, test_classes=0), 20, "x").train
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != tuple(range(20))


def test_without_val_and_test_classes_those_parts_are_empty() -> None:
    parts = split_classes(Split(order="label", train_classes=2, val_classes=0, test_classes=0), 5, "x")
    assert (parts.train, parts.val, parts.test) == ((0, 1), (), ())


def test_too_few_classes_are_refused_with_the_numbers() -> None:
    with pytest.raises(DataError, match=r"6 train \+ 2 val \+ 3 test classes = 11, but digits has 10"):
        split_classes(Split(train_classes=6, val_classes=2, test_classes=3), 10, "digits")
