"""A made-up study, written through the real ledger, for tests of ledger and tracking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces.study_config import StudyConfig
from study.ledger.write import LedgerWriter
from study.records import (
    DriverEvent,
    EndEvent,
    EpochEvent,
    EpochResult,
    Event,
    Phase,
    StartEvent,
    Status,
    StudyEvent,
    TrialEvent,
)

SCALES = (1.0, 20.0)


class MadeUpStudy:
    """Drives a ledger by hand. Scales 1 and 20, seeds 0 to 2 in rows; a line is written each quarter second."""

    def __init__(self, folder: Path, name: str = "made_up", epochs: int = 3) -> None:
        self.folder, self.epochs = folder, epochs
        self.config = StudyConfig.model_validate_json(
            f"""{{"name": "{name}", "question": "Which scale?", "seeds": [0, 1, 2],
            "vary": {{"loss.scale.value": [1, 20]}},
            "trial": {{"dataset": {{"kind": "glyphs"}}, "epochs": {epochs},
                       "split": {{"train_classes": 4, "val_classes": 2, "test_classes": 2}},
                       "loss": {{"kind": "normalized_softmax", "scale": {{"kind": "constant", "value": 20}}}}}}}}"""
        )
        self.writer = LedgerWriter(folder)
        self.at = max([1_700_000_000.0, *(driver.at + 1000 for driver in self.writer.record.drivers)])

    def write(self, event: Callable[[float], Event], durable: bool = False) -> None:
        self.at += 0.25
        self.writer.append(event(self.at), durable=durable)

    def first_line(self) -> None:
        config = self.config.model_dump(mode="json")
        machine, versions = {"host": "here"}, {"torch": "2.9.0", "python": "3.11"}
        self.write(
            lambda at: StudyEvent(
                at=at, config=config, source="name: made_up\n", versions=versions, git_commit="c0ffee", machine=machine
            )
        )

    def driver(self, what: str, note: str = "") -> None:
        self.write(lambda at: DriverEvent(at=at, what=what, host="here", pid=1, note=note))  # type: ignore[arg-type]

    def trial(self, number: int, phase: Phase = Phase.PLAN, seed: int | None = None) -> None:
        scale = SCALES[number // 3 % len(SCALES)]
        values = {"loss.scale.value": scale}
        trial = self.config.trial_with(dict(values)).model_dump(mode="json", by_alias=True)
        event = TrialEvent(
            at=0.0,
            number=number,
            phase=phase,
            configuration=f"s={scale:g}",
            values=dict(values),
            params={},
            seed=number % 3 if seed is None else seed,
            trial=trial,
        )
        self.write(lambda at: event.replace(at=at), durable=True)

    def start(self, number: int, attempt: int = 1, from_epochs: int = 0, from_trial: int | None = None) -> None:
        self.write(
            lambda at: StartEvent(
                at=at,
                number=number,
                attempt=attempt,
                ray_trial=f"r{number}",
                from_epochs=from_epochs,
                from_trial=from_trial,
            )
        )

    def recall(self, number: int, epochs_done: int) -> float:
        """A fraction that grows with scale, seed and epoch."""
        return round(0.1 + 0.2 * (number // 3) + 0.01 * (number % 3) + 0.05 * epochs_done, 6)

    def epoch(self, number: int, epochs_done: int, inherited: bool = False, recall: float | None = None) -> None:
        recall = self.recall(number, epochs_done) if recall is None else recall
        metrics = {"loss": 3.0 - epochs_done / 10, "val_recall_at_1": recall, "test_recall_at_1": recall - 0.05}
        result = EpochResult(epochs_done=epochs_done, metrics=metrics, train_s=0.5, eval_s=0.125, inherited=inherited)
        self.write(lambda at: EpochEvent(at=at, number=number, result=result))

    def end(self, number: int, status: Status = Status.COMPLETE, epochs: int | None = None, reason: str = "") -> None:
        done = self.epochs if epochs is None else epochs
        value = self.recall(number, done) if done else None
        self.write(
            lambda at: EndEvent(
                at=at, number=number, status=status, value=value, value_last_5=value, epochs_done=done, reason=reason
            )
        )

    def run(self, number: int) -> None:
        """One trial, from its proposal to its end."""
        self.trial(number)
        self.start(number)
        for epochs_done in range(1, self.epochs + 1):
            self.epoch(number, epochs_done)
        self.end(number)

    def whole(self) -> MadeUpStudy:
        """All of a study: six trials, of which one is pruned, one diverges and one starts from another's epochs."""
        self.first_line()
        self.driver("opened")
        for number in range(3):
            self.run(number)
        self.trial(3)
        self.start(3)
        self.epoch(3, 1)
        self.end(3, Status.PRUNED, 1, "below the best third at epoch 1")
        self.trial(4)
        self.start(4)
        self.end(4, Status.DIVERGED, 0, "loss was nan in epoch 1")
        self.trial(5)
        self.start(5, from_epochs=2, from_trial=3)
        for epochs_done in range(1, 4):
            self.epoch(5, epochs_done, inherited=epochs_done < 3)
        self.end(5)
        self.driver("closed", "finished")
        return self


@pytest.fixture
def make_study() -> Callable[..., MadeUpStudy]:
    return MadeUpStudy
