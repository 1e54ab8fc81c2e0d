"""A study's epochs as parquet beside its ledger, so that a second look at a large study takes seconds.

A view that can be thrown away: it counts only for a ledger of exactly the size and checksum it was made from.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

LAYOUT = 2  # of the cached file; raise it when load.py's columns change their meaning
LEAST_ROWS = 20_000  # smaller studies are read faster than their cache is checked
_CHUNK = 1 << 22


class Key(NamedTuple):
    """What a cached file was made from: the ledger's size in bytes and its CRC-32."""

    size: int
    checksum: int


class Cached(NamedTuple):
    """epochs: the frame. arrays: rows of number, epochs_done, file (ArrayFile as a mapping).

    others: (start, end) in bytes of the stretches of the ledger that hold no epochs.
    """

    epochs: pd.DataFrame
    arrays: list[dict[str, object]]
    others: list[tuple[int, int]]


def key_of(ledger: Path) -> Key:
    """The key of `ledger` as it stands."""
    checksum = size = 0
    with ledger.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
            size += len(chunk)
    return Key(size, checksum)


def path_of(folder: Path) -> Path:
    """Where the study in `folder` keeps its cache."""
    return folder / "cache" / "epochs.parquet"


def read(folder: Path, key: Key) -> Cached | None:
    """What is cached for `key`, or None: no file, another ledger's, another layout's, or one that cannot be read."""
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_schema(path_of(folder)).metadata or {}
        about = json.loads(metadata.get(b"study", b"null"))
        if about is None or about["layout"] != LAYOUT or Key(*about["key"]) != key:
            return None
        others = [(start, end) for start, end in about["others"]]
        return Cached(pyarrow.parquet.read_table(path_of(folder)).to_pandas(), about["arrays"], others)
    except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException):
        return None


def write(folder: Path, key: Key, cached: Cached) -> None:
    """Keep `cached` for `key`. A folder that cannot be written keeps none; nothing depends on it."""
    import pyarrow
    import pyarrow.parquet

    about = json.dumps({"layout": LAYOUT, "key": list(key), "arrays": cached.arrays, "others": cached.others})
    path = path_of(folder)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True, mode=0o700)
        table = pyarrow.Table.from_pandas(cached.epochs, preserve_index=False)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"study": about.encode()})
        try:
            pyarrow.parquet.write_table(table, part, compression="zstd")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
