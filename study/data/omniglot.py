"""Omniglot's official archives (Lake, Salakhutdinov, Tenenbaum, Science 2015), read without extracting them."""

from __future__ import annotations

import io
import re
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from search_spaces.datasets import Omniglot
from study.data.arrays import ClassImages, DataError, cached
from study.data.fetch import fetching, require_md5
from study.words import in_one_line

VERSION = 1
MD5 = {
    "images_background_small1": "e704a628b5459e08445c13499850abc4",
    "images_background_small2": "b75a71a51d3b13f821f212756fe481fd",
    "images_background": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "6b91aef0f799c5bb55b94e3f2daec811",
}
URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
FOLDER = "omniglot"
SIDE = 32
_DRAWN_SIDE = 105
_MAX_IMAGE_BYTES = 64 * 1024
_IMAGE_NAME = re.compile(r"(?P<alphabet>[^/\\]+)/(?P<character>character\d\d)/(?P<image>\d{4}_\d\d\.png)")

Character = tuple[str, str]


def load(config: Omniglot, data_dir: Path, cache_dir: Path) -> ClassImages:
    """The characters of all sets named, in sorted (alphabet, character) order, (N, 32, 32), drawings in name order.

    The archives lie in `data_dir`/omniglot; one that is missing is fetched there.
    Raises: DataError if an archive cannot be had, is not the official one, or holds what it should not.
    """
    sets = sorted(set(config.sets))
    key = "|".join([str(VERSION), *(MD5[name] for name in sets)])
    return cached(cache_dir, "omniglot", key, lambda: _read_sets(sets, data_dir / FOLDER))


def _read_sets(sets: Sequence[str], folder: Path) -> ClassImages:
    characters: dict[Character, tuple[str, dict[str, bytes]]] = {}
    for name in sets:
        for character, drawings in read_archive(official_archive(name, folder), name).items():
            if character in characters and characters[character][1] != drawings:
                raise DataError(
                    f"{folder}: {'/'.join(character)} is not the same in {characters[character][0]}.zip and "
                    f"{name}.zip, so it cannot count once; name only one of the two in dataset.sets"
                )
            characters.setdefault(character, (name, drawings))
    pixels, labels = [], []
    for label, character in enumerate(sorted(characters)):
        source, drawings = characters[character]
        for image in sorted(drawings):
            pixels.append(shrink(decode(drawings[image], f"{source}.zip: {'/'.join(character)}/{image}")))
            labels.append(label)
    names = tuple("/".join(character) for character in sorted(characters))
    return ClassImages(np.stack(pixels), np.array(labels, dtype=np.int64), names)


def official_archive(name: str, folder: Path) -> Path:
    """Path of the archive `name`, fetched if it is missing, its md5 checked.

    Raises: DataError.
    """
    path = folder / f"{name}.zip"
    if not path.exists():
        _fetch(path, MD5[name])
    require_md5(path, MD5[name], f"{URL}/{name}.zip")
    return path


def _fetch(path: Path, md5: str) -> None:
    from torchvision.datasets.utils import download_url  # takes seconds to import, and is seldom needed

    url = f"{URL}/{path.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as temporary, fetching():
            download_url(url, temporary, path.name, md5)
            (Path(temporary) / path.name).replace(path)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path.name} is missing in {path.parent} and fetching it failed ({error}); get {url} (md5 {md5}) and put "
            "it there"
        ) from error


def read_archive(path: Path, name: str) -> dict[Character, dict[str, bytes]]:
    """The encoded images of an archive, by (alphabet, character) and file name.

    Raises: DataError for a broken archive, a link, a path that leaves it, a file that is no small image of the layout.
    """
    characters: dict[Character, dict[str, bytes]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                match = _IMAGE_NAME.fullmatch(member.filename.removeprefix(f"{name}/"))
                if match is None or ".." in member.filename.split("/") or stat.S_ISLNK(member.external_attr >> 16):
                    raise DataError(
                        f"{path}: holds {member.filename!r}, which is no drawing; fetch the official archive"
                    )
                if member.file_size > _MAX_IMAGE_BYTES:
                    raise DataError(
                        f"{path}: {member.filename} is {member.file_size} bytes, a drawing has at most "
                        f"{_MAX_IMAGE_BYTES}; fetch the official archive"
                    )
                drawings = characters.setdefault((match["alphabet"], match["character"]), {})
                drawings[match["image"]] = archive.read(member)
    except DataError:
        raise
    except Exception as error:  # zipfile raises whatever broken bytes lead to
        raise DataError(f"{path}: is no sound zip archive ({in_one_line(error)}); fetch it again") from error
    if not characters:
        raise DataError(f"{path}: holds no drawing; fetch the official archive")
    return characters


def decode(encoded: bytes, name: str) -> npt.NDArray[np.uint8]:
    """The drawing as (105, 105) uint8, ink 255 on background 0; decoded fully, as a PNG and nothing else.

    Raises: DataError naming `name`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=("PNG",)) as image:
                if image.size != (_DRAWN_SIDE, _DRAWN_SIDE):
                    raise DataError(f"{name}: is {image.size[0]} x {image.size[1]}, a drawing is 105 x 105")
                image.load()
                gray = np.asarray(image.convert("L"), dtype=np.uint8)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow's reader raises whatever broken bytes lead to
        raise DataError(f"{name}: is no readable PNG ({in_one_line(error)}); fetch the official archive") from error
    return 255 - gray  # Omniglot draws black on white


def shrink(drawing: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(105, 105) to (32, 32), each new pixel the mean of the area that it covers, parts of old pixels included.

    Pillow's BOX filter takes whole pixels only, by their centers.
    """
    small: npt.NDArray[np.uint8] = np.round(_OVERLAP @ drawing @ _OVERLAP.T).astype(np.uint8)
    return small


def _overlap(small: int, large: int) -> npt.NDArray[np.float64]:
    """(small, large): share of each of `small` equal cells that lies on each of `large` equal pixels; rows sum to 1."""
    cells, pixels = np.arange(small)[:, None] * (large / small), np.arange(large)[None, :]
    ends = np.minimum(cells + large / small, pixels + 1) - np.maximum(cells, pixels)
    shares: npt.NDArray[np.float64] = np.clip(ends, 0, None) * (small / large)
    return shares


_OVERLAP = _overlap(SIDE, _DRAWN_SIDE)
