"""MNIST's layout, in miniature."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from search_spaces.datasets import Emnist, MnistLike
from study.data import fetch, mnist
from study.data.arrays import DataError
from tests.study.data import miniatures

PART = MnistLike(kind="mnist", complete=False)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import utils

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(utils, "_urlretrieve", unreachable)
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)


@pytest.mark.parametrize(
    ("kind", "folder", "first"),
    [("mnist", "MNIST", "0"), ("fashion_mnist", "FashionMNIST", "T-shirt/top"), ("kmnist", "KMNIST", "o")],
)
def test_classes_come_in_label_order_with_train_and_test_images_together(
    kind: str, folder: str, first: str, tmp_path: Path
) -> None:
    miniatures.mnist(tmp_path, folder)
    images = mnist.load(MnistLike.model_validate({"kind": kind, "complete": False}), tmp_path)
    assert np.bincount(images.labels).tolist() == [2, 1, 1, 3, 1, 1, 1, 1, 1, 1]
    assert images.labels.tolist() == sorted(images.labels)
    assert (images.names[0], len(images.names)) == (first, 10)
    # 28 x 28 in the middle of 32 x 32, the border without ink.
    assert images.pixels.shape == (13, 32, 32)
    assert images.pixels[:, 16, 16].tolist() == (10 + images.labels).tolist()
    assert images.pixels[0, 2, 29] == 200
    assert images.pixels[:, 1, :].max() == images.pixels[:, :, 30].max() == 0


def test_the_first_images_of_each_class_are_used(tmp_path: Path) -> None:
    miniatures.mnist(tmp_path)
    images = mnist.load(PART.replace(images_per_class=2), tmp_path)
    assert np.bincount(images.labels).tolist() == [2, 1, 1, 2, 1, 1, 1, 1, 1, 1]


def test_emnist_stands_upright_and_letters_begin_at_a(tmp_path: Path) -> None:
    miniatures.emnist_letters(tmp_path)
    images = mnist.load_emnist(Emnist(part="letters", complete=False), tmp_path)
    assert images.names == tuple("abcdefghijklmnopqrstuvwxyz")
    assert np.bincount(images.labels).tolist() == [2] * 26
    assert images.pixels[0, 16, 16] == 11  # a is 1 in the file
    # The file's upper right pixel is the picture's lower left.
    assert images.pixels[0, 29, 2] == 200
    assert images.pixels[0, 2, 29] == 11


@pytest.mark.usefixtures("no_network")
def test_packed_files_put_there_by_hand_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import MNIST

    raw = miniatures.mnist(tmp_path)
    resources = []
    for name, _ in MNIST.resources:
        plain = raw / name.removesuffix(".gz")
        packed = gzip.compress(plain.read_bytes())
        plain.unlink()
        (raw / name).write_bytes(packed)
        resources.append((name, hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(MNIST, "resources", resources)
    assert len(mnist.load(PART, tmp_path).labels) == 13


@pytest.mark.usefixtures("no_network")
def test_what_is_missing_and_cannot_be_fetched_is_told_with_its_checksums_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        mnist.load(PART, tmp_path)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{tmp_path / 'MNIST' / 'raw'}: train-images-idx3-ubyte or one of its kind is missing")
    assert "train-images-idx3-ubyte.gz (md5 f68b3c2dcbeaaa9fbdd348bbdeb94873)" in line
    with pytest.raises(DataError, match=r"get https://biometrics.*gzip.zip \(md5 58c8d27c78d21e728a6bc7b3cc06412"):
        mnist.load_emnist(Emnist(complete=False), tmp_path)


def test_a_copy_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    miniatures.mnist(tmp_path)
    with pytest.raises(DataError, match=r"holds 13 images, the whole set has 70000; .*dataset.complete: false"):
        mnist.load(MnistLike(kind="mnist"), tmp_path)


def test_a_label_out_of_range_is_named(tmp_path: Path) -> None:
    miniatures.mnist(tmp_path, train=[*range(10), 10])
    with pytest.raises(DataError, match="labels go beyond the 10 classes"):
        mnist.load(PART, tmp_path)


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    miniatures.mnist(tmp_path, train=[0, 1, 2, 3, 4, 5, 7, 8, 9])
    with pytest.raises(DataError, match="no image of class 6"):
        mnist.load(PART, tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 17, 100])
def test_a_torn_file_is_one_line(keep: int, tmp_path: Path) -> None:
    raw = miniatures.mnist(tmp_path)
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"raw: a file is not in MNIST's layout .*delete the folder"):
        mnist.load(PART, tmp_path)


def test_images_and_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    raw = miniatures.mnist(tmp_path)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(miniatures.idx(np.array([1, 2, 3])))
    with pytest.raises(DataError, match="for 14 labels"):
        mnist.load(PART, tmp_path)


def test_a_download_has_a_timeout_and_leaves_none_behind() -> None:
    import socket

    before = socket.getdefaulttimeout()
    with fetch.fetching():
        assert socket.getdefaulttimeout() == 10.0
    assert socket.getdefaulttimeout() == before


def test_files_that_are_there_are_read_without_writing_beside_them(tmp_path: Path) -> None:
    miniatures.mnist(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    mnist.load(PART, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before
