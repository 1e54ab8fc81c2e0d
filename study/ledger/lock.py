"""One driver per study: an operating-system lock on the study's folder, released by the owner's death."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from study.ledger.read import LedgerError
from study.ledger.write import write_atomic
from study.words import in_one_line

OWNER_NAME = "driver.json"
"""Who runs the study; beside its ledger."""
_PATIENCE_S = 1.0  # between taking the lock and writing driver.json the file still names the owner before, or nobody
_MENDS = {
    errno.ENOSPC: "make room, then resume",
    errno.EDQUOT: "make room, then resume",
    errno.EIO: "mend the disk, then resume",
}


class StudyLocked(Exception):
    """Another driver runs this study. Names its host, process and since when."""


class DriverLock:
    """Held while a driver runs a study. Use as a context manager.

    The lock is the system's own (flock), so a dead owner's is free at once; who holds it stands in driver.json.
    Raises on entering: StudyLocked; LedgerError where the folder cannot be made, written or locked.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder / "driver.lock", timeout=0, mode=0o600)
        self._owner = folder / OWNER_NAME

    def __enter__(self) -> DriverLock:
        try:
            if self._owner.parent.is_symlink():
                self._owner.parent.stat()  # FileLock would make the folder that a dangling link names
            self._lock.acquire()
        except Timeout as error:
            raise StudyLocked(
                f"{self._owner.parent}: {self._describe_owner()} runs this study; wait for it or stop it"
            ) from error
        except (OSError, NotImplementedError) as error:
            raise _unusable(Path(self._lock.lock_file), "locked", error) from error
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        try:
            write_atomic(self._owner, json.dumps(mine).encode())
        except OSError as error:
            self._lock.release()
            raise _unusable(self._owner, "written", error) from error
        return self

    def __exit__(self, *exc: object) -> None:
        # The system's lock is what counts: a name that stays names a process that does not live.
        with contextlib.suppress(OSError):
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


def _unusable(path: Path, what: str, error: OSError | NotImplementedError) -> LedgerError:
    reason = (isinstance(error, OSError) and error.strerror) or in_one_line(error)
    code = error.errno if isinstance(error, OSError) else None
    mend = _MENDS.get(code or 0, f"make {path.parent} a folder that you may write to, or choose another --home")
    return LedgerError(f"{path}: cannot be {what} ({reason}); {mend}")


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
