import numpy as np

from search_spaces.datasets import Digits
from study.data import digits


def test_ten_classes_with_as_many_images_as_asked_for() -> None:
    images = digits.load(Digits(images_per_class=7))
    assert images.names == tuple("0123456789")
    assert np.bincount(images.labels).tolist() == [7] * 10
    assert images.pixels.shape == (70, 32, 32)
    assert images.pixels.max() > 200


def test_a_digit_of_fewer_images_gives_all_it_has() -> None:
    counts = np.bincount(digits.load(Digits(images_per_class=1000)).labels)
    assert counts.sum() == 1797
