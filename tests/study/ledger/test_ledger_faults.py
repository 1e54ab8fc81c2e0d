"""Whatever befalls the file: it reads as the whole lines before, or says in one line what is wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from study.ledger.read import LEDGER_NAME, LedgerError, encode, read_events, read_lines, read_study
from study.ledger.write import LedgerWriter
from study.records import DriverEvent, EpochEvent, EpochResult, Event, StudyEvent


def an_epoch(number: int, epochs_done: int) -> EpochEvent:
    result = EpochResult(epochs_done=epochs_done, metrics={"loss": 0.5}, train_s=1.0, eval_s=0.5)
    return EpochEvent(at=2.0, number=number, result=result)


def small_events() -> list[Event]:
    study = StudyEvent(at=1.0, config={}, source="", versions={}, git_commit=None, machine={})
    return [study, DriverEvent(at=1.5, what="opened", host="here", pid=7), an_epoch(0, 1), an_epoch(0, 2)]


def write_events(path: Path, events: list[Event]) -> list[bytes]:
    lines, checksum = [], 0
    for event in events:
        line, checksum = encode(event, checksum)
        lines.append(line)
    path.write_bytes(b"".join(lines))
    return lines


def test_a_ledger_torn_at_any_byte_of_its_last_line_reads_as_the_lines_before(tmp_path: Path) -> None:
    path, events = tmp_path / LEDGER_NAME, small_events()
    lines = write_events(path, events)
    whole = b"".join(lines)
    for kept in range(len(lines[-1])):
        path.write_bytes(whole[: len(whole) - len(lines[-1]) + kept])
        assert list(read_events(path)) == events[:-1]


def test_a_writer_cuts_a_tail_torn_at_any_byte_and_goes_on(tmp_path: Path, make_study: Callable[..., object]) -> None:
    make_study(tmp_path).whole()  # type: ignore[attr-defined]
    path = tmp_path / LEDGER_NAME
    whole = path.read_bytes()
    before = list(read_events(path))[:-1]
    start = whole.rindex(b"\n", 0, -1) + 1
    for kept in range(0, len(whole) - start, 7):
        path.write_bytes(whole[: start + kept])
        with LedgerWriter(tmp_path) as writer:
            assert path.stat().st_size == start
            writer.append(an_epoch(0, 3))
        assert list(read_events(path)) == [*before, an_epoch(0, 3)]


def test_zeros_behind_the_last_line_as_a_power_cut_leaves_them_are_a_torn_tail(tmp_path: Path) -> None:
    path, events = tmp_path / LEDGER_NAME, small_events()
    whole = b"".join(write_events(path, events))
    for tail in (b"\0" * 4096, b"\0" * 100 + b"\n", b"\0\n\0\n\0\0"):
        path.write_bytes(whole + tail)
        assert list(read_events(path)) == events


def test_any_flipped_byte_is_detected_or_only_tears_the_tail(tmp_path: Path) -> None:
    path, events = tmp_path / LEDGER_NAME, small_events()
    whole = b"".join(write_events(path, events))
    for place, byte in enumerate(whole):
        for other in {byte ^ 1 << place % 8, 0, ord("\n")} - {byte}:
            path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
            if place < len(whole) - 1:
                with pytest.raises(LedgerError, match=r":\d: damaged [^\n]+$"):
                    list(read_events(path))
            else:
                assert list(read_events(path)) == events[:-1]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_line_is_detected(tmp_path: Path, lost: int) -> None:
    path = tmp_path / LEDGER_NAME
    lines = write_events(path, small_events())
    path.write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    with pytest.raises(LedgerError, match=rf"{LEDGER_NAME}:{lost + 1}: damaged"):
        list(read_events(path))


def test_swapped_and_doubled_lines_are_detected(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_NAME
    first, second, third, fourth = write_events(path, small_events())
    for order in ([first, third, second, fourth], [first, second, second, third, fourth]):
        path.write_bytes(b"".join(order))
        with pytest.raises(LedgerError, match="damaged"):
            list(read_events(path))


@pytest.mark.parametrize("version", [0, 2, 99])
def test_an_unknown_schema_version_is_named_even_if_its_lines_look_other(tmp_path: Path, version: int) -> None:
    class FutureStudyEvent(StudyEvent):
        unheard_of: int = 1

    plain = StudyEvent(at=1.0, config={}, source="", versions={}, git_commit=None, machine={}, schema_version=version)
    other = FutureStudyEvent(**plain.model_dump())
    for event in (plain, other):
        write_events(tmp_path / LEDGER_NAME, [event])
        with pytest.raises(LedgerError, match=rf"schema version {version}, this software reads 1 to 1; update it"):
            read_study(tmp_path)


def test_a_line_with_an_unknown_event_says_which_software_to_use(tmp_path: Path) -> None:
    class Unheard(Event):
        event: str = "unheard"

    write_events(tmp_path / LEDGER_NAME, [*small_events(), Unheard(at=1.0)])
    with pytest.raises(LedgerError, match=r":5: not a line this version reads .* use the version that wrote it"):
        list(read_events(tmp_path / LEDGER_NAME))


def test_reading_goes_on_behind_a_line_read_earlier(tmp_path: Path) -> None:
    path, events = tmp_path / LEDGER_NAME, small_events()
    write_events(path, events)
    lines = list(read_lines(path))
    for seen in range(len(lines)):
        assert list(read_lines(path, after=lines[seen])) == lines[seen + 1 :]
    path.write_bytes(path.read_bytes()[:-5] + b"xxxx\n")
    with pytest.raises(LedgerError, match=":4: damaged"):
        list(read_lines(path, after=lines[1]))


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("written", [0, 1, 60, None])
def test_on_a_full_disk_the_last_line_stays_whole_and_the_study_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None, durable: bool
) -> None:
    write = os.write
    with LedgerWriter(tmp_path) as writer:
        writer.append(*small_events()[:2])
        before = writer.path.read_bytes()

        def full(file: int, data: bytes) -> int:
            if written is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(file, data[:written])

        trial_free = DriverEvent(at=2.0, what="extended", host="here", pid=7)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(LedgerError) as caught:
                writer.append(trial_free, trial_free, durable=durable)
        assert str(caught.value) == (
            f"{writer.path}: cannot be written (No space left on device); make room, then resume the study"
        )
        assert writer.path.read_bytes() == before
        assert len(writer.record.drivers) == 1
        writer.append(trial_free)
    assert list(read_events(writer.path)) == [*small_events()[:2], trial_free]


def test_a_line_whose_fsync_failed_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with LedgerWriter(tmp_path) as writer:
        writer.append(small_events()[0])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", broken)
            with pytest.raises(LedgerError, match=r"cannot be written \(Input/output error\)"):
                writer.append(small_events()[1], durable=True)
        assert list(read_events(writer.path)) == small_events()[:1]


def test_a_disk_full_from_the_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(LedgerError, match=r"cannot be written \(No space left on device\)"):
        LedgerWriter(tmp_path / "study")


def test_a_missing_and_an_empty_ledger_are_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        read_study(tmp_path)
    (tmp_path / LEDGER_NAME).touch()
    with pytest.raises(LedgerError, match="empty; remove the folder"):
        read_study(tmp_path)
