import math

import pytest
import torch

from search_spaces.datasets import Batches
from study.data.batches import epoch_batches
from study.data.draws import generator


def labels_of(*images_per_class: int) -> torch.Tensor:
    return torch.arange(len(images_per_class)).repeat_interleave(torch.tensor(images_per_class))


def test_a_shuffled_epoch_holds_each_image_once_and_keeps_the_last_partial_batch() -> None:
    batches = epoch_batches(labels_of(*[12] * 7), Batches(size=32), None, generator(0))
    assert [len(batch) for batch in batches] == [32, 32, 20]
    assert sorted(torch.cat(batches).tolist()) == list(range(84))
    assert torch.cat(batches).tolist() != list(range(84))


def test_orders_differ_between_generators_and_repeat_with_one() -> None:
    def order(seed: int) -> list[int]:
        return torch.cat(epoch_batches(labels_of(12, 12), Batches(size=8), None, generator(seed))).tolist()

    assert order(0) == order(0) != order(1)


@pytest.mark.parametrize("k", [2, 4])
def test_a_p_times_k_batch_holds_p_distinct_classes_of_k_distinct_images(k: int) -> None:
    labels = labels_of(*[12] * 10)
    batches = epoch_batches(labels, Batches(size=16), k, generator(0))
    assert len(batches) == math.ceil(120 / 16)
    for batch in batches:
        assert labels[batch].bincount(minlength=10).sort().values.tolist() == [0] * (10 - 16 // k) + [k] * (16 // k)
        assert len(set(batch.tolist())) == 16


def test_where_everything_divides_a_p_times_k_epoch_holds_each_image_once() -> None:
    batches = epoch_batches(labels_of(*[12] * 8), Batches(size=16), 4, generator(0))
    assert sorted(torch.cat(batches).tolist()) == list(range(96))


def test_classes_that_a_round_leaves_over_are_not_left_out_of_every_round() -> None:
    labels = labels_of(*[12] * 10)  # 4 classes a batch: a round of 2 batches leaves 2 classes over
    drawn = labels[torch.cat(epoch_batches(labels, Batches(size=16), 4, generator(0)))].bincount(minlength=10)
    assert drawn.min() > 0


def test_a_class_of_fewer_images_than_k_repeats_them() -> None:
    batches = epoch_batches(labels_of(2, 5), Batches(size=8), 4, generator(0))
    assert sorted(batches[0].tolist())[:4] == [0, 0, 1, 1]
