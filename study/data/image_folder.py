"""Photos of one's own: a folder per class, or a CSV table of files and labels."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

from search_spaces.datasets import ImageFolder
from study.data.arrays import DataError
from study.data.ingest import Listing, listed, load_photos, stamp
from study.data.photos import PhotoFile

_ENDINGS = (".jpg", ".jpeg", ".png")
_SPLITS = ("train", "val", "test")


def load(config: ImageFolder, data_dir: Path, cache_dir: Path) -> PhotoFile:
    """All photos, classes in sorted order (by split first where the table has one).

    Raises: DataError.
    """
    relative = PurePosixPath(config.folder)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"dataset.folder: {config.folder!r} leaves {data_dir}; name a folder inside it")
    folder = data_dir / relative
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; put the photos there, or name another in dataset.folder")
    listing = _class_folders(folder) if config.table is None else _table(folder, config.table)
    return load_photos(config, "image_folder", stamp(listing), cache_dir, lambda: listing)


def _class_folders(folder: Path) -> Listing:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: holds no folders; put each class's photos into one of its own")
    entries = [
        (f"{name}/{path.name}", label)
        for label, name in enumerate(names)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in _ENDINGS
    ]
    return listed(folder, folder, entries, tuple(names))


def _table(folder: Path, name: str) -> Listing:
    path = folder / name
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
        raise DataError(f"dataset.table: {name!r} leaves {folder}; name a file inside it")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); give a table with path, label") from error
    if not {"path", "label"} <= set(columns):
        raise DataError(f"{path}: its header has no path and label; begin it with path,label or path,label,split")
    split_of: dict[str, str] = {}
    for place, row in enumerate(rows, start=2):
        split = row.get("split") or ""
        if None in row.values() or None in row or not row["path"] or not row["label"]:
            raise DataError(f"{path}:{place}: has not one value per column; give path and label")
        if "split" in columns and split not in _SPLITS:
            raise DataError(f"{path}:{place}: split is {split!r}; write train, val or test")
        if split_of.setdefault(row["label"], split) != split:
            raise DataError(
                f"{path}:{place}: class {row['label']} is in {split_of[row['label']]} and in {split}; a class is in one"
            )
    if not rows:
        raise DataError(f"{path}: lists no photo; add a line for each")
    names = sorted(split_of, key=lambda label: (_SPLITS.index(split_of[label]) if split_of[label] else 0, label))
    labels = {label: place for place, label in enumerate(names)}
    return listed(path, folder, [(row["path"], labels[row["label"]]) for row in rows], tuple(names))
