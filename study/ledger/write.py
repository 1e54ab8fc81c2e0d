"""Writing a study's ledger. The driver is the only writer."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from study.ledger.read import LEDGER_NAME, LedgerError, StudyRecord, encode, read_lines
from study.records import ArrayFile, Event
from study.uncollected import uncollected


class LedgerWriter:
    """Appends events to a study's ledger; opening it reads what is there and cuts a torn tail back.

    record: the study as the ledger tells it, kept up to date. Raises: LedgerError for a damaged ledger, and when a line
    cannot be written (a full disk): the file then ends with the last whole line.
    """

    @uncollected()
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LEDGER_NAME
        self.record = StudyRecord()
        self._checksum = self._end = 0
        self._ragged = False
        if self.path.exists():
            for line in read_lines(self.path):
                self.record.apply(line.event)
                self._checksum, self._end = line.checksum, line.end
        try:
            make_private(folder)
            for part in (folder / "arrays").glob(".*.part"):  # of a driver that was killed
                part.unlink(missing_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            self._cut_back()
            os.fsync(self._file)
            sync_folder(folder)
        except OSError as error:
            raise self._unwritable(error) from error

    def append(self, *events: Event, durable: bool = False) -> None:
        """Write `events`. durable: they survive a power cut once this returns (fsync). Raises: LedgerError."""
        data, checksum = b"", self._checksum
        for event in events:
            line, checksum = encode(event, checksum)
            data += line
        try:
            if self._ragged:  # a line behind half a line would be damage, not a torn tail
                self._cut_back()
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(28, "No space left on device")
            if durable:
                os.fsync(self._file)
        except OSError as error:
            self._ragged = True
            with contextlib.suppress(OSError):
                self._cut_back()
            raise self._unwritable(error) from error
        self._checksum = checksum
        self._end += len(data)
        for event in events:
            self.record.apply(event)

    def save_arrays(self, name: str, arrays: Mapping[str, NDArray[np.generic]]) -> ArrayFile:
        """Write `arrays` as arrays/<name>.npz, durable before this returns. Raises: LedgerError."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
        data = buffer.getvalue()
        target = self.folder / "arrays" / f"{name}.npz"
        try:
            make_private(target.parent)
            write_atomic(target, data)
        except OSError as error:
            raise LedgerError(f"{target}: cannot be written ({error.strerror}); make room, then resume") from error
        path = target.relative_to(self.folder).as_posix()
        return ArrayFile(path=path, sha256=hashlib.sha256(data).hexdigest(), names=tuple(arrays))

    def close(self) -> None:
        """Make everything durable and let go of the file. Raises: LedgerError."""
        if self._file >= 0:
            file, self._file = self._file, -1
            try:
                os.fsync(file)
            except OSError as error:
                raise self._unwritable(error) from error
            finally:
                os.close(file)

    def _cut_back(self) -> None:
        """Let the file end with its last whole line."""
        os.ftruncate(self._file, self._end)
        os.lseek(self._file, self._end, os.SEEK_SET)
        self._ragged = False

    def _unwritable(self, error: OSError) -> LedgerError:
        return LedgerError(f"{self.path}: cannot be written ({error.strerror}); make room, then resume the study")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def make_private(folder: Path) -> None:
    """Create `folder` and what is missing above it, each with mode 0700. (mkdir's own mode spares the parents.)"""
    if not folder.is_dir():
        make_private(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of `data`, whatever dies when. Mode 0600."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")  # nodes of a cluster share process numbers
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where its file system can: some network ones know no fsync of a folder.

    Raises: OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
