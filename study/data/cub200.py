"""CUB-200-2011 (Wah et al. 2011), from its folder or straight from its archive."""

from __future__ import annotations

from pathlib import Path

from search_spaces.datasets import Cub200
from study.data.arrays import DataError
from study.data.fetch import require_md5
from study.data.ingest import Counts, Listing, listed, load_photos, read_members, require_counts, stamp
from study.data.photos import PhotoFile

FOLDER = "CUB_200_2011"
URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
MD5 = "97eceeb196236b17998738112f37df78"
WHOLE = Counts(classes=200, photos=11_788, train_classes=100, train_photos=5_864)
_TEXTS = ("classes.txt", "images.txt", "image_class_labels.txt")


def load(config: Cub200, data_dir: Path, cache_dir: Path) -> PhotoFile:
    """All photos in the order of classes.txt.

    Raises: DataError.
    """
    folder, archive = data_dir / FOLDER, data_dir / f"{FOLDER}.tgz"
    if folder.is_dir():
        listing = _listing(config, folder, {name: _text(folder / name) for name in _TEXTS}, folder / "images")
        return load_photos(config, "cub200", stamp(listing), cache_dir, lambda: listing)
    if not archive.is_file():
        raise DataError(
            f"{data_dir}: neither {FOLDER} nor {FOLDER}.tgz is there; get {URL} (md5 {MD5}) and put it there"
        )
    status = archive.stat()
    key = f"tgz|{config.complete}|{status.st_size}|{status.st_mtime_ns}"
    return load_photos(config, "cub200", key, cache_dir, lambda: _listed_in_archive(config, archive))


def _listed_in_archive(config: Cub200, archive: Path) -> Listing:
    if config.complete:  # seconds, where decoding takes minutes; a part has been packed by someone else
        require_md5(archive, MD5, URL)
    wanted = {f"{FOLDER}/{name}": name for name in _TEXTS}
    texts = {wanted[name]: _decoded(archive / name, data) for name, data in read_members(archive, wanted.__contains__)}
    if missing := [name for name in _TEXTS if name not in texts]:
        raise DataError(f"{archive}: {FOLDER}/{missing[0]} is not in it; fetch {URL} (md5 {MD5})")
    return _listing(config, archive, texts, Path(FOLDER) / "images", archive)


def _text(path: Path) -> str:
    try:
        return _decoded(path, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); unpack {URL} (md5 {MD5}) again") from error


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text; unpack {URL} (md5 {MD5}) again") from error


def _listing(config: Cub200, where: Path, texts: dict[str, str], root: Path, archive: Path | None = None) -> Listing:
    """Three tables that share numbers: class to name, image to file, image to class."""
    names, files, classes = (_numbered(where / name, texts[name]) for name in _TEXTS)
    if files.keys() != classes.keys():
        number = min(files.keys() ^ classes.keys())
        raise DataError(
            f"{where}: image {number} is not in both images.txt and image_class_labels.txt; unpack it again"
        )
    if sorted(names) != list(range(1, len(names) + 1)):
        raise DataError(f"{where / 'classes.txt'}: classes are not numbered from 1 without gaps; unpack it again")
    entries = []
    for number, file in files.items():
        if not classes[number].isdecimal():
            raise DataError(f"{where}: image {number} has class {classes[number]!r}, no number; unpack it again")
        entries.append((file, int(classes[number]) - 1))
    listing = listed(where, root, entries, tuple(names[number] for number in sorted(names)), archive)
    if config.complete:
        require_counts(where, listing.labels, len(names), WHOLE)
    return listing


def _numbered(path: Path, text: str) -> dict[int, str]:
    rows: dict[int, str] = {}
    for place, line in enumerate(text.splitlines(), start=1):
        number, _, rest = line.strip().partition(" ")
        if not number.isdecimal() or not rest or int(number) in rows:
            raise DataError(f"{path}:{place}: {line[:60]!r} is not a number of its own and a word; unpack it again")
        rows[int(number)] = rest
    return rows
