"""Photo files to decoded pixels: once per dataset and machine, then from the cache."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import itertools
import os
import shutil
import tarfile
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from PIL import ExifTags, Image, UnidentifiedImageError

from search_spaces.datasets import PhotoSet
from study.data.arrays import DataError, not_kept
from study.data.photos import PhotoFile, read_photos, write_photos
from study.words import in_one_line

VERSION = 1
_MAX_FILE_BYTES = 64 * 2**20
_TOGETHER = 64
_EXIF, _EXIF_BYTES = b"Exif\0\0", 2**16  # how the block begins, and as long as it may be
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Listing:
    """What a dataset's annotations say: files by class, and where they lie.

    files: relative to `root`, classes one after the other; labels: (N,) int64, rising from 0; names: one per class.
    archive: the tar file that holds them, under `root`'s path, in place of a folder.
    """

    root: Path
    files: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    archive: Path | None = None


@dataclass(frozen=True)
class Counts:
    """A whole set: classes and photos, and those of the first classes that it is usually trained on."""

    classes: int
    photos: int
    train_classes: int
    train_photos: int


def listed(
    where: Path, root: Path, entries: list[tuple[str, int]], names: tuple[str, ...], archive: Path | None = None
) -> Listing:
    """The listing of (file, zero-based label) `entries` that the annotations in `where` give.

    Raises: DataError for no class, a label without one, a class without a photo, a file named twice or outside `root`.
    """
    if not names:
        raise DataError(f"{where}: names no class; restore the official file")
    if odd := next(filter(_breaks_a_line, itertools.chain(names, (file for file, _ in entries))), None):
        raise DataError(f"{where}: {odd!r} holds a line's end, or bytes that are no UTF-8; rename it")
    for file, label in entries:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in file or "\0" in file:
            raise DataError(f"{where}: {file!r} leaves the folder {root}; name files inside it only")
        if not 0 <= label < len(names):
            raise DataError(
                f"{where}: {file} has label {label + 1}, there are {len(names)} classes; restore the official file"
            )
    if len({file for file, _ in entries}) < len(entries):
        raise DataError(f"{where}: names a photo twice; list each once")
    labels = np.array([label for _, label in entries], dtype=np.int64)
    order = np.argsort(labels, kind="stable")
    present = np.bincount(labels, minlength=len(names))
    if (present == 0).any():
        raise DataError(f"{where}: class {names[int(present.argmin())]} has no photo; restore the missing ones")
    return Listing(root, tuple(entries[place][0] for place in order), labels[order], names, archive)


def _breaks_a_line(name: str) -> bool:
    """Whether a message that holds `name` would be more than a line of text, or none that can be encoded."""
    return name.splitlines() not in ([name], []) or any("\ud800" <= letter <= "\udfff" for letter in name)


def require_counts(where: Path, labels: npt.NDArray[np.int64], classes: int, expected: Counts) -> None:
    """Raises: DataError if the numbers of classes and photos are not those of the whole set."""
    train_photos = int((labels < expected.train_classes).sum())
    if (classes, len(labels), train_photos) != (expected.classes, expected.photos, expected.train_photos):
        raise DataError(
            f"{where}: has {classes} classes and {len(labels)} photos, {train_photos} of them in the first "
            f"{expected.train_classes} classes; the whole set has {expected.classes}, {expected.photos} and "
            f"{expected.train_photos}; fetch it again, or set dataset.complete: false to use a part"
        )


def load_photos(config: PhotoSet, name: str, key: str, cache_dir: Path, make: Callable[[], Listing]) -> PhotoFile:
    """The decoded photos of what `make` lists, from `cache_dir` if they were decoded there before by the same `key`.

    Raises: DataError for a photo that is missing or cannot be read, for more than `cache_gib`, for a full disk.
    """
    key = f"{VERSION}|{name}|{config.shorter_side}|{key}"
    path = cache_dir / f"{name}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.photos"
    if (found := read_photos(path)) is not None:  # a cache that may only be read serves too
        return found
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        # Trials that start together would all decode the whole set.
        with FileLock(path.with_suffix(".lock")):
            if (found := read_photos(path)) is not None:
                return found
            _keep_photos(path, make(), config, name)
    except OSError as error:
        raise not_kept(cache_dir, f"photos of {name}", error) from error
    if (found := read_photos(path)) is None:
        raise DataError(f"{path}: was written and cannot be read; mend the disk, or choose another --home")
    return found


def _keep_photos(path: Path, listing: Listing, config: PhotoSet, name: str) -> None:
    """Decode all that is listed into `path`. Raises: DataError; OSError where it cannot be written."""
    total = len(listing.files)

    def check(count: int, written: int) -> None:
        _refuse_too_much(path.parent, name, config.cache_gib, count, written, total)

    # Closed at once where the disk fails: else threads and a filter of warnings live as long as the error does.
    with contextlib.closing(_decoded(listing, config.shorter_side)) as photos:
        write_photos(path, photos, listing.labels, listing.names, check)


def _refuse_too_much(folder: Path, name: str, cache_gib: float, count: int, written: int, total: int) -> None:
    """Raises: DataError as soon as it is clear that the decoded photos will not fit."""
    expected = written / count * total if count >= min(_TOGETHER, total) else written
    if expected > cache_gib * 2**30:
        raise DataError(
            f"{folder}: the decoded photos of {name} would take about {expected / 2**30:.3g} GiB, dataset.cache_gib is "
            f"{cache_gib:g}; raise it, or lower dataset.shorter_side"
        )
    if count == min(_TOGETHER, total) and expected - written > shutil.disk_usage(folder).free:
        raise DataError(
            f"{folder}: the decoded photos of {name} would take about {expected / 2**30:.3g} GiB, and the disk has not "
            "so much left; make room there, or choose another --home"
        )


def stamp(listing: Listing) -> str:
    """What a cached file must agree on: the annotations, and each photo's size and time of change.

    Raises: DataError naming the first photo that is not there.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file, label in zip(listing.files, listing.labels.tolist(), strict=True):
        path = listing.root / file
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}), and is listed; restore it") from error
        digest.update(f"{file}|{label}|{status.st_size}|{status.st_mtime_ns}\n".encode())
    digest.update("\n".join(listing.names).encode())
    return digest.hexdigest()


def _decoded(listing: Listing, shorter_side: int) -> Generator[tuple[int, npt.NDArray[np.uint8]], None, None]:
    """Index and pixels of every photo. Pillow decodes outside Python's lock, so threads help."""

    def work(item: tuple[int, str, bytes]) -> tuple[int, npt.NDArray[np.uint8]]:
        return item[0], decode(item[2], item[1], shorter_side)

    encoded = _from_folder(listing) if listing.archive is None else _from_archive(listing, listing.archive)
    # The filter is set here, not in each thread: Python has one for all.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.simplefilter("ignore", UserWarning)  # of damaged EXIF, on which nothing depends but the orientation
        while group := list(itertools.islice(encoded, _TOGETHER)):
            yield from pool.map(work, group)


def _from_folder(listing: Listing) -> Iterator[tuple[int, str, bytes]]:
    """Every photo of the listing, in its order. Raises: DataError, also for a photo that cannot be read."""
    for index, file in enumerate(listing.files):
        path = listing.root / file
        try:
            root, real = listing.root.resolve(), path.resolve()  # who keeps a set elsewhere links the whole of it
            if not real.is_relative_to(root):
                raise DataError(
                    f"{path}: is a link that leaves the folder; put the photo itself there, or let {listing.root} "
                    "itself be the link"
                )
            size = real.stat().st_size
            if size > _MAX_FILE_BYTES:
                raise DataError(f"{real}: is {size} bytes, a photo may have {_MAX_FILE_BYTES}; make it smaller")
            encoded = real.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); restore it") from error
        yield index, str(path), encoded


def _from_archive(listing: Listing, archive: Path) -> Iterator[tuple[int, str, bytes]]:
    """Every photo of the listing, in the archive's order. Nothing is extracted; links and other members are ignored."""
    wanted = {f"{listing.root.as_posix()}/{file}": index for index, file in enumerate(listing.files)}
    for name, encoded in read_members(archive, lambda name: name in wanted):
        yield wanted.pop(name), f"{archive}: {name}", encoded
    if wanted:
        raise DataError(f"{archive}: {next(iter(wanted))} is listed and not there; fetch the archive again")


def read_members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the plain files in a tar archive whose name is `wanted`, once each.

    Raises: DataError for a broken archive or a file that is too large.
    """
    try:
        with _unpacked(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
            seen: set[str] = set()
            for member in members:
                name = member.name.removeprefix("./")
                if not member.isfile() or name in seen or not wanted(name):
                    continue
                if member.size > _MAX_FILE_BYTES:
                    raise DataError(
                        f"{archive}: {name} is {member.size} bytes, no file there is so large; fetch it again"
                    )
                seen.add(name)
                file = members.extractfile(member)
                assert file is not None
                yield name, file.read()
            while stream.read(2**20):  # gzip's checksum stands at the end
                pass
    except DataError:
        raise
    except Exception as error:  # tarfile and gzip raise whatever broken bytes lead to
        reason = in_one_line(error)
        raise DataError(f"{archive}: is no sound tar archive ({reason}); fetch it again") from error


def _unpacked(archive: Path) -> gzip.GzipFile | io.BufferedReader:
    """What is in a gzip file, checked against its sum where the stream ends; any other file as it is."""
    with archive.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(archive) if packed else archive.open("rb")


def decode(encoded: bytes, where: str, shorter_side: int) -> npt.NDArray[np.uint8]:
    """A JPEG or PNG as (H, W, 3) uint8, RGB, upright, its shorter side `shorter_side`; decoded in full.

    Raises: DataError naming `where`.
    """
    try:
        with _opened(encoded) as image:
            image.load()
            if image.mode in _DEEP_MODES:
                raise DataError(f"{where}: has pixels of more than 8 bits; save it with 8 bits a channel")
            upright = _upright(image).convert("RGB")
            width, height = upright.size
            longer = int(shorter_side * max(width, height) / min(width, height))  # as torchvision's Resize rounds
            size = (shorter_side, longer) if width <= height else (longer, shorter_side)
            if size != upright.size:
                upright = upright.resize(size, Image.Resampling.BILINEAR)
            pixels: npt.NDArray[np.uint8] = np.asarray(upright, dtype=np.uint8)
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise _unreadable(where, "it is neither") from error
    except Exception as error:  # Pillow's readers raise whatever broken bytes lead to
        raise _unreadable(where, in_one_line(error)) from error
    return pixels


def _unreadable(where: str, reason: str) -> DataError:
    return DataError(f"{where}: is no readable JPEG or PNG ({reason}); restore it or take it out")


def _opened(encoded: bytes) -> Image.Image:
    """The photo, not yet decoded.

    Pillow looks for a resolution in a JPEG's EXIF block as it opens it, and one that it cannot read makes it say that
    the file is no JPEG: then it opens the photo without seeing the block.
    """
    try:
        return Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG"))
    except Exception:  # whatever Pillow raises for a block that it cannot read
        if (start := encoded.find(_EXIF)) < 0:
            raise
    image = Image.open(io.BytesIO(encoded.replace(_EXIF, b"hidden")), formats=("JPEG", "PNG"))
    image.info["exif"] = encoded[start : start + _EXIF_BYTES]
    return image


def _upright(image: Image.Image) -> Image.Image:
    """`image` turned as its EXIF block says.

    ImageOps.exif_transpose also writes the block anew, which fails where any of its tags is damaged.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # as many kinds as there are ways to damage the block; the pixels are whole
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)
