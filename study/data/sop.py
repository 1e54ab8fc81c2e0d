"""Stanford Online Products (Oh Song et al. 2016)."""

from __future__ import annotations

from pathlib import Path

from search_spaces.datasets import Sop
from study.data.arrays import DataError
from study.data.ingest import Counts, listed, load_photos, require_counts, stamp
from study.data.photos import PhotoFile

FOLDER = "Stanford_Online_Products"
WHOLE = Counts(classes=22_634, photos=120_053, train_classes=11_318, train_photos=59_551)
URL = "ftp://cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip"
_GET = f"get {URL} (md5 7f73d41a2f44250d4779881525aea32e) and unpack it"
_HEADER = "image_id class_id super_class_id path"


def load(config: Sop, data_dir: Path, cache_dir: Path) -> PhotoFile:
    """All photos, products in the order of their numbers: the official training products first, then the test ones.

    Raises: DataError.
    """
    folder = data_dir / FOLDER
    train, test = _rows(folder / "Ebay_train.txt"), _rows(folder / "Ebay_test.txt")
    known = {number for _, number in train}
    if shared := known & {number for _, number in test}:
        raise DataError(f"{folder}: product {min(shared)} is in both Ebay_train.txt and Ebay_test.txt; {_GET} again")
    numbers = sorted(known | {number for _, number in test})
    if numbers != list(range(1, len(numbers) + 1)):
        raise DataError(f"{folder}: products are not numbered from 1 without gaps; {_GET} again")
    entries = [(file, number - 1) for file, number in train + test]
    listing = listed(folder, folder, entries, tuple(str(number) for number in numbers))
    if config.complete:
        require_counts(folder, listing.labels, len(numbers), WHOLE)
    return load_photos(config, "sop", stamp(listing), cache_dir, lambda: listing)


def _rows(path: Path) -> list[tuple[str, int]]:
    """File and product number of each line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {_GET} here") from error
    if not lines or lines[0].split() != _HEADER.split():
        raise DataError(f"{path}: does not begin with {_HEADER!r}; {_GET} again")
    rows = []
    for place, line in enumerate(lines[1:], start=2):
        words = line.split()
        if len(words) != 4 or not words[1].isdecimal():
            raise DataError(f"{path}:{place}: {line[:60]!r} is not {_HEADER!r}; {_GET} again")
        rows.append((words[3], int(words[1])))
    return rows
