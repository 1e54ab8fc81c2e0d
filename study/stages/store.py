"""Training states on disk, one file a state, whole or absent.

A file is one line of JSON (format, size and sha256 of what follows, who wrote it) and then torch.save's bytes, which
torch.load reads with weights_only. Written beside its place and renamed into it, so that a reader finds all or nothing.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch

from study.ledger.read import LedgerError
from study.ledger.write import make_private, sync_folder, write_atomic
from study.words import in_one_line

STORE_FORMAT = 1
_SUFFIX = ".stage"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
"""What a file system says that gives no second name to a file, or not to this one."""


class StageDamaged(Exception):
    """A stored state is cut short, altered, or of another format. Names the file and what is wrong."""


class StageStore:
    """The states in one folder, which all workers of a study reach. A driver alone frees them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keys(self) -> set[str]:
        """Keys of the states that stand."""
        return {path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}")}

    def free(self, key: str) -> None:
        """Delete a state; one that is gone already is no matter. Raises: LedgerError where the disk refuses."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            raise LedgerError(
                f"{self._path(key)}: cannot be deleted ({error.strerror}); mend the disk, then resume"
            ) from error

    def tidy(self) -> None:
        """Delete what writers that died left half written; for a driver that has no worker yet."""
        for folder in (self._folder, self._folder.parent / "weights"):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)

    def keep_weights(self, key: str, number: int) -> None:
        """Keep a state as weights/<number>.stage beside this folder, for good: durable once this returns.

        It is the same file under a second name, or a copy where the file system gives none.
        Raises: LedgerError (a full disk).
        """
        target = self.weights_path(number)
        try:
            make_private(target.parent)
            sync_folder(target.parent.parent)
            try:
                target.unlink(missing_ok=True)
                target.hardlink_to(self._path(key))
                sync_folder(target.parent)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                write_atomic(target, self._path(key).read_bytes())
        except OSError as error:
            raise LedgerError(f"{target}: cannot be kept ({error.strerror}); make room, then resume") from error

    def weights_path(self, number: int) -> Path:
        """Where the final weights of trial `number` are kept, if they are."""
        return self._folder.parent / "weights" / f"{number:05d}{_SUFFIX}"

    def save(self, key: str, state: dict[str, Any], note: dict[str, int]) -> int:
        """Keep `state` under `key`, durable once this returns; its size in bytes. Raises: OSError (a full disk)."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        data = buffer.getvalue()
        manifest = {"format": STORE_FORMAT, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **note}
        make_private(self._folder)
        write_atomic(self._path(key), json.dumps(manifest).encode() + b"\n" + data)
        return len(data)

    def load(self, key: str) -> dict[str, Any]:
        """The state under `key`, on the CPU. Raises: StageDamaged, also if it is not there."""
        path = self._path(key)
        try:
            head, _, data = path.read_bytes().partition(b"\n")
            manifest = json.loads(head)
            found = manifest["format"], manifest["size"], manifest["sha256"]
        except Exception as error:  # as many kinds as there are ways to damage a line of JSON
            reason = in_one_line(error)
            raise StageDamaged(f"{path}: cannot be read ({reason})") from error
        if found[0] != STORE_FORMAT:
            raise StageDamaged(f"{path}: has format {found[0]}, this version reads {STORE_FORMAT}")
        if found[1] != len(data):
            raise StageDamaged(f"{path}: holds {len(data)} bytes of {found[1]}")
        if found[2] != hashlib.sha256(data).hexdigest():
            raise StageDamaged(f"{path}: its sha256 is not the manifest's")
        try:
            state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        except Exception as error:
            first = next(iter(str(error).splitlines()), "").split(". ")[0]
            raise StageDamaged(
                f"{path}: is no state that torch.load reads ({type(error).__name__}: {first})"
            ) from error
        if not isinstance(state, dict):
            raise StageDamaged(f"{path}: holds a {type(state).__name__}, not a state")
        return state

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"
