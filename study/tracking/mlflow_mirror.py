"""MLflow as a view of the ledger: kept up to date while a study runs, built anew by sync, judged by verify.

A study run holds configuration runs, which hold a run per seed. Every run carries the tags `ledger` (which ledger it
tells) and `ledger_run` (which run of it), by which it is found again, so that building the view twice changes nothing.
A run that holds what the ledger does not (a crash may cost the ledger its last lines) is deleted and made anew, since
MLflow forgets no metric. A study that stopped unfinished, and what ran in it, is KILLED with the tag status=stopped
until it is resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from study.ledger.read import LEDGER_NAME, LedgerError, StudyRecord, read_events
from study.records import Event, StudyEvent
from study.tracking.mirror import StartAgain
from study.tracking.mlflow_runs import STUDY, Point, Run, StudyRuns, fold_runs
from study.tracking.mlflow_store import (
    TrackingError,
    artifact_root,
    check_uri,
    client,
    has_tables,
    mlflow_errors,
    prepare,
    shown,
    sqlite_path,
)

__all__ = ["Counts", "MlflowView", "TrackingError", "check_uri", "log_artifact", "prepare", "sync", "verify"]

REPORT_NAME = "report.html"
_BATCH = (800, 100, 100)  # metrics, parameters, tags in one call: MLflow takes 1,000 things, 100 of the latter two


@dataclass
class Counts:
    """What was written. removed: runs that the ledger does not know, or that held more than it."""

    runs_created: int = 0
    runs_removed: int = 0
    metrics_logged: int = 0


@dataclass
class _Held:
    """What MLflow holds of a run. latest: newest point per metric of a run found there; None once it was compared."""

    run_id: str
    status: str = "RUNNING"
    end_ms: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    latest: dict[str, Point] | None = None


class MlflowView:
    """The MLflow view of the ledger in `folder`, in the experiment `study_name`. MLflow is met at the first `apply`."""

    name = "MLflow"

    def __init__(self, tracking_uri: str, study_name: str, folder: Path) -> None:
        self.uri, self.study_name, self.folder = tracking_uri, study_name, folder
        self.counts = Counts()
        self._forget()

    def _forget(self) -> None:
        self._runs = StudyRuns()
        self._folded = 0
        self._client: Any = None
        self._experiment = ""
        self._held: dict[str, _Held] = {}
        self._swept = False  # whether what was there beyond the ledger is gone

    def apply(self, record: StudyRecord, events: Sequence[Event]) -> None:
        """Take in `events` as mirror.View says. Raises: TrackingError, StartAgain."""
        self.fold(events[self._folded :])
        self.write()
        self._folded = 0

    def fold(self, events: Sequence[Event], *, driver_lives: bool = True) -> None:
        """Note what `events` say, for the next `write`. driver_lives: False if they are all and nobody adds to them."""
        for event in events:
            self._runs.apply(event)
            self._folded += 1
        if not driver_lives:
            self._runs.driver_died()

    def write(self) -> None:
        """Bring MLflow to what the ledger says so far. Raises: TrackingError, StartAgain."""
        if STUDY not in self._runs.runs:
            return
        try:
            with mlflow_errors(self.uri):
                self._write()
        except TrackingError as error:
            if self._lost(error):
                self._forget()
                raise StartAgain(f"{error}; building it anew") from error
            raise

    def _write(self) -> None:
        if self._client is None:
            self._connect()
        for key in list(self._runs.changed):
            self._bring(self._runs.runs[key])
            del self._runs.changed[key]
        if not self._swept:
            for key in [key for key in self._held if key not in self._runs.runs]:
                self._remove(self._held.pop(key).run_id)
        self._keep_files(self._runs.runs[STUDY])
        self._swept = True

    def _keep_files(self, run: Run) -> None:
        """Log the study file and an earlier report; last, so that a broken artifact store costs nothing else."""
        run_id, report = self._held[run.key].run_id, self.folder / REPORT_NAME
        if run.files:
            there = {file.path for file in self._client.list_artifacts(run_id)}
            for name in [name for name in run.files if name not in there]:
                self._client.log_text(run_id, run.files[name], name)
            run.files = {}
        if not self._swept and report.exists():
            self._client.log_artifact(run_id, str(report))

    def _moved(self, location: str, place: str) -> bool:
        """Whether our own sqlite file was moved since it said that artifacts go to `location`."""
        ours = sqlite_path(self.uri) is not None and location.startswith("file:")
        return ours and location != place and location.endswith(f"/mlartifacts/{self.study_name}")

    def _connect(self) -> None:
        """Find or make the experiment, and the runs that an earlier view of this ledger left in it."""
        prepare(self.uri)
        mlflow = client(self.uri)
        experiment = mlflow.get_experiment_by_name(self.study_name)
        place = (artifact_root(sqlite_path(self.uri) or self.folder) / self.study_name).as_uri()
        if experiment is not None and self._moved(experiment.artifact_location, place):
            # MLflow cannot change where artifacts go, so the view is built anew here; the old one lies in its trash.
            mlflow.rename_experiment(experiment.experiment_id, f"{self.study_name}, before {experiment.experiment_id}")
            mlflow.delete_experiment(experiment.experiment_id)
            experiment = None
        if experiment is None:
            # A server says itself where artifacts go. MLflow's default for a database is the working folder.
            at_server = self.uri.startswith("http")
            self._experiment = mlflow.create_experiment(self.study_name, artifact_location=None if at_server else place)
        else:
            self._experiment = experiment.experiment_id
            if experiment.lifecycle_stage == "deleted":
                mlflow.restore_experiment(self._experiment)
        self._held = {}
        for run in find_runs(mlflow, self._experiment, self._runs.ledger_id):
            key = run.data.tags.get("ledger_run", "")
            held = _Held(
                run.info.run_id,
                run.info.status,
                run.info.end_time,
                dict(run.data.tags),
                dict(run.data.params),
                _latest(run),
            )
            if key in self._held:
                mlflow.delete_run(held.run_id)  # a create_run whose answer was lost and that was asked again
                self.counts.runs_removed += 1
            else:
                self._held[key] = held
        self._client = mlflow

    def _bring(self, run: Run) -> _Held:
        """Make MLflow hold `run`."""
        points = run.points
        held = self._held.get(run.key)
        if held is not None and held.latest is not None:
            missing = self._missing(run, held, held.latest)
            if missing is None:
                self._remove(self._held.pop(run.key).run_id)
                held = None
            else:
                points, held.latest = missing, None
        if held is None:
            held = self._create(run)
        tags = {key: value for key, value in self._tags(run).items() if held.tags.get(key) != value}
        params = {key: value for key, value in run.params.items() if key not in held.params}
        self._log(held.run_id, params, points, tags)
        held.tags |= tags
        held.params = run.params  # the same mapping: there are thousands of runs
        run.points = []
        self.counts.metrics_logged += len(points)
        if run.end_ms is not None and (held.status, held.end_ms) != (run.status, run.end_ms):
            self._client.set_terminated(held.run_id, run.status, run.end_ms)
        elif run.end_ms is None and held.status != run.status:
            self._client.update_run(held.run_id, status=run.status)
        held.status, held.end_ms = run.status, run.end_ms
        return held

    def _create(self, run: Run) -> _Held:
        tags = self._tags(run)
        made = self._client.create_run(self._experiment, start_time=run.start_ms, tags=tags, run_name=run.name)
        held = _Held(made.info.run_id, tags=tags)
        self._held[run.key] = held
        self.counts.runs_created += 1
        return held

    def _missing(self, run: Run, held: _Held, latest: dict[str, Point]) -> list[Point] | None:
        """The points of `run` that MLflow lacks; None where it holds a value that the ledger does not.

        Points are logged in order, so a run whose newest points are the ledger's newest holds all of them.
        """
        if any(held.params.get(key, value) != value for key, value in run.params.items()):
            return None
        if latest == {point.key: point for point in sorted(run.points, key=_age)}:
            return []
        there = history(self._client, held.run_id, latest)
        return None if there - set(run.points) else [point for point in run.points if point not in there]

    def _tags(self, run: Run) -> dict[str, str]:
        tags = {**run.tags, "ledger": self._runs.ledger_id, "ledger_run": run.key}
        if run.parent is not None:
            parent = self._held.get(run.parent) or self._bring(self._runs.runs[run.parent])
            tags["mlflow.parentRunId"] = parent.run_id
        if run.branches is not None:
            origin, epoch = self._runs.runs.get(f"trial {run.branches}"), run.tags["branched_at_epoch"]
            held = origin and self._held.get(origin.key)
            if origin and held:
                name = f"{origin.tags['configuration']}, {origin.name}"
                tags["branched_from_run"] = held.run_id
                tags["mlflow.note.content"] = (
                    f"Its first {epoch} epochs were trained by "
                    f"[{name}](#/experiments/{self._experiment}/runs/{held.run_id})."
                )
        return tags

    def _log(self, run_id: str, params: dict[str, str], points: Sequence[Point], tags: dict[str, str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        for some in zip_longest(
            *(_cut(list(all_), size) for all_, size in zip((points, params, tags), _BATCH, strict=True))
        ):
            some_points, some_params, some_tags = (part or [] for part in some)
            self._client.log_batch(
                run_id,
                metrics=[Metric(point.key, point.value, point.at_ms, point.step) for point in some_points],
                params=[Param(name, params[name]) for name in some_params],
                tags=[RunTag(name, tags[name]) for name in some_tags],
            )

    def _remove(self, run_id: str) -> None:
        self._client.delete_run(run_id)
        self.counts.runs_removed += 1

    def _lost(self, error: TrackingError) -> bool:
        """Whether MLflow no longer holds what this view wrote: its database, experiment or a run was deleted."""
        if self._client is None:
            return False
        path = sqlite_path(self.uri)
        if path is not None and not has_tables(path):
            return True
        code, text = getattr(error.__cause__, "error_code", ""), str(error)
        return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "'active' state" in text)


def sync(folder: Path, uri: str, *, driver_lives: bool = False) -> Counts:
    """Build MLflow's view of the study in `folder`, in the foreground; twice changes nothing. What was written.

    driver_lives: a driver runs the study now, so that what has not ended is running. Hold the study's DriverLock
    otherwise, as a driver's own view and this one would make each run twice.
    Raises: LedgerError, ConfigError, TrackingError.
    """
    prepare(uri)
    events = _events(folder)
    view = MlflowView(uri, _name(events), folder)
    view.fold(events, driver_lives=driver_lives)
    try:
        view.write()
    except StartAgain as error:
        raise TrackingError(f"{error}: somebody deletes what sync writes; run it again") from error
    return view.counts


def verify(folder: Path, uri: str, *, driver_lives: bool = False) -> list[str]:
    """Where MLflow differs from the ledger in `folder`, a line each; empty if nowhere. Reads every metric's history.

    driver_lives: as for sync. Raises: LedgerError, ConfigError, TrackingError.
    """
    runs = fold_runs(_events(folder))
    if not driver_lives:
        runs.driver_died()
    mlflow = client(uri)
    with mlflow_errors(uri):
        experiment = mlflow.get_experiment_by_name(runs.name)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            return [f"MLflow has no experiment {runs.name}"]
        there: dict[str, list[Any]] = {}
        for run in find_runs(mlflow, experiment.experiment_id, runs.ledger_id):
            there.setdefault(run.data.tags.get("ledger_run", ""), []).append(run)
        lines = [
            f"{key or 'a run without a name'}: the ledger does not know it" for key in there if key not in runs.runs
        ]
        for key, run in runs.runs.items():
            found = there.get(key, [])
            if len(found) != 1:
                lines.append(f"{_words(run)}: MLflow has {len(found) or 'no'} such run{'s' if found else ''}")
            else:
                lines += [f"{_words(run)}: {line}" for line in _differences(mlflow, run, found[0], there)]
    return lines


def _differences(mlflow: Any, run: Run, found: Any, there: dict[str, list[Any]]) -> Iterator[str]:
    if (found.info.status, found.info.end_time if run.end_ms else None) != (run.status, run.end_ms):
        yield f"MLflow says {found.info.status} until {found.info.end_time}, the ledger {run.status} until {run.end_ms}"
    parents = [parent.info.run_id for parent in there.get(run.parent or "", [])]
    if run.parent and found.data.tags.get("mlflow.parentRunId") not in parents:
        yield "it does not hang below its parent"
    for kind, wanted, held in (("tag", run.tags, found.data.tags), ("parameter", run.params, found.data.params)):
        for name, value in wanted.items():
            if held.get(name) != value:
                yield f"{kind} {name} is {held.get(name)!r}, by the ledger {value!r}"
    wanted_points, held_points = set(run.points), history(mlflow, found.info.run_id, found.data.metrics)
    for point in sorted(wanted_points - held_points):
        others = [other.value for other in held_points if (other.key, other.step) == (point.key, point.step)]
        yield f"{point.key} at step {point.step} is {others or 'missing'}, by the ledger {point.value}"
    surplus = {(point.key, point.step) for point in held_points - wanted_points}
    for key, step in sorted(surplus - {(point.key, point.step) for point in wanted_points - held_points}):
        yield f"{key} at step {step} holds a value that the ledger does not"


def find_runs(mlflow: Any, experiment_id: str, ledger_id: str) -> Iterator[Any]:
    """The experiment's runs that tell the ledger `ledger_id`."""
    token = None
    while True:
        page = mlflow.search_runs([experiment_id], f"tags.ledger = '{ledger_id}'", max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def history(mlflow: Any, run_id: str, keys: Iterable[str]) -> set[Point]:
    """Every point that MLflow holds of a run's metrics `keys`."""
    return {
        Point(metric.key, metric.value, metric.timestamp, metric.step)
        for key in keys
        for metric in mlflow.get_metric_history(run_id, key)
    }


def _latest(run: Any) -> dict[str, Point]:
    """The newest point of each metric of an MLflow run."""
    return {
        metric.key: Point(metric.key, metric.value, metric.timestamp, metric.step)
        for metric in run.to_proto().data.metrics
    }


def _age(point: Point) -> tuple[int, int, float]:
    """What MLflow orders points by to find the newest."""
    return point.step, point.at_ms, point.value


def log_artifact(uri: str, study_name: str, path: Path) -> None:
    """Keep the file at `path` with the study's run, the newest of that name.

    Raises: ConfigError, TrackingError, also where MLflow does not hold the study yet.
    """
    mlflow = client(uri)
    with mlflow_errors(uri):
        experiment = mlflow.get_experiment_by_name(study_name)
        found = experiment and mlflow.search_runs(
            [experiment.experiment_id],
            f"tags.ledger_run = '{STUDY}'",
            max_results=1,
            order_by=["attributes.start_time DESC"],
        )
        if not found:
            raise TrackingError(f"MLflow at {shown(uri)} has no run of study {study_name}; sync it first")
        mlflow.log_artifact(found[0].info.run_id, str(path))


def _name(events: Sequence[Event]) -> str:
    first = events[0]
    return str(first.config["name"]) if isinstance(first, StudyEvent) else ""


def _events(folder: Path) -> list[Event]:
    events = list(read_events(folder / LEDGER_NAME))
    if not events:
        raise LedgerError(f"{folder / LEDGER_NAME}: empty; remove the folder and run the study file again")
    return events


def _words(run: Run) -> str:
    """What a person calls `run`."""
    if run.parent is None:
        return f"study {run.name}"
    number = run.tags.get("trial")
    return f"trial {number} ({run.tags['configuration']}, {run.name})" if number else f"configuration {run.name}"


def _cut(values: list[Any], size: int) -> list[list[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
