"""Which recorded epochs belong to which state: what a trial inherits from others, of its study or an earlier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from study.ledger.read import StudyRecord, TrialRecord, load_arrays
from study.ledger.write import LedgerWriter
from study.records import EpochEvent
from study.stages.key import Environment, prefix_keys


@dataclass(frozen=True)
class Source:
    """An earlier study whose kept states this one may start from. folder: of the study; stages: of its states."""

    name: str
    folder: Path
    stages: Path
    record: StudyRecord
    keys: frozenset[str]


class Inherited:
    """Epochs on record by the key of the state after them."""

    def __init__(self, ledger: LedgerWriter) -> None:
        self._ledger = ledger
        self._trained: dict[str, int] = {}
        self._foreign: dict[str, tuple[Source, TrialRecord]] = {}

    def trained_by(self, key: str) -> int | None:
        """The trial of this study that recorded the epoch of state `key` first."""
        return self._trained.get(key)

    def know(self, key: str, number: int) -> None:
        """Trial `number` of this study has recorded the epoch of state `key`."""
        self._trained.setdefault(key, number)

    def take_over(self, source: Source, environment: Environment) -> Iterator[str]:
        """Know what an earlier study recorded; the keys of the states that it kept."""
        for trial in source.record.trials.values():
            keys = prefix_keys(trial.config, trial.trial.seed, environment)
            for epochs in range(1, len(keys)):
                if epochs not in trial.epochs:
                    break
                self._foreign.setdefault(keys[epochs], (source, trial))
                if keys[epochs] in source.keys:
                    yield keys[epochs]

    def origin(self, key: str) -> tuple[Source, TrialRecord]:
        """The earlier study and its trial that state `key` comes from."""
        return self._foreign[key]

    def epoch(self, number: int, keys: Sequence[str], epochs: int, at: float) -> EpochEvent:
        """The epoch that ends in state keys[epochs] as trial `number`'s own, its arrays brought here."""
        key = keys[epochs]
        if key in self._trained:
            epoch = self._ledger.record.trials[self._trained[key]].epochs[epochs]
            arrays = epoch.arrays
        else:
            source, trial = self._foreign[key]
            epoch = trial.epochs[epochs]
            arrays = epoch.arrays and self._ledger.save_arrays(
                f"{number:05d}-{epochs:04d}", load_arrays(source.folder, epoch.arrays)
            )
        return EpochEvent(at=at, number=number, result=epoch.result.replace(inherited=True), arrays=arrays)
