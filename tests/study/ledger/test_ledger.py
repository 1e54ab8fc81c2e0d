"""What is written is what is read; durable lines are durable; nobody else reads them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.ledger.read import LedgerError, TrialRecord, encode, fold, load_arrays, read_events, read_lines, read_study
from study.ledger.write import LedgerWriter, make_private, write_atomic
from study.records import (
    ArrayFile,
    DriverEvent,
    EndEvent,
    EpochEvent,
    EpochResult,
    Event,
    Phase,
    RungEvent,
    StartEvent,
    Status,
    StudyEvent,
    TrialEvent,
)

_numbers = st.floats(allow_nan=False, allow_infinity=False)
_index = st.integers(0, 2**40)
_seconds = st.floats(0, 1e300)
_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | _numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_tree = st.dictionaries(st.text(max_size=6), _json, max_size=3)
_words = st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=2)
_array_file = st.builds(
    ArrayFile, path=st.text(max_size=9), sha256=st.text(max_size=9), names=st.lists(st.text(max_size=4)).map(tuple)
)
_result = st.builds(
    EpochResult,
    epochs_done=_index,
    metrics=st.dictionaries(st.text(max_size=8), _numbers, max_size=4),
    train_s=_seconds,
    eval_s=_seconds,
    inherited=st.booleans(),
)
_event: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        StudyEvent,
        at=_numbers,
        schema_version=st.just(1),
        config=_tree,
        source=st.text(),
        versions=_words,
        git_commit=st.none() | st.text(max_size=9),
        machine=_words,
    ),
    st.builds(
        DriverEvent,
        at=_numbers,
        what=st.sampled_from(["opened", "extended", "closed"]),
        host=st.text(max_size=9),
        pid=st.integers(),
        config=st.none() | _tree,
        note=st.text(max_size=20),
    ),
    st.builds(
        TrialEvent,
        at=_numbers,
        number=_index,
        phase=st.sampled_from(Phase),
        configuration=st.text(max_size=9),
        values=_tree,
        params=_tree,
        seed=_index,
        trial=_tree,
        baseline=st.booleans(),
    ),
    st.builds(
        StartEvent,
        at=_numbers,
        number=_index,
        attempt=st.integers(1, 99),
        ray_trial=st.text(max_size=9),
        from_epochs=_index,
        from_trial=st.none() | _index,
    ),
    st.builds(EpochEvent, at=_numbers, number=_index, result=_result, arrays=st.none() | _array_file),
    st.builds(
        RungEvent,
        at=_numbers,
        number=_index,
        epochs_done=st.integers(1, 999),
        value=_numbers,
        cutoff=st.none() | _numbers,
        decision=st.sampled_from(["continue", "stop", "pause", "resume"]),
    ),
    st.builds(
        EndEvent,
        at=_numbers,
        number=_index,
        status=st.sampled_from(Status),
        value=st.none() | _numbers,
        value_last_5=st.none() | _numbers,
        epochs_done=_index,
        reason=st.text(max_size=30),
    ),
)


@settings(max_examples=30, deadline=None)
@given(events=st.lists(_event, max_size=5))
def test_every_event_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.jsonl"
    data, checksum = b"", 0
    for event in events:
        line, checksum = encode(event, checksum)
        assert line.count(b"\n") == 1
        data += line
    path.write_bytes(data)
    lines = list(read_lines(path))
    assert [repr(line.event) for line in lines] == [
        repr(event) for event in events
    ]  # repr tells -0.0 from 0.0, 1 from 1.0
    assert [line.number for line in lines] == list(range(1, len(events) + 1))
    assert not lines or (lines[-1].checksum, lines[-1].end) == (checksum, len(data))


def test_half_a_surrogate_pair_in_an_error_does_not_stop_the_driver(tmp_path: Path) -> None:
    end = EndEvent(
        at=1.0, number=0, status=Status.FAILED, value=None, value_last_5=None, epochs_done=0, reason="no \udcff.png"
    )
    line, _ = encode(end, 0)
    assert b"no ?.png" in line


def test_a_written_study_folds_to_what_the_writer_holds(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path / "made_up").whole()
    record = read_study(tmp_path / "made_up")
    assert record == made_up.writer.record
    assert [trial.status for trial in record.trials.values()] == [
        *([Status.COMPLETE] * 3), Status.PRUNED, Status.DIVERGED, Status.COMPLETE
    ]  # fmt: skip
    assert record.finished
    assert [result.inherited for result in record.trials[5].results] == [True, True, False]
    reopened = LedgerWriter(tmp_path / "made_up")
    assert reopened.record == record


def test_a_grids_configuration_comes_back_from_its_ledger(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    assert read_study(tmp_path).config == made_up.config


def test_a_trial_stands_where_its_lines_say(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path)
    made_up.first_line()
    made_up.driver("opened")
    made_up.trial(0)
    trial: TrialRecord = made_up.writer.record.trials[0]
    stands = [trial.status]
    made_up.start(0)
    stands.append(trial.status)
    made_up.epoch(0, 1)

    def rung(decision: Any) -> Callable[[float], Event]:
        return lambda at: RungEvent(at=at, number=0, epochs_done=1, value=0.5, cutoff=None, decision=decision)

    for decision in ("pause", "resume"):
        made_up.write(rung(decision))
        stands.append(trial.status)
    made_up.epoch(0, 1, recall=0.75)
    assert [result.metrics["val_recall_at_1"] for result in trial.results] == [0.75]
    made_up.end(0, Status.PRUNED, 1)
    stands.append(trial.status)
    assert stands == [Status.WAITING, Status.RUNNING, Status.PAUSED, Status.RUNNING, Status.PRUNED]
    assert not made_up.writer.record.finished


def test_trials_share_what_they_have_in_common_and_keep_their_own() -> None:
    common: dict[str, Any] = {"loss": {"kind": "softmax", "scale": {"value": 20}}, "epochs": 3, "measure": {"test": 1}}
    own: dict[str, Any] = {"loss": {"kind": "softmax", "scale": {"value": 20.0}}, "epochs": 3, "measure": {"test": 1}}
    wanted = json.dumps(own)
    trial = TrialEvent(at=0, number=0, phase=Phase.PLAN, configuration="", values={}, params={}, seed=0, trial=own)
    record = fold(
        [StudyEvent(at=0, config={"trial": common}, source="", versions={}, git_commit=None, machine={}), trial]
    )
    found = record.trials[0].trial.trial
    assert found["measure"] is record.config_json["trial"]["measure"]
    assert json.dumps(found) == wanted, "20 is not 20.0"


def test_the_seconds_between_two_drivers_are_not_driven() -> None:
    def driver(at: float, what: Any) -> DriverEvent:
        return DriverEvent(at=at, what=what, host="here", pid=1)

    study = StudyEvent(at=100.0, config={}, source="", versions={}, git_commit=None, machine={})
    sessions = [driver(101.0, "opened"), driver(111.0, "closed"), driver(500.0, "extended"), driver(505.0, "closed")]
    assert fold([study, *sessions]).seconds_driven == 10.0 + 5.0


def test_a_durable_line_is_on_the_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def counted(file: int) -> None:
        synced.append(os.fstat(file).st_size)
        fsync(file)

    event = DriverEvent(at=1.0, what="opened", host="here", pid=1)
    with LedgerWriter(tmp_path) as writer:
        monkeypatch.setattr(os, "fsync", counted)
        writer.append(event, event)
        assert synced == []
        writer.append(event, event, durable=True)
        assert synced == [writer.path.stat().st_size]
        assert len(list(read_events(writer.path))) == 4


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = tmp_path / "studies"
        with LedgerWriter(home / "one") as writer:
            writer.save_arrays("embeddings_0", {"points": np.zeros((2, 2))})
        write_atomic(home / "report.html", b"page")
        make_private(home / "a" / "b")
    finally:
        os.umask(before)
    for path in [home, *home.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path} has mode {mode:o}"


def test_arrays_come_back_and_damage_is_named(tmp_path: Path) -> None:
    angles = np.linspace(0.0, 1.0, 7, dtype=np.float32)
    with LedgerWriter(tmp_path) as writer:
        file = writer.save_arrays("angles_3", {"angles": angles, "labels": np.arange(3)})
    assert file.path == "arrays/angles_3.npz"
    loaded = load_arrays(tmp_path, file)
    assert loaded.keys() == set(file.names) == {"angles", "labels"}
    np.testing.assert_array_equal(loaded["angles"], angles)
    path = tmp_path / file.path
    data = path.read_bytes()
    for place in (0, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(LedgerError, match="damaged"):
            load_arrays(tmp_path, file)
    path.unlink()
    with pytest.raises(LedgerError, match="the ledger names it, but it cannot be read"):
        load_arrays(tmp_path, file)


def test_arrays_of_python_objects_are_refused(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path) as writer, pytest.raises(ValueError, match="Object arrays cannot be saved"):
        writer.save_arrays("objects", {"things": np.array([{}, None], dtype=object)})


def test_an_atomic_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    write_atomic(path, b"old")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.read_bytes() == b"old"
