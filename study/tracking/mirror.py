"""A view of a study kept up to date in the background: a thread follows the ledger, and a view's faults end nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from study.ledger.read import LEDGER_NAME, Line, StudyRecord, read_lines
from study.records import EndEvent, Event
from study.words import in_one_line

_FIRST_WAIT_S = 0.5


class View(Protocol):
    """Something that a ledger can rebuild, as MLflow's runs or Optuna's study."""

    @property
    def name(self) -> str:
        """What a person calls the view."""
        ...

    def apply(self, record: StudyRecord, events: Sequence[Event]) -> None:
        """Take in `events`, all that follow those of earlier calls up to the ledger's end.

        record: the study with `events` folded in; of trials whose end came in an earlier call the epochs are let go.
        Raises whatever it likes; it is then called again, later, with a list that begins with the same events. Raises
        StartAgain when it has lost what it held: it is then called with the ledger from its first line.
        """
        ...


class StartAgain(Exception):
    """A view has forgotten everything and wants the ledger from its first line."""


class Mirror:
    """Follows `folder`'s ledger for `view` in a daemon thread, from the first line on.

    pause_s: least seconds between two calls of the view, so that many events go into one; poll_s: how often the file is
    looked at when nobody calls notify(); max_wait_s: longest wait after a fault (0.5 s at first, then doubled).
    """

    def __init__(
        self, folder: Path, view: View, *, pause_s: float = 2.0, poll_s: float = 2.0, max_wait_s: float = 30.0
    ) -> None:
        self._path = folder / LEDGER_NAME
        self._view = view
        self._pause_s, self._poll_s, self._max_wait_s = pause_s, poll_s, max_wait_s
        self._forget()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._deadline = float("inf")
        self._complete = False
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name=f"{view.name} mirror", daemon=True)

    def start(self) -> None:
        """Begin to follow the ledger, which may not exist yet."""
        self._thread.start()

    def notify(self) -> None:
        """Say that the ledger has grown. Costs next to nothing and never waits."""
        self._wake.set()

    @property
    def behind(self) -> int:
        """Number of events read and not yet taken in by the view."""
        return len(self._pending)

    @property
    def last_error(self) -> str:
        """Why the view is behind, in one line; empty while all is well."""
        return self._last_error

    def close(self, timeout_s: float) -> bool:
        """Let the view take in what is left, for at most `timeout_s` seconds. Whether it then holds the whole ledger.

        Append the ledger's last line first. A view that hangs is left behind with its thread.
        """
        self._deadline = time.monotonic() + timeout_s
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return self._complete

    def _forget(self) -> None:
        self._line: Line | None = None
        self._record = StudyRecord()
        self._pending: list[Event] = []

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            closing = self._closing.is_set()  # read before the ledger, so that the last round sees its last line
            self._wake.clear()
            try:
                self._step()
            except Exception as error:  # a view is a convenience: whatever befalls it must not end the study
                if isinstance(error, StartAgain):
                    self._forget()
                self._last_error = in_one_line(error)
                left_s = self._deadline - time.monotonic()
                if left_s <= 0:
                    return
                pause_s = min(wait_s, left_s)
                wait_s = min(2 * wait_s, self._max_wait_s)
                if closing:
                    time.sleep(pause_s)
                elif self._closing.wait(pause_s):
                    wait_s = _FIRST_WAIT_S  # the last chances come quickly
            else:
                self._last_error = ""
                wait_s = _FIRST_WAIT_S
                if closing:
                    self._complete = True
                    return
                self._closing.wait(self._pause_s)
                self._wake.wait(self._poll_s)

    def _step(self) -> None:
        """Read what is new and hand it to the view. Raises: what the view raises; LedgerError."""
        if not self._path.exists():
            return
        for line in read_lines(self._path, after=self._line):
            self._record.apply(line.event)
            self._pending.append(line.event)
            self._line = line
        if not self._pending:
            return
        self._view.apply(self._record, self._pending)
        for event in self._pending:
            if isinstance(event, EndEvent):
                self._record.trials[event.number].epochs.clear()  # else a long study is held in memory twice
        self._pending = []
