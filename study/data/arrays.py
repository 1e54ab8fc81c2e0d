"""Whole datasets as numpy arrays, and the folder in which drawn or decoded ones are kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


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
        raise DataError(
            f"{cache_dir}: cannot keep the images of {name} there ({error}); choose another cache folder"
        ) from error
    return images


def _read(path: Path) -> ClassImages | None:
    try:
        # Opened here: np.load leaves a file open that turns out to be no zip archive.
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            pixels, labels, names = file["pixels"], file["labels"], file["names"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    sound = (
        pixels.dtype == np.uint8 and pixels.ndim == 3 and labels.dtype == np.int64 and labels.shape == pixels.shape[:1]
    )
    if not sound or len(names) != (labels[-1] + 1 if len(labels) else 0):
        return None
    return ClassImages(pixels, labels, tuple(str(name) for name in names))


def _write(path: Path, images: ClassImages) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".npz")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, pixels=images.pixels, labels=images.labels, names=np.array(images.names))
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
