from pathlib import Path

import numpy as np
import pytest

from study.data.arrays import ClassImages, DataError, cached


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


def test_a_failed_write_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(DataError, match="disk full"):
        cached(tmp_path, "x", "key", two_images)
    assert list(tmp_path.iterdir()) == []
