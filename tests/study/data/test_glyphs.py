from pathlib import Path

import numpy as np
import pytest

from search_spaces.datasets import Glyphs, NoAugment
from study.data import glyphs
from study.data.arrays import ClassImages

CLEAN = Glyphs(distortion=NoAugment())


@pytest.fixture(scope="module")
def clean(cache_dir: Path) -> ClassImages:
    return glyphs.load(CLEAN, cache_dir)


def test_there_are_many_classes_of_one_image_a_face(clean: ClassImages) -> None:
    assert len(clean.names) > 1000
    assert (np.bincount(clean.labels) == 12).all()
    assert clean.pixels.shape == (12 * len(clean.names), 32, 32)
    assert clean.names[:3] == ("U+0021", "U+0022", "U+0023")
    assert clean.pixels.reshape(len(clean.pixels), -1).max(axis=1).min() > 0


def test_no_two_classes_are_more_alike_than_allowed(clean: ClassImages) -> None:
    flat = clean.pixels.reshape(len(clean.names), 12, -1)[:300].astype(np.float64)
    flat /= np.linalg.norm(flat, axis=2, keepdims=True)
    similarity = np.mean([flat[:, face] @ flat[:, face].T for face in range(12)], axis=0)
    np.fill_diagonal(similarity, 0)
    assert 0.85 < similarity.max() <= 0.92 + 1e-6


def test_a_class_too_similar_to_a_kept_one_is_dropped_and_one_similar_to_a_dropped_one_is_not() -> None:
    a, b, c = np.array([100, 0]), np.array([100, 60]), np.array([50, 100])  # cosines: ab .857, bc .843, ac .447
    images = np.stack([a, b, c]).astype(np.uint8).reshape(3, 1, 1, 2)
    assert glyphs.distinct_classes(images, 0.85) == [0, 2]
    assert glyphs.distinct_classes(images, 0.9) == [0, 1, 2]
    assert glyphs.distinct_classes(images, 0.4) == [0]


def test_the_distortion_belongs_to_the_dataset_and_its_seed(clean: ClassImages) -> None:
    few = clean.pixels[:24]
    distorted = [glyphs.distorted(few, Glyphs().distortion, seed) for seed in (0, 0, 1)]
    assert (distorted[0] == distorted[1]).all()
    assert (distorted[0] != distorted[2]).any()
    assert (glyphs.distorted(few, NoAugment(), 0) == few).all()


def test_the_second_load_reads_the_cache(cache_dir: Path, clean: ClassImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphs, "_draw", None)
    again = glyphs.load(CLEAN, cache_dir)
    assert (again.pixels == clean.pixels).all()
