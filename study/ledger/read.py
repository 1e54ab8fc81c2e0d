"""Reading a study's ledger: checked lines, and the study that they add up to. Loads neither torch nor Ray."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import to_json

from search_spaces.study_config import StudyConfig
from search_spaces.trial_config import TrialConfig
from study.records import (
    SCHEMA_VERSION,
    ArrayFile,
    DriverEvent,
    EndEvent,
    EpochEvent,
    EpochResult,
    Event,
    LedgerEvent,
    RungEvent,
    StartEvent,
    Status,
    StudyEvent,
    TrialEvent,
)
from study.uncollected import uncollected

LEDGER_NAME = "ledger.jsonl"
_EVENT: TypeAdapter[Event] = TypeAdapter(LedgerEvent)
_SUM_WIDTH = 8
_TORN = re.compile(rb"(?:[0-9a-f]{8} \{[^\n]*|[0-9a-f]{8} |[0-9a-f]{0,8})[\0\n]*", re.DOTALL)
"""What a dying writer leaves of a line; anything else at the end is no torn tail, and is not cut off."""


class LedgerError(Exception):
    """A ledger is damaged, of an unknown version, or cannot be written. One line: file, place, what, the mend."""


class Line(NamedTuple):
    """One valid line: its event, the checksum that the next line's chains on, the offset where it ends, its number."""

    event: Event
    checksum: int
    end: int
    number: int


def encode(event: Event, previous: int) -> tuple[bytes, int]:
    """`event` as a line, and its checksum, chained on the `previous` line's so that a lost line shows."""
    text = event.model_dump_json(exclude_defaults=False).encode()
    checksum = zlib.crc32(text, previous)
    return b"%08x %s\n" % (checksum, text), checksum


def read_lines(path: Path, after: Line | None = None) -> Iterator[Line]:
    """The valid lines of a ledger, in order; those behind `after`, a line read earlier, if it is given.

    A torn tail (a last line without its end, or zeros that a power cut left) is left out.
    Raises: LedgerError for a complete line whose checksum is wrong, a tail that never was one of a ledger, an unknown
    schema version, a missing file.
    """
    checksum, offset, before = (after.checksum, after.end, after.number) if after else (0, 0, 0)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise LedgerError(f"{path}: no ledger ({error.strerror}); name a study that was run") from error
    with stream:
        stream.seek(offset)
        for number, line in enumerate(stream, start=before + 1):
            if not line.endswith(b"\n") or (not line.strip(b"\0\n") and _only_zeros(stream)):
                if not _TORN.fullmatch(line):
                    raise LedgerError(
                        f"{path}:{number}: damaged (no line of a ledger begins so); restore the file from a copy, or "
                        f"cut it before this line to lose what follows"
                    )
                return
            offset += len(line)
            text = line[_SUM_WIDTH + 1 : -1]
            checksum = zlib.crc32(text, checksum)
            if line[: _SUM_WIDTH + 1] != b"%08x " % checksum:
                raise LedgerError(
                    f"{path}:{number}: damaged (its checksum does not match); restore the file from a copy, or cut it "
                    f"before this line to lose what follows"
                )
            yield Line(_parse(text, f"{path}:{number}"), checksum, offset, number)


def _only_zeros(stream: BinaryIO) -> bool:
    """Whether nothing but zeros and line ends is left to read."""
    return not any(line.strip(b"\0\n") for line in stream)


def _parse(text: bytes, place: str) -> Event:
    """The event that `text`, a line whose checksum is right, spells. Raises: LedgerError."""
    try:
        event = _EVENT.validate_json(text)
    except ValidationError as error:
        _check_version(json.loads(text), place)  # a newer version has fields that this one does not know
        first = error.errors(include_url=False)[0]
        raise LedgerError(
            f"{place}: not a line this version reads ({first['msg']}); use the version that wrote it"
        ) from error
    if isinstance(event, StudyEvent):
        _check_version({"schema_version": event.schema_version}, place)
    return event


def _check_version(line: object, place: str) -> None:
    version = line.get("schema_version", SCHEMA_VERSION) if isinstance(line, dict) else SCHEMA_VERSION
    if version not in range(1, SCHEMA_VERSION + 1):
        raise LedgerError(f"{place}: schema version {version}, this software reads 1 to {SCHEMA_VERSION}; update it")


def read_events(path: Path) -> Iterator[Event]:
    """The events of the ledger at `path`. Raises: as read_lines."""
    return (line.event for line in read_lines(path))


@dataclass
class TrialRecord:
    """What the ledger says of one trial. epochs: by epochs_done; where an epoch was recorded twice the later counts."""

    trial: TrialEvent
    starts: list[StartEvent] = field(default_factory=list)
    epochs: dict[int, EpochEvent] = field(default_factory=dict)
    rungs: list[RungEvent] = field(default_factory=list)
    end: EndEvent | None = None
    _config: TrialConfig | None = field(default=None, repr=False, compare=False)

    @property
    def number(self) -> int:
        """The trial's number, from 0."""
        return self.trial.number

    @property
    def config(self) -> TrialConfig:
        """The trial's configuration, validated; anew at every call once the trial has ended (too many to keep)."""
        config = self._config or TrialConfig.model_validate_json(_JSON.dump_json(self.trial.trial))
        self._config = None if self.end is not None else config
        return config

    def finish(self, end: EndEvent) -> None:
        """The trial ended; what `config` validated is let go of."""
        self.end, self._config = end, None

    @property
    def status(self) -> Status:
        """Where the trial stands by the ledger alone; RUNNING may be a trial whose driver died."""
        if self.end is not None:
            return self.end.status
        if not self.starts:
            return Status.WAITING
        return Status.PAUSED if self.rungs and self.rungs[-1].decision == "pause" else Status.RUNNING

    @property
    def results(self) -> list[EpochResult]:
        """Epochs from 1, in order."""
        return [self.epochs[n].result for n in sorted(self.epochs) if n > 0]

    @property
    def epochs_done(self) -> int:
        """Epochs recorded so far."""
        return max(self.epochs, default=0)


_JSON: TypeAdapter[Mapping[str, object]] = TypeAdapter(Mapping[str, object])


@dataclass
class StudyRecord:
    """A study as its ledger tells it. Fold events in with `apply`, in the ledger's order."""

    study: StudyEvent | None = None
    config_json: dict[str, object] = field(default_factory=dict)
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    drivers: list[DriverEvent] = field(default_factory=list)
    seconds_driven: float = 0.0
    last_at: float = 0.0
    latest_at: float = 0.0
    deciding: int | None = None

    @property
    def config(self) -> StudyConfig:
        """The study file's values, as last extended."""
        return StudyConfig.model_validate_json(_JSON.dump_json(self.config_json))

    def apply(self, event: Event) -> None:
        """Add one event. seconds_driven: wall-clock seconds between events of one driver, summed over drivers.

        last_at: of the last event; latest_at: of all, which differs where the clock was set back. deciding: the rung
        (epochs_done) where the last thing that befell any trial was that its turn there came.
        """
        if not (isinstance(event, StudyEvent) or (isinstance(event, DriverEvent) and event.what != "closed")):
            self.seconds_driven += max(0.0, event.at - self.last_at)
        self.last_at = event.at
        self.latest_at = max(self.latest_at, event.at)
        if not isinstance(event, DriverEvent):
            came = isinstance(event, RungEvent) and event.decision == "resume"
            self.deciding = event.epochs_done if isinstance(event, RungEvent) and came else None
        match event:
            case StudyEvent():
                self.study, self.config_json = event, dict(event.config)
            case DriverEvent():
                self.drivers.append(event)
                if event.config is not None:
                    self.config_json = dict(event.config)
            case TrialEvent():
                _share(event.trial, self.config_json.get("trial"))
                self.trials[event.number] = TrialRecord(event)
            case StartEvent():
                self.trials[event.number].starts.append(event)
            case EpochEvent():
                self.trials[event.number].epochs[event.result.epochs_done] = event
            case RungEvent():
                self.trials[event.number].rungs.append(event)
            case EndEvent():
                self.trials[event.number].finish(event)

    @property
    def finished(self) -> bool:
        """Whether the last driver closed the study because nothing was left to do."""
        return bool(self.drivers) and self.drivers[-1].what == "closed" and self.drivers[-1].note == "finished"


def _share(tree: dict[str, JsonValue], common: object) -> None:
    """Let `tree` hold the parts of `common` where they are the same: thousands of trials differ in a number or two."""
    for name, value in tree.items():
        if isinstance(value, dict) and isinstance(common, dict):
            same = common.get(name)
            if to_json(value) == to_json(same):  # not ==, for which 20 is 20.0 and True
                tree[name] = same
            else:
                _share(value, same)


def fold(events: Iterable[Event]) -> StudyRecord:
    """The study that `events` add up to."""
    record = StudyRecord()
    for event in events:
        record.apply(event)
    return record


@uncollected()
def read_study(folder: Path) -> StudyRecord:
    """The study in `folder`. Raises: LedgerError, also for an empty ledger."""
    record = fold(read_events(folder / LEDGER_NAME))
    if record.study is None:
        raise LedgerError(f"{folder / LEDGER_NAME}: empty; remove the folder and run the study file again")
    return record


def load_arrays(folder: Path, file: ArrayFile) -> dict[str, NDArray[np.generic]]:
    """The arrays that a ledger line names, checked and never unpickled. Raises: LedgerError."""
    path = folder / file.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LedgerError(
            f"{path}: the ledger names it, but it cannot be read ({error.strerror}); restore it"
        ) from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise LedgerError(f"{path}: damaged (its sha256 is not the ledger's); restore it from a copy")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
