"""What MLflow should hold of a study: its ledger told as runs. Pure; knows MLflow's words and limits, not MLflow."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, assert_never

from pydantic import JsonValue

from study.records import (
    DriverEvent,
    EndEvent,
    EpochEvent,
    Event,
    Phase,
    RungEvent,
    StartEvent,
    Status,
    StudyEvent,
    TrialEvent,
)
from study.tracking.flatten import as_text, flatten

LIMIT = 5000  # characters of a parameter or tag; MLflow's are 6,000 and 8,000, its old versions' 5,000
STUDY = "study"
RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
_ENDED: dict[Status, RunStatus] = {
    Status.COMPLETE: "FINISHED",
    Status.PRUNED: "KILLED",
    Status.DIVERGED: "FAILED",
    Status.FAILED: "FAILED",
}


class Point(NamedTuple):
    """One value of a metric. at_ms: the ledger's time, so that the same point logged twice is one point."""

    key: str
    value: float
    at_ms: int
    step: int


@dataclass
class Run:
    """One run as MLflow should hold it.

    key: 'study', 'configuration <phase> <name> <crc32 of its values>' or 'trial <number>'; parent: another run's key.
    points: what is yet to be logged. branches: number of the trial that trained the epochs it starts from. end_ms: set
    while it has ended.
    """

    key: str
    parent: str | None
    name: str
    start_ms: int
    tags: dict[str, str]
    params: dict[str, str]
    points: list[Point] = field(default_factory=list)
    branches: int | None = None
    status: RunStatus = "RUNNING"
    end_ms: int | None = None
    files: dict[str, str] = field(default_factory=dict)

    def set(self, status: RunStatus, word: str, end_ms: int | None = None) -> None:
        """Stand at `status`; `word` is the ledger's own for it."""
        self.status, self.end_ms = status, end_ms
        self.tags["status"] = word


@dataclass
class _Open:
    """A trial that has not ended. metrics: what each of its epochs was recorded with, by epochs_done."""

    event: TrialEvent
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    inherited: int = 0


@dataclass
class _Configuration:
    """Seeds of one configuration: values of the complete ones by metric, statuses of all ended ones."""

    recalls: dict[str, list[float]] = field(default_factory=dict)
    statuses: list[Status] = field(default_factory=list)


class StudyRuns:
    """Folds a ledger into runs. runs: by key, parents first; changed: keys that an event touched, in order."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.changed: dict[str, None] = {}
        self.ledger_id = ""
        self.name = ""
        self._config: dict[str, JsonValue] = {}
        self._open: dict[int, _Open] = {}
        self._configurations: dict[str, _Configuration] = {}
        self._last_ms = 0
        self._driven = False

    def apply(self, event: Event) -> None:
        """Add one event, in the ledger's order."""
        match event:
            case StudyEvent():
                self._study(event)
            case DriverEvent():
                self._driver(event)
            case TrialEvent():
                self._open[event.number] = _Open(event)
            case StartEvent():
                self._start(event)
            case EpochEvent():
                self._epoch(event)
            case RungEvent():
                if event.decision == "pause":
                    self._trial(event.number, event).set("SCHEDULED", Status.PAUSED.value)
            case EndEvent():
                self._end(event)
            case _:
                raise AssertionError(f"unknown event {event!r}")
        self._last_ms = _ms(event.at)

    def driver_died(self) -> None:
        """The driver is gone, whether it could say so or not: what still runs by the ledger has stopped."""
        if self._driven:
            self._stop(self._last_ms, finished=False)

    def _study(self, event: StudyEvent) -> None:
        self.ledger_id = f"{zlib.crc32(event.model_dump_json().encode()):08x}"
        self._config = event.config
        self.name = str(event.config["name"])
        tags = {f"version.{name}": version for name, version in event.versions.items()}
        tags |= {f"machine.{name}": value for name, value in event.machine.items()}
        tags |= {"level": "study", "study": self.name, "mlflow.source.name": f"study {self.name}"}
        if event.git_commit:
            tags |= {"git_commit": event.git_commit, "mlflow.source.git.commit": event.git_commit}
        if question := event.config.get("question"):
            tags["mlflow.note.content"] = str(question)
        params = {path: value for path, value in flatten(event.config).items() if path not in ("name", "question")}
        run = Run(STUDY, None, self.name, _ms(event.at), _short(tags), _texts(params))
        run.files[f"{self.name}.yaml"] = event.source
        self.runs[STUDY] = run
        run.set("RUNNING", "running")
        self._touch(run)

    def _driver(self, event: DriverEvent) -> None:
        run = self.runs[STUDY]
        match event.what:
            case "opened" | "extended":
                self.driver_died()
                self._driven = True
                run.set("RUNNING", "running")
                before = flatten(self._config)
                for path, value in flatten(event.config or {}).items():
                    if before.get(path) != value:  # a parameter never changes in MLflow, so the new value is a tag
                        run.tags[f"extended.{path}"] = shorten(as_text(value))
                self._config = event.config or self._config
            case "closed":
                self._stop(_ms(event.at), finished=event.note == "finished")
            case _:
                assert_never(event.what)
        self._touch(run)

    def _stop(self, at_ms: int, finished: bool) -> None:
        """Nothing runs from `at_ms` on. finished: nothing is left to do either."""
        self._driven = False
        for number in self._open:
            run = self.runs.get(f"trial {number}")
            if run is not None and run.end_ms is None:
                run.set("KILLED", Status.PAUSED.value if run.status == "SCHEDULED" else "stopped", at_ms)
                self._touch(run)
        for key, configuration in self._configurations.items():
            run = self.runs[key]
            if run.end_ms is None:
                if finished and configuration.statuses:
                    run.set(*_outcome(configuration.statuses), at_ms)
                else:
                    run.set("KILLED", "stopped", at_ms)
                self._touch(run)
        study = self.runs[STUDY]
        study.set(*(("FINISHED", "finished") if finished else ("KILLED", "stopped")), at_ms)
        self._touch(study)

    def _start(self, event: StartEvent) -> None:
        run = self._trial(event.number, event)
        run.set("RUNNING", Status.RUNNING.value)
        run.tags["attempts"] = str(event.attempt)
        if event.from_trial not in (None, event.number) and run.branches is None:
            run.branches = event.from_trial
            run.tags |= {"branched_from_trial": str(event.from_trial), "branched_at_epoch": str(event.from_epochs)}
        parent = self.runs[run.parent or STUDY]
        parent.set("RUNNING", Status.RUNNING.value)
        self._touch(parent)

    def _epoch(self, event: EpochEvent) -> None:
        trial, run, result = self._open[event.number], self._trial(event.number, event), event.result
        again = trial.metrics.get(result.epochs_done)
        if again is not None and again == result.metrics:
            return  # reported again after a restart: the first report's time stands
        values = {**result.metrics, "train_s": result.train_s, "eval_s": result.eval_s}
        at_ms = _ms(event.at)
        run.points += [Point(key, value, at_ms, result.epochs_done) for key, value in values.items()]
        if again is None and result.inherited:
            trial.inherited += 1
            run.tags["inherited_epochs"] = str(trial.inherited)
        trial.metrics[result.epochs_done] = result.metrics

    def _end(self, event: EndEvent) -> None:
        run, trial = self._trial(event.number, event), self._open.pop(event.number)
        at_ms = _ms(event.at)
        run.set(_ENDED[event.status], event.status.value, at_ms)
        run.tags["epochs_done"] = str(event.epochs_done)
        if event.reason:
            run.tags["reason"] = shorten(event.reason)
        for key, value in (("value", event.value), ("value_last_5", event.value_last_5)):
            if value is not None:
                run.points.append(Point(key, value, at_ms, event.epochs_done))
                run.tags[key] = repr(value)
        parent = self.runs[run.parent or STUDY]
        configuration = self._configurations[parent.key]
        configuration.statuses.append(event.status)
        if event.status is Status.COMPLETE:
            last = trial.metrics.get(event.epochs_done, {})
            for metric in ("val_recall_at_1", "test_recall_at_1"):
                if metric in last:
                    values = configuration.recalls.setdefault(metric, [])
                    values.append(last[metric])
                    parent.points += [Point(key, value, at_ms, len(values)) for key, value in summary(metric, values)]
            parent.tags["complete_seeds"] = str(configuration.statuses.count(Status.COMPLETE))
        if len(configuration.statuses) >= self._seeds(trial.event.phase):
            parent.set(*_outcome(configuration.statuses), at_ms)
        self._touch(parent)

    def _trial(self, number: int, event: Event) -> Run:
        """The run of trial `number`, made (and its configuration's) at the first event that needs it."""
        key = f"trial {number}"
        if key not in self.runs:
            trial = self._open[number].event
            parent = self._configuration(trial, event)
            tags = {**parent.tags, "level": "seed", "trial": str(number), "seed": str(trial.seed)}
            tags.pop("complete_seeds", None)
            params = {**parent.params, "seed": str(trial.seed)}
            self.runs[key] = Run(key, parent.key, f"seed {trial.seed}", _ms(event.at), tags, params)
            self.runs[key].set("RUNNING", Status.RUNNING.value)
        self._touch(self.runs[key])
        return self.runs[key]

    def _configuration(self, trial: TrialEvent, event: Event) -> Run:
        name = shorten(trial.configuration, 250)
        values = zlib.crc32(
            json.dumps(trial.values, sort_keys=True).encode()
        )  # names may agree where rounded values do
        key = f"configuration {trial.phase.value} {name} {values:08x}"
        if key not in self.runs:
            on_validation = _validates(trial.trial)
            tags = {
                "level": "configuration",
                "study": self.name,
                "configuration": name,
                "phase": trial.phase.value,
                "objective": "val_recall_at_1" if on_validation else "test_recall_at_1",
                "chosen_on": "validation" if on_validation else "test",
            }
            if trial.baseline:
                tags["baseline"] = "true"
            shown = f"{name} (confirmed)" if trial.phase is Phase.CONFIRM else name
            params = _texts({**flatten(trial.trial), **flatten(trial.values)})
            self.runs[key] = Run(key, STUDY, shown, _ms(event.at), tags, params)
            self._configurations[key] = _Configuration()
            self.runs[key].set("RUNNING", Status.RUNNING.value)
            self._touch(self.runs[key])
        return self.runs[key]

    def _seeds(self, phase: Phase) -> int:
        """How many seeds each configuration of `phase` is to run."""
        confirm = self._config.get("confirm")
        match phase:
            case Phase.PLAN:
                seeds = self._config.get("seeds")
            case Phase.CONFIRM:
                seeds = confirm.get("seeds") if isinstance(confirm, dict) else None
            case Phase.SEARCH:
                seeds = None
            case _:
                assert_never(phase)
        return len(seeds) if isinstance(seeds, list) else 1

    def _touch(self, run: Run) -> None:
        self.changed[run.key] = None


def fold_runs(events: Iterable[Event]) -> StudyRuns:
    """The runs that `events`, a whole ledger, add up to."""
    runs = StudyRuns()
    for event in events:
        runs.apply(event)
    return runs


def summary(metric: str, values: list[float]) -> list[tuple[str, float]]:
    """Mean of `values` (fractions, one per seed) and its 95 % t interval (from 2 values on), by metric name."""
    n, mean = len(values), math.fsum(values) / len(values)
    named = [(f"{metric}_mean", mean)]
    if n > 1:
        from scipy.special import stdtrit  # a tenth of a second, needed only here

        error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
        half = float(stdtrit(n - 1, 0.975)) * error
        named += [(f"{metric}_ci_low", mean - half), (f"{metric}_ci_high", mean + half)]
    return named


def shorten(text: str, limit: int = LIMIT) -> str:
    """`text`, or its beginning and a mark that says so and tells two long texts apart."""
    if len(text) <= limit:
        return text
    mark = f" [cut: {len(text)} characters, crc32 {zlib.crc32(text.encode()):08x}]"
    return text[: limit - len(mark)] + mark


def _outcome(statuses: list[Status]) -> tuple[RunStatus, str]:
    """Status and word of a configuration whose seeds ended so: complete if any is, else the mildest."""
    for status in (Status.COMPLETE, Status.PRUNED, Status.DIVERGED):
        if status in statuses:
            return _ENDED[status], status.value
    return "FAILED", Status.FAILED.value


def _validates(trial: dict[str, JsonValue]) -> bool:
    split = trial.get("split")
    return isinstance(split, dict) and bool(split.get("val_classes"))


def _texts(values: dict[str, JsonValue]) -> dict[str, str]:
    return {path: shorten(as_text(value)) for path, value in values.items()}


def _short(tags: dict[str, str]) -> dict[str, str]:
    return {key: shorten(value) for key, value in tags.items()}


def _ms(at: float) -> int:
    return round(at * 1000)
