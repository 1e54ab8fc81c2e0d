"""The thread that follows a ledger: nothing is lost, whatever the view does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from study.ledger.read import LEDGER_NAME, StudyRecord, read_events
from study.records import Event
from study.tracking.mirror import Mirror, StartAgain


class Notes:
    """A view that writes down what it is given, and fails when it is told to."""

    name = "notes"

    def __init__(self) -> None:
        self.taken: list[Event] = []
        self.offered: list[list[Event]] = []
        self.fault: Exception | None = None
        self.trials_seen: list[int] = []

    def apply(self, record: StudyRecord, events: Sequence[Event]) -> None:
        self.offered.append(list(events))
        if self.fault is not None:
            raise self.fault
        self.taken += events
        self.trials_seen.append(len(record.trials))


def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def quick(folder: Path, view: Notes, **waits: float) -> Mirror:
    return Mirror(folder, view, **{"pause_s": 0.0, "poll_s": 0.01, "max_wait_s": 0.02, **waits})


def test_a_view_gets_every_event_once_while_the_ledger_grows(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    view = Notes()
    mirror = quick(tmp_path, view)
    mirror.start()  # before there is a ledger
    made_up = make_study(tmp_path).whole()
    assert mirror.close(5.0)
    assert view.taken == list(read_events(made_up.writer.path))
    assert (mirror.behind, mirror.last_error) == (0, "")


def test_a_notified_mirror_does_not_wait_for_its_next_look(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path)
    view = Notes()
    mirror = quick(tmp_path, view, poll_s=60.0)
    mirror.start()
    made_up.first_line()
    mirror.notify()
    until(lambda: len(view.taken) == 1)
    assert mirror.close(5.0)


def test_events_that_come_close_together_go_into_one_call(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    view = Notes()
    mirror = quick(tmp_path, view, pause_s=0.2)
    mirror.start()
    until(lambda: len(view.offered) == 1)
    for _ in range(5):
        made_up.driver("opened")
        mirror.notify()
    until(lambda: len(view.taken) == 6)
    assert [len(events) for events in view.offered] == [1, 5]
    assert mirror.close(5.0)


def test_after_a_fault_the_same_events_come_again_and_the_study_goes_on(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    view = Notes()
    view.fault = ConnectionError("the server\nis away")
    mirror = quick(tmp_path, view)
    mirror.start()
    made_up = make_study(tmp_path)
    made_up.first_line()
    until(lambda: len(view.offered) >= 2)
    assert mirror.last_error == "the server is away"
    assert mirror.behind == 1
    made_up.driver("opened")
    until(lambda: len(view.offered[-1]) == 2)
    assert all(events[0] == view.offered[0][0] for events in view.offered)
    view.fault = None
    assert mirror.close(5.0)
    assert view.taken == list(read_events(made_up.writer.path))
    assert mirror.last_error == ""


def test_a_view_that_lost_everything_gets_the_ledger_from_its_first_line(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    view = Notes()
    mirror = quick(tmp_path, view)
    mirror.start()
    until(lambda: len(view.taken) == 1)
    view.taken, view.fault = [], StartAgain("gone")
    made_up.driver("opened")
    until(lambda: mirror.last_error == "gone")
    view.fault = None
    assert mirror.close(5.0)
    assert view.taken == list(read_events(made_up.writer.path))


def test_closing_gives_up_on_a_view_that_stays_away_and_says_why(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    make_study(tmp_path).first_line()
    view = Notes()
    view.fault = OSError("still away")
    mirror = quick(tmp_path, view)
    mirror.start()
    start = time.monotonic()
    assert not mirror.close(0.2)
    assert 0.1 < time.monotonic() - start < 2.0
    assert (mirror.behind, mirror.last_error) == (1, "still away")


def test_closing_leaves_a_view_that_hangs_behind(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    release = threading.Event()

    class Hanging(Notes):
        def apply(self, record: StudyRecord, events: Sequence[Event]) -> None:
            release.wait(10.0)

    make_study(tmp_path).first_line()
    mirror = quick(tmp_path, Hanging())
    mirror.start()
    assert not mirror.close(0.1)
    release.set()


def test_a_view_that_comes_back_while_the_mirror_closes_is_completed(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    view = Notes()
    view.fault = OSError("away")
    mirror = quick(tmp_path, view, max_wait_s=60.0)
    mirror.start()
    until(lambda: mirror.last_error == "away")
    threading.Timer(0.1, lambda: setattr(view, "fault", None)).start()
    assert mirror.close(5.0)
    assert view.taken == list(read_events(made_up.writer.path))


def test_a_damaged_ledger_is_reported_not_raised(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    (tmp_path / LEDGER_NAME).write_bytes((tmp_path / LEDGER_NAME).read_bytes() + b"00000000 {}\n")
    mirror = quick(tmp_path, Notes())
    mirror.start()
    assert not mirror.close(0.1)
    assert "ledger.jsonl:2: damaged" in mirror.last_error


def test_epochs_of_ended_trials_are_let_go(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    made_up.driver("opened")
    kept: list[dict[int, int]] = []

    class Counting(Notes):
        def apply(self, record: StudyRecord, events: Sequence[Event]) -> None:
            super().apply(record, events)
            kept.append({number: len(trial.epochs) for number, trial in record.trials.items()})

    view = Counting()
    mirror = quick(tmp_path, view)
    for number in range(3):
        made_up.run(number)
        if number == 1:
            mirror.start()
            until(lambda: kept[-1:] == [{0: 3, 1: 3}])
    assert mirror.close(5.0)
    assert kept[-1][0] == kept[-1][1] == 0
    assert len(view.taken) == 2 + 3 * 6


@pytest.mark.parametrize("lines", [1, 3])
def test_a_line_that_is_still_being_written_waits(tmp_path: Path, make_study: Callable[..., Any], lines: int) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    for _ in range(lines):
        made_up.driver("opened")
    whole = made_up.writer.path.read_bytes()
    made_up.writer.path.write_bytes(whole[:-10])
    view = Notes()
    mirror = quick(tmp_path, view)
    mirror.start()
    until(lambda: len(view.taken) == lines)
    assert mirror.last_error == ""
    made_up.writer.path.write_bytes(whole)
    assert mirror.close(5.0)
    assert len(view.taken) == lines + 1
