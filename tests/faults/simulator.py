"""The study's loop with made-up training, a virtual clock and seeded faults, nested in resumes."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.study_config import StudyConfig
from search_spaces.trial_config import TrialConfig
from study.ledger.read import LEDGER_NAME, LedgerError, StudyRecord, load_arrays, read_study
from study.ledger.write import LedgerWriter
from study.records import DriverEvent, EpochResult, Phase, Status, StudyEvent
from study.stages.shelf import Shelf
from study.stages.tree import ANYWHERE
from study.tuning.driver import Driver
from study.tuning.job import Job
from tests.study.tuning.simulated import MemoryStore, made_up_recall

from .disk import Death, Disk

MAX_LIVES = 200


class Wrong(AssertionError):
    """A promise was broken."""


@dataclass
class Chances:
    """How likely each misfortune of a worker is, at each of its reports."""

    crash: float = 0.0
    node_lost: float = 0.0
    damaged: float = 0.0
    unsaved: float = 0.0
    stop: float = 0.0


@dataclass
class Returning(MemoryStore):
    """A store whose deletions a power cut may undo: unlinking is not synced."""

    freed: list[str] = field(default_factory=list)

    def free(self, key: str) -> None:
        if key in self.standing:
            self.freed.append(key)
        super().free(key)

    def power_cut(self, rng: random.Random) -> None:
        back = self.freed[-3:]
        self.standing.update(key for key in back if rng.random() < 0.5)
        self.freed.clear()


def diverges(key: str) -> bool:
    """Whether training towards state `key` diverges: a function of the key, as real training's is."""
    return made_up_recall(f"{key} diverges", 1, None) > 0.275


class Computer:
    """What outlives a driver: the ledger's folder, the states, the clock. One `live` is one driver's life."""

    def __init__(self, folder: Path, study: StudyConfig, rng: random.Random, chances: Chances | None = None) -> None:
        self.study = study
        self.rng = rng
        self.chances = chances or Chances()
        self.folder = folder
        self.disk = Disk(folder / LEDGER_NAME)
        self.disk.choose = rng.choice
        self.disk.cut = lambda size: rng.randint(0, max(0, size - 1))
        self.store = Returning()
        self.clock = 1e6
        self.heard: Counter[str] = Counter()
        """How often a driver heard, and held on record, that the state of a key was trained."""
        self.excused: set[str] = set()
        """Keys that may be trained again: their state was never stored, or stood no more beneath a damaged one."""
        self.history: list[str] = []

    def now(self) -> float:
        self.clock += self.rng.choice([1.0, 0.0, 0.001, 60.0, -5.0])
        return self.clock

    def live(self, *, slots: int, strike: int | None = None) -> StudyRecord | None:
        """Drive the study until it is finished or something befalls the driver: its record, or None."""
        self.disk.boot()
        self.disk.strike = strike
        try:
            with self.disk.mounted():
                return self._session(slots)
        except Death:
            self.history.append(f"killed at {self.disk.struck}")
            if self.rng.random() < 0.3:
                self.history.append("power cut")
                self.disk.power_cut(self.rng)
                self.store.power_cut(self.rng)
        except LedgerError as error:
            self.history.append(f"stopped at {self.disk.struck}: {error}")
            if len(str(error).splitlines()) != 1:
                raise Wrong(f"more than one line: {error}") from error
        return None

    def _session(self, slots: int) -> StudyRecord | None:
        with LedgerWriter(self.folder) as ledger:
            if ledger.record.study is None:
                config = self.study.model_dump(mode="json", by_alias=True)
                first = StudyEvent(at=self.now(), config=config, source="", versions={}, git_commit=None, machine={})
                ledger.append(first, durable=True)
            ledger.append(DriverEvent(at=self.now(), what="opened", host="here", pid=1), durable=True)
            working: list[list[Any]] = []
            try:
                driver = Driver(self.study, ledger, ANYWHERE, Shelf(self.store), now=self.now)
                self._drive(driver, working, slots)
            except LedgerError:
                with contextlib.suppress(Exception):
                    ledger.append(self._closed("stopped"), durable=True)
                raise
            finally:
                # Workers outlive their driver a little: an epoch may be trained and stored that nobody hears of.
                for job, epochs in working:
                    if epochs < len(job.keys) - 1 and not diverges(job.keys[epochs + 1]) and self.rng.random() < 0.5:
                        self.store.save(job.keys[epochs + 1])
            if driver.stopping:
                ledger.append(self._closed("stopped"), durable=True)
                self.history.append("stopped by a signal")
                return None
            if driver.running:
                raise Wrong(f"finished with {driver.running} in training")
            ledger.append(self._closed("finished"), durable=True)
            return ledger.record

    def _closed(self, note: str) -> DriverEvent:
        return DriverEvent(at=self.now(), what="closed", host="here", pid=1, note=note)

    def _drive(self, driver: Driver, working: list[list[Any]], slots: int) -> None:
        crashes: Counter[int] = Counter()
        while True:
            while len(working) < slots and (job := driver.next_job("ray")) is not None:
                if job.start and job.keys[job.start] not in self.store.standing:
                    raise Wrong(f"trial {job.number} is to start from a state that does not stand")
                working.append([job, job.start])
            if not working:
                return
            place = self.rng.randrange(len(working))
            job, epochs = working.pop(place)
            if self._misfortune(driver, job, epochs, crashes):
                continue
            epochs = self._report(driver, job, epochs)
            if epochs is not None:
                working.insert(place, [job, epochs])

    def _misfortune(self, driver: Driver, job: Job, epochs: int, crashes: Counter[int]) -> bool:
        chances, dice = self.chances, self.rng.random
        if chances.stop and dice() < chances.stop:
            driver.stopping = True
        if job.start and epochs == job.start and dice() < chances.damaged:
            self.excused.update(job.keys[: job.start + 1])
            self.store.free(job.keys[job.start])
            driver.on_damaged(job.keys[job.start])
            driver.on_exit(job.number, "damaged", blameless=True)
            return True
        if dice() < chances.node_lost:
            driver.on_exit(job.number, "its node died", blameless=True)
            return True
        if crashes[job.number] < 2 and dice() < chances.crash:
            crashes[job.number] += 1
            driver.on_exit(job.number, "its process died")
            return True
        return False

    def _report(self, driver: Driver, job: Job, epochs: int) -> int | None:
        """Train an epoch and tell the driver; epochs done where the trial goes on."""
        config = driver.record.trials[job.number].config
        metrics: dict[str, float] = {}
        stands = True
        trained = epochs < config.epochs
        if trained:
            epochs += 1
            key = job.keys[epochs]
            if diverges(key):
                driver.on_diverged(job.number, "the loss is nan")
                return None
            if epochs in driver.record.trials[job.number].epochs and key not in self.excused:
                raise Wrong(f"trial {job.number} trains epoch {epochs}, which is on record")
            if self.rng.random() < self.chances.unsaved and epochs not in job.save_at:
                stands = False
                self.excused.add(key)
            else:
                self.store.save(key)
            metrics = metrics_of(config, key, epochs)
        arrays = {"key": np.array([int(job.keys[-1][:8], 16)])} if epochs == config.epochs else {}
        result = EpochResult(epochs_done=epochs, metrics=metrics, train_s=1.0, eval_s=0.1)
        goes_on = driver.on_epoch(job.number, result, arrays, stands=stands)
        if trained:
            self.heard[job.keys[epochs]] += 1
        if goes_on:
            return epochs
        driver.on_exit(job.number, None)
        return None


def metrics_of(config: TrialConfig, key: str, epochs: int) -> dict[str, float]:
    """What training to state `key` measures."""
    value = made_up_recall(key, epochs, config)
    tested = {"test_recall_at_1": value} if config.measure.test else {}
    return {"loss": 1.0, "val_recall_at_1": value, **tested}


def final(record: StudyRecord) -> dict[int, Any]:
    """What a study came to, without clock, starts, and which trial of equal prefixes trained a stage."""
    return {
        number: (
            trial.trial.replace(at=0.0),
            [
                (n, event.result.metrics, event.arrays and event.arrays.sha256)
                for n, event in sorted(trial.epochs.items())
            ],
            [(rung.epochs_done, rung.value, rung.cutoff, rung.decision) for rung in trial.rungs],
            trial.end and trial.end.replace(at=0.0),
        )
        for number, trial in record.trials.items()
    }


def check(computer: Computer, record: StudyRecord, expected: tuple[dict[int, Any], set[int]] | None) -> None:
    """Raise Wrong where a finished study lacks anything. expected: what it finds without any."""
    read = read_study(computer.folder)
    if read != record:
        raise Wrong("the ledger reads otherwise than its driver held it")
    if not read.finished:
        raise Wrong("not finished")
    search = computer.study.search
    if search is None:  # in a search, a later proposal may begin as one did whose states are freed
        again = [key for key, times in computer.heard.items() if times > 1 and key not in computer.excused]
        if again:
            raise Wrong(f"trained and heard of more than once: the states {again}")
    if search is not None:
        proposals = [trial for trial in record.trials.values() if trial.trial.phase is Phase.SEARCH]
        if len(proposals) != search.max_trials:
            raise Wrong(f"{len(proposals)} proposals of {search.max_trials}")
    if list(record.trials) != list(range(len(record.trials))):
        raise Wrong("trials are missing")
    for number, trial in record.trials.items():
        if trial.end is None:
            raise Wrong(f"trial {number} has no end")
        if trial.status is Status.FAILED and not trial.end.reason.startswith("not a valid trial"):
            raise Wrong(f"trial {number} failed: {trial.end.reason}")
        if sorted(trial.epochs) != list(range(1, trial.end.epochs_done + 1)):
            raise Wrong(f"trial {number} has epochs {sorted(trial.epochs)} of {trial.end.epochs_done}")
        if trial.status is Status.COMPLETE and trial.end.epochs_done != trial.config.epochs:
            raise Wrong(f"trial {number} is complete after {trial.end.epochs_done} epochs")
        for event in trial.epochs.values():
            if event.arrays is not None:
                load_arrays(computer.folder, event.arrays)
        if trial.status is Status.COMPLETE and trial.epochs[trial.config.epochs].arrays is None:
            raise Wrong(f"trial {number} lost its arrays")
    winners = {
        number
        for number, trial in record.trials.items()
        if trial.trial.phase is Phase.CONFIRM and not trial.trial.baseline and trial.status is Status.COMPLETE
    }
    if computer.store.weights != winners:
        raise Wrong(f"weights kept of {computer.store.weights}, not of {winners}")
    if list(computer.folder.glob("arrays/.*.part")):
        raise Wrong("half written files are left")
    if expected is not None and (final(record), computer.store.weights) != expected:
        theirs = final(record)
        where = [n for n in expected[0].keys() | theirs.keys() if expected[0].get(n) != theirs.get(n)]
        first = where[0] if where else None
        raise Wrong(f"other than without faults: trials {where}\n{expected[0].get(first)}\n{theirs.get(first)}")


Strike = Callable[[int], int | None]


def run_to_the_end(computer: Computer, strike: Strike, *, slots: Callable[[], int]) -> StudyRecord:
    """One driver after the other until the study is finished. strike(life): the operation at which it is hit."""
    for life in range(MAX_LIVES):
        record = computer.live(slots=slots(), strike=strike(life))
        if record is not None:
            return record
    raise Wrong(f"not finished after {MAX_LIVES} drivers")
