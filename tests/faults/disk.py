"""A disk that fails: what the ledger's writer asks of the system goes through here, counted, and may go wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from study.ledger import write

FAULTS = {
    "write": ("die before", "die torn", "die after", "full", "gone", "hiccup"),
    "fsync": ("die before", "die after", "broken", "gone", "hiccup"),
    "rename": ("die before", "die after", "full"),
}
"""What may happen at each kind of operation.

full: the disk says ENOSPC, after part of the bytes. broken: it says EIO. gone: EIO from here on, until the next boot.
hiccup: EIO, and once more when the line is to be cut back.
"""


class Death(BaseException):
    """The driver's process was killed here. No Exception: nothing may tidy up after it."""


class Disk:
    """Stands in for `os` in study.ledger.write. Files are real; fsync only notes how much of the ledger is durable.

    count: operations of this process so far. strike: the operation at which `choose` names what happens; None: none.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._durable = 0
        self.count = 0
        self.dead = False
        self._gone = self._hiccup = False
        self.strike: int | None = None
        self.struck = ""
        self.choose: Callable[[tuple[str, ...]], str] = lambda faults: faults[0]
        self.cut: Callable[[int], int] = lambda size: size // 2

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def boot(self) -> None:
        """A new process on this disk."""
        self.count, self.dead, self.strike, self.struck = 0, False, None, ""
        self._gone = self._hiccup = False

    def power_cut(self, rng: random.Random) -> None:
        """What was written since the last fsync may be gone, cut anywhere, or zeros."""
        if not self._ledger.exists():
            return
        data = self._ledger.read_bytes()
        kept = rng.randint(min(self._durable, len(data)), len(data))
        self._ledger.write_bytes(data[:kept] + rng.choice([b"", b"\0" * (len(data) - kept)]))

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """While entered, the ledger's writer uses this disk."""
        replace = Path.replace

        def renamed(part: Path, target: Path) -> Path:
            fault = self._next("rename")
            if fault == "full":
                raise _error(errno.ENOSPC)
            if fault == "die before":
                # A killed process leaves its half behind; write_atomic would remove it while the exception passes.
                part.with_name(part.name.replace(".part", ".killed.part")).write_bytes(part.read_bytes())
                self._die()
            result = replace(part, target)
            if fault == "die after":
                self._die()
            return result

        with mock.patch.object(write, "os", self), mock.patch.object(Path, "replace", renamed):
            yield

    def write(self, file: int, data: bytes) -> int:
        fault = self._next("write")
        if fault == "die before":
            self._die()
        if fault in ("die torn", "full", "gone", "hiccup"):
            part = self.cut(len(data))
            os.write(file, data[:part])
            if fault == "die torn":
                self._die()
            raise _error(errno.ENOSPC if fault == "full" else errno.EIO)
        written = os.write(file, data)
        if fault == "die after":
            self._die()
        return written

    def fsync(self, file: int) -> None:
        if self.dead:
            return
        fault = self._next("fsync")
        if fault == "die before":
            self._die()
        if fault in ("broken", "gone", "hiccup"):
            raise _error(errno.EIO)
        if self._ledger.exists() and os.path.samestat(os.fstat(file), self._ledger.stat()):
            self._durable = os.fstat(file).st_size
        if fault == "die after":
            self._die()

    def ftruncate(self, file: int, size: int) -> None:
        if self._gone or self._hiccup:
            self._hiccup = False
            raise _error(errno.EIO)
        if not self.dead:
            os.ftruncate(file, size)
            self._durable = min(self._durable, size)

    def _next(self, kind: str) -> str:
        if self.dead:
            raise Death
        if self._gone:
            raise _error(errno.EIO)
        self.count += 1
        if self.strike is None or self.count != self.strike:
            return ""
        self.struck = f"{kind} {self.count}: {self.choose(FAULTS[kind])}"
        fault = self.struck.split(": ")[1]
        self._gone, self._hiccup = fault == "gone", fault == "hiccup"
        return fault

    def _die(self) -> None:
        self.dead = True
        raise Death


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
