"""What a running study shows a person: a live table, a progress bar, the time left. Silent where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from study.ledger.read import StudyRecord, TrialRecord
from study.records import Phase, Status

if TYPE_CHECKING:
    from study.tuning.driver import Driver

_ROWS = 16
_EVERY_S = 0.5
_STYLES = {
    Status.COMPLETE: "green",
    Status.RUNNING: "bold",
    Status.PRUNED: "yellow",
    Status.PAUSED: "cyan",
    Status.DIVERGED: "red",
    Status.FAILED: "red",
    Status.WAITING: "dim",
}


@dataclass
class _Pace:
    """Epochs trained in this session and since when, for the time left."""

    started: float = field(default_factory=time.monotonic)
    trained: int = 0


class Watch:
    """Shows a driver's study while it runs. Use as a context manager; call it after each decision."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=2, transient=True)
        self._last = 0.0
        self._pace: _Pace | None = None

    @contextmanager
    def running(self) -> Iterator[Watch]:
        """Show until the block ends; nothing is shown where the output is no terminal."""
        if not self._console.is_terminal:
            yield self
            return
        with self._live:
            self._live.update(Text("starting Ray ..."))
            yield self

    def __call__(self, driver: Driver) -> None:
        """The driver decided something."""
        now = time.monotonic()
        if not self._console.is_terminal or now - self._last < _EVERY_S:
            return
        self._last = now
        self._live.update(self._picture(driver))

    def _picture(self, driver: Driver) -> Group:
        record = driver.record
        done, total = progress(record, driver.config.trial.epochs)
        trained = sum(trial.epochs_done - _inherited(trial) for trial in record.trials.values())
        if self._pace is None:
            self._pace = _Pace(trained=trained)
        line = Text.assemble(f" {done} of {total} epochs", f"   {_time_left(self._pace, trained, total - done)}")
        if driver.stopping:
            line.append("   stopping ...", style="yellow")
        bar = Table.grid(padding=(0, 1))
        bar.add_row(ProgressBar(total=max(total, 1), completed=done, width=40), line)
        return Group(trial_table(record, driver.config.trial.objective, _ROWS), bar)


def progress(record: StudyRecord, epochs: int) -> tuple[int, int]:
    """Epochs done and epochs asked for, over the trials that exist and those a search's budget still allows."""
    done = total = 0
    for trial in record.trials.values():
        done += trial.epochs_done
        total += trial.epochs_done if trial.status.ended else trial.config.epochs
    search = record.config.search
    if search is not None:
        proposed = sum(trial.trial.phase is Phase.SEARCH for trial in record.trials.values())
        total += max(0, search.max_trials - proposed) * epochs
    return done, total


def trial_table(record: StudyRecord, objective: str, rows: int | None = None, *, live: bool = True) -> Table:
    """The trials: those in training first, then the newest. rows: at most so many; live: whether a driver runs."""
    table = Table(box=None, pad_edge=False)
    for heading in ("trial", "configuration", "seed", "state", "epoch", objective):
        table.add_column(heading, justify="right" if heading in ("trial", "seed", "epoch", objective) else "left")
    best = max(
        (value for trial in record.trials.values() if (value := _value(trial, objective)) is not None), default=None
    )
    order = sorted(
        record.trials.values(),
        key=lambda trial: (trial.status is not Status.RUNNING, trial.status is Status.WAITING, -trial.number),
    )
    for trial in order if rows is None else order[:rows]:
        value = _value(trial, objective)
        shown = "" if value is None else f"{value:.4f}{' *' if value == best else '  '}"
        status = trial.status
        table.add_row(
            str(trial.number),
            Text(trial.trial.configuration),
            str(trial.trial.seed),
            Text("interrupted" if status is Status.RUNNING and not live else status.value, style=_STYLES[status]),
            f"{trial.epochs_done}/{trial.config.epochs}",
            shown,
        )
    hidden = 0 if rows is None else len(order) - rows
    if hidden > 0:
        table.add_row("", f"... and {hidden} more", "", "", "", "")
    return table


def _value(trial: TrialRecord, objective: str) -> float | None:
    last = trial.epochs.get(trial.epochs_done)
    return None if last is None else last.result.metrics.get(objective)


def _inherited(trial: TrialRecord) -> int:
    return sum(event.result.inherited for event in trial.epochs.values())


def _time_left(pace: _Pace, trained: int, left: int) -> str:
    here = trained - pace.trained
    if here < 3 or left <= 0:
        return ""
    seconds = left * (time.monotonic() - pace.started) / here
    return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
