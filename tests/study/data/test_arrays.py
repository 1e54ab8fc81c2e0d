import os
import random
from pathlib import Path

import numpy as np
import pytest

from study.data.arrays import ClassImages, DataError, cached
from tests.study.data.disk_faults import CODES, PLACES, failing


def two_images() -> ClassImages:
    return ClassImages(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.array([0, 1]), ("a", "b"))


def refuse() -> ClassImages:
    raise AssertionError("made again")


def test_what_was_made_once_is_read_back_and_not_made_again(tmp_path: Path) -> None:
    made = cached(tmp_path / "new", "x", "key", two_images)
    read = cached(tmp_path / "new", "x", "key", refuse)
    assert (read.pixels == made.pixels).all()
    assert read.pixels.dtype == np.uint8
    assert (read.labels == made.labels).all()
    assert read.names == made.names
    assert [path.suffix for path in (tmp_path / "new").iterdir()] == [".npz"]


def test_another_key_is_another_file(tmp_path: Path) -> None:
    cached(tmp_path, "x", "key", two_images)
    with pytest.raises(AssertionError, match="made again"):
        cached(tmp_path, "x", "other", refuse)


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_a_torn_file_is_made_again(tmp_path: Path, keep: int) -> None:
    cached(tmp_path, "x", "key", two_images)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    assert cached(tmp_path, "x", "key", two_images).names == ("a", "b")
    assert cached(tmp_path, "x", "key", refuse).names == ("a", "b")


def test_a_pickle_in_the_cache_is_not_opened(tmp_path: Path) -> None:
    cached(tmp_path, "x", "key", two_images)
    (path,) = tmp_path.iterdir()
    np.savez(path, pixels=np.array([{"a": 1}], dtype=object), labels=np.array([0, 1]), names=np.array(["a", "b"]))
    assert cached(tmp_path, "x", "key", two_images).pixels.dtype == np.uint8


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot keep the images of x there"):
        cached(tmp_path / "file" / "cache", "x", "key", two_images)


@pytest.mark.parametrize("code", CODES, ids=os.strerror)
@pytest.mark.parametrize("place", PLACES)
def test_a_disk_that_fails_is_one_line_with_a_mend_and_leaves_no_half_file(
    place: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    with monkeypatch.context() as patch:
        failing(patch, place, code)
        with pytest.raises(DataError) as caught:
            cached(folder, "x", "key", two_images)
    line = str(caught.value)
    assert line.startswith(f"{folder}: cannot keep the images of x there ({os.strerror(code)}); ")
    assert line.endswith(f"{CODES[code]}, or choose another --home")
    left = list(folder.glob("*"))
    assert len(left) == (place == "fsync of the folder"), "then the file is whole"
    assert cached(folder, "x", "key", two_images).names == ("a", "b")


def test_the_file_and_then_its_name_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink().name))
    cached(tmp_path, "x", "key", two_images)
    assert [synced[0].endswith(".part"), *synced[1:]] == [True, tmp_path.name]


def broken(content: bytes, draws: random.Random) -> bytes:
    """`content` cut, with bits flipped, bytes replaced, a stretch lost, doubled or zeroed."""
    start = draws.randrange(len(content))
    end = min(len(content), start + draws.randint(1, 60))
    data = bytearray(content)
    match draws.randrange(6):
        case 0:
            del data[start:]
        case 1:
            for _ in range(draws.randint(1, 4)):
                data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
        case 2:
            data[start:end] = draws.randbytes(end - start)
        case 3:
            del data[start:end]
        case 4:
            data[start:start] = data[start:end]
        case 5:
            data[start:end] = bytes(end - start)
    return bytes(data)


def test_three_hundred_corruptions_of_a_cached_file_are_made_again_or_harmless(tmp_path: Path) -> None:
    cached(tmp_path, "x", "key", two_images)
    (path,) = tmp_path.iterdir()
    whole, draws, again = path.read_bytes(), random.Random(0), []

    def make() -> ClassImages:
        again.append(None)
        return two_images()

    for _ in range(300):
        path.write_bytes(broken(whole, draws))
        images = cached(tmp_path, "x", "key", make)
        assert (images.pixels == two_images().pixels).all()
        assert (images.labels == two_images().labels).all()
        assert images.names == ("a", "b")
    assert len(again) > 150


@pytest.mark.parametrize(
    "arrays",
    [
        {"pixels": np.zeros((2, 2, 2), np.uint8), "labels": np.array(3), "names": np.array("a")},
        {"pixels": np.zeros((2, 2, 2), np.uint8), "labels": np.array([0, 1]), "names": np.array(2)},
        {"pixels": np.zeros((2, 2, 2), np.float64), "labels": np.array([0, 1]), "names": np.array(["a", "b"])},
        {"pixels": np.zeros((2, 2, 2), np.uint8), "labels": np.array([0, 1]), "names": np.array(["a"])},
    ],
)
def test_a_sound_archive_of_other_arrays_is_made_again(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    cached(tmp_path, "x", "key", two_images)
    (path,) = tmp_path.iterdir()
    np.savez(path, **arrays)
    assert (cached(tmp_path, "x", "key", two_images).pixels == two_images().pixels).all()
