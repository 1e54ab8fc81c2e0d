"""MNIST and the sets in its layout, read by torchvision and padded to 32 x 32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from search_spaces.datasets import Emnist, MnistLike
from study.data.arrays import ClassImages, DataError
from study.data.fetch import fetching

SIDE = 32
_DRAWN_SIDE = 28
_IMAGES = 70_000
_EMNIST_IMAGES = {"balanced": 131_600, "letters": 145_600, "digits": 280_000, "byclass": 814_255, "bymerge": 814_255}
_CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}


def load(config: MnistLike, data_dir: Path) -> ClassImages:
    """The ten classes in label order, train and test images one after the other in each, (N, 32, 32).

    The files lie in `data_dir`/<MNIST, FashionMNIST or KMNIST>/raw, as torchvision puts them, packed or not; those that
    are missing are fetched.
    Raises: DataError if they cannot be had, or hold what they should not.
    """
    from torchvision import datasets  # takes seconds to import

    reader = getattr(datasets, _CLASSES[config.kind])
    unpacked = [name.removesuffix(".gz") for name, _ in reader.resources]
    sources = [(f"{reader.mirrors[0]}{name}", md5) for name, md5 in reader.resources]
    parts = [_read(reader, data_dir, unpacked, sources, train=train) for train in (True, False)]
    pixels, labels = _joined(parts)
    folder = data_dir / _CLASSES[config.kind] / "raw"
    names = tuple(str(name).split(" - ")[0] for name in reader.classes)
    return _checked(folder, pixels, labels, names, _IMAGES if config.complete else None, config.images_per_class)


def load_emnist(config: Emnist, data_dir: Path) -> ClassImages:
    """As `load`, for one part of EMNIST in `data_dir`/EMNIST/raw; letters stand upright.

    Raises: DataError.
    """
    from torchvision.datasets import EMNIST

    files = ("images-idx3", "labels-idx1")
    unpacked = [f"emnist-{config.part}-{part}-{file}-ubyte" for part in ("train", "test") for file in files]
    sources = [(EMNIST.url, EMNIST.md5)]
    parts = [_read(EMNIST, data_dir, unpacked, sources, train=train, split=config.part) for train in (True, False)]
    pixels, labels = _joined(parts)
    names = tuple(EMNIST.classes_split_dict[config.part])
    if config.part == "letters":  # its labels begin at 1
        labels, names = labels - 1, names[1:]
    expected = _EMNIST_IMAGES[config.part] if config.complete else None
    upright = pixels.transpose(0, 2, 1)  # EMNIST stores columns where MNIST stores rows
    return _checked(data_dir / "EMNIST" / "raw", upright, labels, names, expected, config.images_per_class)


def _read(reader: Any, data_dir: Path, unpacked: list[str], sources: list[tuple[str, str]], **options: Any) -> Any:
    """One of torchvision's MNIST classes. unpacked: its files; sources: address and md5 of what it would fetch."""
    folder = data_dir / reader.__name__ / "raw"

    def lacks() -> bool:
        return not all((folder / name).exists() for name in unpacked)

    missing = lacks()
    try:
        if not missing:  # a folder that may only be read serves too
            return reader(data_dir, **options)
        data_dir.mkdir(parents=True, exist_ok=True)
        # Workers of one machine that find nothing would all write the same files.
        with FileLock(data_dir / f".{reader.__name__}.lock"), fetching():
            return reader(data_dir, download=lacks(), **options)
    except MemoryError:
        raise
    except Exception as error:  # torchvision's readers raise whatever broken bytes lead to
        if missing:
            wanted = ", ".join(f"{url} (md5 {md5})" for url, md5 in sources)
            raise DataError(
                f"{folder}: {unpacked[0]} or one of its kind is missing and fetching it failed ({_first_line(error)}); "
                f"get {wanted} and put it there"
            ) from error
        raise DataError(
            f"{folder}: a file is not in MNIST's layout ({type(error).__name__} {_first_line(error)}); delete the "
            "folder and fetch it again"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]


def _joined(parts: list[Any]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    pixels = np.concatenate([part.data.numpy() for part in parts])
    return pixels, np.concatenate([part.targets.numpy() for part in parts]).astype(np.int64)


def _checked(
    folder: Path,
    pixels: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    names: tuple[str, ...],
    expected: int | None,
    cap: int | None,
) -> ClassImages:
    """Images by class, at most `cap` of each, padded.

    Raises: DataError if shapes, labels or the number of images are not what they should be.
    """
    side = _DRAWN_SIDE
    if pixels.shape != (len(labels), side, side):
        raise DataError(
            f"{folder}: images are {pixels.shape} for {len(labels)} labels, not {side} x {side} each; fetch it again"
        )
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(names):
        raise DataError(f"{folder}: labels go beyond the {len(names)} classes; fetch it again")
    if expected is not None and len(labels) != expected:
        raise DataError(
            f"{folder}: holds {len(labels)} images, the whole set has {expected}; fetch it again, or set "
            "dataset.complete: false to use a part"
        )
    members = [np.flatnonzero(labels == label)[:cap] for label in range(len(names))]
    if empty := [names[label] for label, own in enumerate(members) if len(own) == 0]:
        raise DataError(f"{folder}: no image of class {empty[0]}; fetch it again")
    order = np.concatenate(members)
    border = (SIDE - side) // 2
    padded = np.pad(pixels[order], ((0, 0), (border, border), (border, border)))
    return ClassImages(padded, labels[order], names)
