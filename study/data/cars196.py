"""Cars-196 (Krause et al. 2013), in the original layout or the devkit's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.datasets import Cars196
from study.data.arrays import DataError
from study.data.ingest import Counts, Listing, listed, load_photos, require_counts, stamp
from study.data.photos import PhotoFile

FOLDER = "cars196"
WHOLE = Counts(classes=196, photos=16_185, train_classes=98, train_photos=8_054)
_GET = (
    "put there cars_annos.mat (md5 b407c6086d669747186bd1d764ff9dbc) and car_ims, unpacked from car_ims.tgz (md5 "
    "d5c8f0aa497503f355e17dc7886c3f14)"
)


def load(config: Cars196, data_dir: Path, cache_dir: Path) -> PhotoFile:
    """All photos, classes in the order of their numbers.

    Raises: DataError.
    """
    folder = data_dir / FOLDER
    listing = _original(folder) if (folder / "cars_annos.mat").exists() else _devkit(folder)
    if config.complete:
        require_counts(folder, listing.labels, len(listing.names), WHOLE)
    return load_photos(config, "cars196", stamp(listing), cache_dir, lambda: listing)


def _original(folder: Path) -> Listing:
    """cars_annos.mat with all photos, car_ims beside it."""
    path = folder / "cars_annos.mat"
    mat = _mat(path, "annotations", "class_names")
    entries = _entries(path, mat["annotations"], "relative_im_path", "")
    return listed(path, folder, entries, _names(mat))


def _devkit(folder: Path) -> Listing:
    """devkit/cars_train_annos.mat and cars_test_annos_withlabels.mat (there or beside it), cars_train, cars_test."""
    if not (folder / "devkit").is_dir():
        raise DataError(f"{folder}: holds neither cars_annos.mat nor devkit; {_GET}")
    test = folder / "devkit" / "cars_test_annos_withlabels.mat"
    test = test if test.exists() else folder / test.name
    names = _names(_mat(folder / "devkit" / "cars_meta.mat", "class_names"))
    entries = []
    for path, photos in ((folder / "devkit" / "cars_train_annos.mat", "cars_train/"), (test, "cars_test/")):
        entries += _entries(path, _mat(path, "annotations")["annotations"], "fname", photos)
    return listed(folder / "devkit", folder, entries, names)


def _mat(path: Path, *wanted: str) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        mat: dict[str, Any] = loadmat(path, squeeze_me=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {_GET}") from error
    except Exception as error:  # scipy's reader raises whatever broken bytes lead to
        raise DataError(f"{path}: is no MATLAB file ({type(error).__name__}); fetch it again") from error
    if missing := [name for name in wanted if name not in mat]:
        raise DataError(f"{path}: has no variable {missing[0]}; fetch it again")
    return mat


def _names(mat: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(name) for name in np.atleast_1d(mat["class_names"]))


def _entries(path: Path, annotations: Any, field: str, prefix: str) -> list[tuple[str, int]]:
    rows = np.atleast_1d(annotations)
    if rows.dtype.names is None or not {field, "class"} <= set(rows.dtype.names):
        raise DataError(f"{path}: annotations have no {field} and class; take the file with labels")
    return [(f"{prefix}{row[field]}", _label(path, row[field], row["class"])) for row in rows]


def _label(path: Path, file: Any, number: Any) -> int:
    """The zero-based label that annotations give `file`."""
    value = np.asarray(number)
    if value.shape != () or value.dtype.kind not in "iuf" or not np.isfinite(value) or value % 1:
        raise DataError(f"{path}: {file} has class {str(number)[:40]!r}, no whole number; fetch it again")
    return int(value) - 1
