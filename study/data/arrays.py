"""Whole datasets as numpy arrays, and the folder in which drawn or decoded ones are kept."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from study.ledger.write import sync_folder
from study.words import in_one_line

_MENDS = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EIO: "mend the disk",
}


class DataError(Exception):
    """A dataset cannot be had, read, or split as asked. One line: what, where, the mend."""


@dataclass(frozen=True)
class ClassImages:
    """A whole dataset in its own class order.

    pixels: (N, H, W) uint8, ink 255 on background 0, classes one after the other. labels: (N,) int64, rising from 0.
    names: one per class.
    """

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]


def cached(cache_dir: Path, name: str, key: str, make: Callable[[], ClassImages]) -> ClassImages:
    """What `make` gives, from `cache_dir` if it was made there before with the same `key`.

    The file is written under another name and then renamed, so a reader sees all of it or nothing. A file that cannot
    be read is made again.
    Raises: DataError if the folder cannot be written; whatever `make` raises.
    """
    path = cache_dir / f"{name}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.npz"
    if (found := _read(path)) is not None:
        return found
    images = make()
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        _write(path, images)
    except OSError as error:
        raise not_kept(cache_dir, f"images of {name}", error) from error
    return images


def not_kept(cache_dir: Path, what: str, error: OSError) -> DataError:
    """The line for a cache folder that cannot be written."""
    mend = _MENDS.get(error.errno or 0, "make it a folder that you may write to")
    reason = error.strerror or in_one_line(error)
    return DataError(f"{cache_dir}: cannot keep the {what} there ({reason}); {mend}, or choose another --home")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which stands at `path`, durable, once the block ends; not at all where it raises.

    Raises: OSError.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
    sync_folder(path.parent)


def _read(path: Path) -> ClassImages | None:
    try:
        # Opened here: np.load leaves a file open that turns out to be no zip archive.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            pixels, labels, names = file["pixels"], file["labels"], file["names"]
        typed = pixels.dtype == np.uint8 and labels.dtype == np.int64 and names.dtype.kind == "U"
        fitting = pixels.ndim == 3 and labels.shape == pixels.shape[:1] and names.ndim == 1
        if not (typed and fitting) or len(names) != (labels[-1] + 1 if len(labels) else 0):
            return None
    except Exception:  # numpy's reader raises whatever broken bytes lead to
        return None
    return ClassImages(pixels, labels, tuple(str(name) for name in names))


def _write(path: Path, images: ClassImages) -> None:
    # Packed in memory: a zip archive whose file breaks tries to end itself in it, and complains on stderr.
    packed = io.BytesIO()
    np.savez_compressed(packed, pixels=images.pixels, labels=images.labels, names=np.array(images.names))
    with whole_file(path) as file:
        file.write(packed.getbuffer())
