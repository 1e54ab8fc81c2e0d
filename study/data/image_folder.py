"""Photos of one's own: a folder per class, or a CSV table of files and labels."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from search_spaces.datasets import ImageFolder, Split
from study.data.arrays import DataError
from study.data.ingest import Listing, listed, load_photos, stamp
from study.data.photos import PhotoFile
from study.data.splits import split_classes

_ENDINGS = (".jpg", ".jpeg", ".png")
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class _Table:
    """What a CSV file says: files with their labels, and each label's split ('' without a split column).

    The labels of split_of stand in the dataset's class order.
    """

    path: Path
    rows: list[tuple[str, str]]
    split_of: dict[str, str]


def load(config: ImageFolder, data_dir: Path, cache_dir: Path) -> PhotoFile:
    """All photos, classes in sorted order (by split first where the table has one).

    Raises: DataError.
    """
    folder = _folder(config, data_dir)
    listing = _class_folders(folder) if config.table is None else _from_table(folder, _table(folder, config.table))
    return load_photos(config, "image_folder", stamp(listing), cache_dir, lambda: listing)


def require_split(config: ImageFolder, split: Split, data_dir: Path) -> None:
    """Refuse a `split` that a table with a split column contradicts; one that leaves classes out is fine.

    Raises: DataError for any other order than the label's, and for a class that would go to another part.
    """
    if config.table is None:
        return
    table = _table(_folder(config, data_dir), config.table)
    parts = list(table.split_of.values())
    if "" in parts:
        return
    train, val, test = (parts.count(part) for part in _SPLITS)
    mend = (
        f"set split to {{order: label, train_classes: {train}, val_classes: {val}, test_classes: {test}}} (fewer train "
        "classes will do), or take the column split out"
    )
    if split.order != "label":
        raise DataError(f"{table.path}: has a column split, which split.order: {split.order} would ignore; {mend}")
    taken = split_classes(split, len(parts), config.kind)
    names = tuple(table.split_of)
    for part, indices in zip(_SPLITS, (taken.train, taken.val, taken.test), strict=True):
        if wrong := [index for index in indices if parts[index] != part]:
            raise DataError(
                f"{table.path}: class {names[wrong[0]]} has split {parts[wrong[0]]}, and split.{part}_classes: "
                f"{len(indices)} would take it as {part}; {mend}"
            )


def _folder(config: ImageFolder, data_dir: Path) -> Path:
    relative = PurePosixPath(config.folder)
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"dataset.folder: {config.folder!r} leaves {data_dir}; name a folder inside it")
    folder = data_dir / relative
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; put the photos there, or name another in dataset.folder")
    return folder


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


def _from_table(folder: Path, table: _Table) -> Listing:
    labels = {label: place for place, label in enumerate(table.split_of)}
    return listed(table.path, folder, [(file, labels[label]) for file, label in table.rows], tuple(table.split_of))


def _table(folder: Path, name: str) -> _Table:
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
        raise DataError(f"dataset.table: {name!r} leaves {folder}; name a file inside it")
    path = folder / name
    columns, rows = _read_csv(path)
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
    return _Table(path, [(row["path"], row["label"]) for row in rows], {name: split_of[name] for name in names})


def _read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a table that has path and label."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            columns = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); give a table with path, label") from error
    if not {"path", "label"} <= set(columns):
        raise DataError(f"{path}: its header has no path and label; begin it with path,label or path,label,split")
    # A column that was meant to be split and is not read would leave the split to the study.
    if near := [column for column in columns if column != "split" and column.strip().lower() == "split"]:
        raise DataError(f"{path}: its header has {near[0]!r}; write split, or name the column otherwise")
    return columns, rows
