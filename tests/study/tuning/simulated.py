"""Made-up training for the driver: no Ray, no torch, a seeded order of events, a virtual clock."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.load import parse_study
from search_spaces.study_config import StudyConfig
from search_spaces.trial_config import TrialConfig
from study.ledger.read import StudyRecord
from study.ledger.write import LedgerWriter
from study.records import DriverEvent, EpochResult, StudyEvent
from study.stages.shelf import Shelf
from study.stages.tree import ANYWHERE
from study.tuning.driver import Driver
from study.tuning.inherited import Source
from study.tuning.job import Job

TRIAL: dict[str, Any] = {
    "dataset": {"kind": "glyphs"},
    "split": {"train_classes": 10, "val_classes": 5, "test_classes": 5},
    "loss": {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": 20}},
    "epochs": 9,
}


def a_study(**fields: Any) -> StudyConfig:
    """A study of made-up trials; `fields` as in a study file."""
    return parse_study({"trial": TRIAL, **fields}, "made-up", "made-up")


def made_up_recall(key: str, epochs: int, config: TrialConfig) -> float:
    """A learning curve in [0, 1] that depends on the state's key alone, as real training does."""
    del config
    noise = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") / 2**32
    return round((1 - 0.9**epochs) * 0.8 + 0.2 * noise, 6)


Curve = Callable[[str, int, TrialConfig], float]


@dataclass
class MemoryStore:
    """The states that stand, and every key that was ever trained, in order."""

    standing: set[str] = field(default_factory=set)
    trained: list[str] = field(default_factory=list)
    largest: int = 0
    weights: set[int] = field(default_factory=set)

    def keys(self) -> set[str]:
        return set(self.standing)

    def free(self, key: str) -> None:
        self.standing.discard(key)

    def tidy(self) -> None:
        pass

    def keep_weights(self, key: str, number: int) -> None:
        assert key in self.standing
        self.weights.add(number)

    def save(self, key: str) -> None:
        self.standing.add(key)
        self.largest = max(self.largest, len(self.standing))


class Killed(Exception):
    """The driver died here."""


@dataclass
class World:
    """What outlives a driver: the folder with the ledger, the store, the clock."""

    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: float = 1000.0
    foreign: frozenset[str] = frozenset()

    def now(self) -> float:
        self.clock += 1.0
        return self.clock

    def run(
        self,
        study_config: StudyConfig,
        *,
        slots: int = 2,
        order: random.Random | None = None,
        curve: Curve = made_up_recall,
        fate: Callable[[Job, int], str] = lambda job, epochs: "",
        kill_after: int | None = None,
        sources: Sequence[Source] = (),
    ) -> StudyRecord:
        """Run until the driver has nothing left; the study as its ledger tells it.

        order: which worker reports next (None: the first). fate: 'diverge', 'crash' or '' for a job about to train its
        next epoch. kill_after: the driver dies after so many reports. Raises: Killed.
        """
        with LedgerWriter(self.folder) as ledger:
            if ledger.record.study is None:
                config = study_config.model_dump(mode="json", by_alias=True)
                ledger.append(
                    StudyEvent(at=self.now(), config=config, source="", versions={}, git_commit=None, machine={}),
                    durable=True,
                )
            ledger.append(DriverEvent(at=self.now(), what="opened", host="here", pid=1))
            driver = Driver(study_config, ledger, ANYWHERE, Shelf(self.store), now=self.now, sources=sources)
            working: list[tuple[Job, int]] = []
            reports = 0
            while True:
                while len(working) < slots:
                    job = driver.next_job(f"ray{reports}")
                    if job is None:
                        break
                    standing = self.foreign if job.start_folder else self.store.standing
                    assert job.start == 0 or job.keys[job.start] in standing
                    working.append((job, job.start))
                if not working:
                    assert not driver.running
                    ledger.append(DriverEvent(at=self.now(), what="closed", host="here", pid=1, note="finished"))
                    return ledger.record
                if kill_after is not None and reports >= kill_after:
                    raise Killed
                place = 0 if order is None else order.randrange(len(working))
                job, epochs = working.pop(place)
                reports += 1
                self._step(driver, job, epochs, working, place, curve, fate)

    def _step(
        self,
        driver: Driver,
        job: Job,
        epochs: int,
        working: list[tuple[Job, int]],
        place: int,
        curve: Curve,
        fate: Callable[[Job, int], str],
    ) -> None:
        match fate(job, epochs):
            case "diverge":
                driver.on_diverged(job.number, "the loss is nan")
                return
            case "crash":
                driver.on_exit(job.number, "its process died")
                return
            case str(word) if word.startswith("damaged "):
                driver.on_damaged(word.removeprefix("damaged "))
                driver.on_exit(job.number, "damaged", blameless=True)
                return
        config = TrialConfig.model_validate_json(_json(job.trial))
        again = epochs == config.epochs
        if not again:
            epochs += 1
            self.store.trained.append(job.keys[epochs])
            self.store.save(job.keys[epochs])
        value = curve(job.keys[epochs], epochs, config)
        metrics = {"loss": 1.0, "val_recall_at_1": value}
        if config.measure.test:
            metrics["test_recall_at_1"] = value
        result = EpochResult(epochs_done=epochs, metrics=metrics, train_s=1.0, eval_s=0.1)
        if driver.on_epoch(job.number, result, {}, stands=True):
            working.insert(place, (job, epochs))
        else:
            driver.on_exit(job.number, None)


def _json(value: object) -> str:
    import json

    return json.dumps(value)
