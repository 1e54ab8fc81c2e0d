"""What a study writes down. Loads neither torch nor Ray: analysis and export read studies through these types."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from search_spaces.base import Count, Frozen, Index

SCHEMA_VERSION = 1

# Words from an exception may hold half a surrogate pair (an undecodable file name), which no UTF-8 file can.
Words = Annotated[str, AfterValidator(lambda text: text.encode("utf-8", "replace").decode("utf-8"))]


class Status(StrEnum):
    """How a trial stands. Values are only ever added."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self in (Status.COMPLETE, Status.PRUNED, Status.DIVERGED, Status.FAILED)


class Phase(StrEnum):
    """Why a trial was made: a fixed plan, a search's proposal, or the confirmation of winners and baselines."""

    PLAN = "plan"
    SEARCH = "search"
    CONFIRM = "confirm"


class Record(Frozen):
    """Base of what a ledger's lines are made of. Which of its fields were given explicitly is forgotten.

    Nobody asks, and for an epoch pydantic's note of it takes 1.4 of 2.3 KiB.
    """

    def model_post_init(self, context: object, /) -> None:
        object.__setattr__(self, "__pydantic_fields_set__", _FORGOTTEN)


_FORGOTTEN: frozenset[str] = frozenset()


class ArrayFile(Record):
    """An npz file beside the ledger, named by a line of it. path: relative to the study's folder, with '/'."""

    path: str
    sha256: str
    names: tuple[str, ...]


class EpochResult(Record):
    """What one epoch of training measured.

    epochs_done: from 1; 0 is the untrained network, recorded only where diagnostics are asked for. metrics: flat names
    to finite numbers, one spelling everywhere: loss, loss_<part>, scale, lr, proxy_lr, train_accuracy_running,
    train_accuracy, val_recall_at_<K>, test_recall_at_<K>, and the diagnostics; Recall and accuracy are fractions.
    metrics are a pure function of (configuration, seed) on one machine; seconds are not. train_s, eval_s: wall-clock
    seconds. inherited: trained by another trial (or by this one before a restart) and reported again.
    """

    epochs_done: Index
    metrics: dict[str, float]
    train_s: Annotated[float, Field(ge=0)]
    eval_s: Annotated[float, Field(ge=0)]
    inherited: bool = False


class Event(Record):
    """Base of all ledger lines. at: Unix time in seconds when the driver wrote it."""

    at: float


class StudyEvent(Event):
    """First line: what is studied, and with what. config: the study file's values; source: its text."""

    event: Literal["study"] = "study"
    schema_version: int = SCHEMA_VERSION
    config: dict[str, JsonValue]
    source: str
    versions: dict[str, str]
    git_commit: str | None
    machine: dict[str, str]


class DriverEvent(Event):
    """A driver took up the study (again), or let go of it. what: 'opened', 'extended' (a larger budget), 'closed'."""

    event: Literal["driver"] = "driver"
    what: Literal["opened", "extended", "closed"]
    host: str
    pid: int
    config: dict[str, JsonValue] | None = None
    note: Words = ""


class TrialEvent(Event):
    """A trial exists from here on; durable before it starts.

    number: from 0, in order of the ledger. configuration: name for people; trials of one configuration differ in seed
    only. values: what differs from the common trial, by dotted path, resolved (no ranges). params: the sampler's own
    names and values. trial: the whole TrialConfig.
    """

    event: Literal["trial"] = "trial"
    number: Index
    phase: Phase
    configuration: str
    values: dict[str, JsonValue]
    params: dict[str, JsonValue]
    seed: Index
    trial: dict[str, JsonValue]
    baseline: bool = False


class StartEvent(Event):
    """A trial was handed to a worker. attempt: from 1. from_epochs: epochs_done of the prefix that it starts from.

    from_trial: the trial that trained the last stage of that prefix, or None at the beginning; from_study: the study
    that it belongs to, where that is an earlier one.
    """

    event: Literal["start"] = "start"
    number: Index
    attempt: Count
    ray_trial: str
    from_epochs: Index = 0
    from_trial: Index | None = None
    from_study: str = ""


class EpochEvent(Event):
    """One epoch's result, before scheduler and searcher judge it."""

    event: Literal["epoch"] = "epoch"
    number: Index
    result: EpochResult
    arrays: ArrayFile | None = None


class RungEvent(Event):
    """ASHA's decision on a trial at a rung. value: its objective there; cutoff: what it had to reach (None: first)."""

    event: Literal["rung"] = "rung"
    number: Index
    epochs_done: Count
    value: float
    cutoff: float | None
    decision: Literal["continue", "stop", "pause", "resume"]


class EndEvent(Event):
    """A trial ended. value: its objective at the last epoch; value_last_5: mean of its last five epochs.

    reason: in words, for pruned, diverged and failed trials.
    """

    event: Literal["end"] = "end"
    number: Index
    status: Status
    value: float | None
    value_last_5: float | None
    epochs_done: Index
    reason: Words = ""


LedgerEvent = Annotated[
    StudyEvent | DriverEvent | TrialEvent | StartEvent | EpochEvent | RungEvent | EndEvent, Field(discriminator="event")
]


def value_of(metrics_by_epoch: list[dict[str, float]], objective: str) -> tuple[float | None, float | None]:
    """A trial's value (objective at its last epoch, never its best) and the mean over its last five epochs."""
    values = [metrics[objective] for metrics in metrics_by_epoch if objective in metrics]
    if not values:
        return None, None
    last = values[-5:]
    return values[-1], sum(last) / len(last)


LINKS_NAME = "mlflow.json"


class MlflowLinks(Frozen):
    """Where a study's runs stand in MLflow, kept beside the ledger for the report's links; a view, not a record.

    server: address of MLflow's UI. experiment: its id. runs: run id by 'study' and 'trial <number>'.
    """

    server: Annotated[str, Field(pattern=r"^https?://[\w.:\[\]/-]+$")]
    experiment: Annotated[str, Field(pattern=r"^\w+$")]
    runs: dict[str, Annotated[str, Field(pattern=r"^\w+$")]]

    def of_trial(self, number: int) -> str:
        """Address of the run of trial `number`; '' where MLflow has none."""
        return self._address(f"trial {number}")

    @property
    def of_study(self) -> str:
        """Address of the study's own run; '' where MLflow has none."""
        return self._address("study")

    def _address(self, key: str) -> str:
        if key not in self.runs:
            return ""
        return f"{self.server.rstrip('/')}/#/experiments/{self.experiment}/runs/{self.runs[key]}"
