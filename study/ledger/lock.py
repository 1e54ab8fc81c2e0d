"""One driver per study: an operating-system lock on the study's folder, released by the owner's death."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from study.ledger.read import LedgerError
from study.ledger.write import write_atomic

OWNER_NAME = "driver.json"
"""Who runs the study; beside its ledger."""
_PATIENCE_S = 1.0  # between taking the lock and writing driver.json the file still names the owner before, or nobody


class StudyLocked(Exception):
    """Another driver runs this study. Names its host, process and since when."""


class DriverLock:
    """Held while a driver runs a study. Use as a context manager.

    The lock is the system's own (flock), so a dead owner's is free at once; who holds it stands in driver.json.
    Raises on entering: StudyLocked; LedgerError where the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / "driver.lock", timeout=0, mode=0o600)
        self._owner = folder / OWNER_NAME

    def __enter__(self) -> DriverLock:
        try:
            self._lock.acquire()
        except Timeout as error:
            raise StudyLocked(
                f"{self._owner.parent}: {self._describe_owner()} runs this study; wait for it or stop it"
            ) from error
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            write_atomic(self._owner, json.dumps(mine).encode())
        except OSError as error:
            self._lock.release()
            raise LedgerError(f"{self._owner}: cannot be written ({error.strerror}); make room, then resume") from error
        return self

    def __exit__(self, *exc: object) -> None:
        self._owner.unlink(missing_ok=True)
        self._lock.release()

    def _describe_owner(self) -> str:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                owner = json.loads(self._owner.read_text(encoding="utf-8"))
                if owner["host"] != socket.gethostname() or lives(owner["pid"]):
                    return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
            except (OSError, ValueError, KeyError, TypeError):
                pass  # not written yet
            if time.monotonic() > deadline:
                return "another process"
            time.sleep(0.05)


def lives(pid: int) -> bool:
    """Whether a process of this host runs under `pid`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


def is_driven(folder: Path) -> bool:
    """Whether a driver seems to run the study in `folder`: it says so, and lives (on another host: it says so)."""
    try:
        owner = json.loads((folder / "driver.json").read_text(encoding="utf-8"))
        return bool(owner["host"] != socket.gethostname() or lives(owner["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False
