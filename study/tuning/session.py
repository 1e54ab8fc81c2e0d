"""One driver's session on a study: lock, ledger, mirrors, Ray; from opening to the clean end."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, Self

from pydantic import JsonValue

from search_spaces.load import ConfigError
from search_spaces.study_config import StudyConfig
from search_spaces.trial_config import Compute
from study.home import Home, Options
from study.ledger.lock import OWNER_NAME, DriverLock
from study.ledger.read import LEDGER_NAME, StudyRecord, read_study
from study.ledger.write import LedgerWriter
from study.records import DriverEvent, StudyEvent
from study.stages.key import Environment
from study.stages.shelf import Shelf
from study.stages.store import StageStore
from study.stopping import on_stop
from study.tracking.mirror import Mirror
from study.tracking.mlflow_mirror import MlflowView
from study.tuning.capability import cpu_capability, gpu_count, gpu_name
from study.tuning.cluster import check_nodes, gpu_names, joined_ray
from study.tuning.driver import Driver
from study.tuning.inherited import Source
from study.tuning.inputs import require_inputs
from study.tuning.lifeline import Lifeline
from study.tuning.proposals import OptunaJournal
from study.tuning.ray_backend import run_trials
from study.tuning.ray_local import local_ray
from study.tuning.slots import slots_on
from study.tuning.verify import JOURNAL_NAME, open_journal
from study.tuning.worker import Workplace, train_job

_PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "plotly", "faiss-cpu", "numpy")
_MIRROR_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a session ended. stopped_by: the signal that ended it early, or None. mirror_error: why MLflow is behind."""

    record: StudyRecord
    stopped_by: int | None
    mirror_error: str


def changed_fields(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Dotted paths where two study files differ, without what may grow: the budget and the seeds."""
    changed = [path for path in _differences(before, after, "") if not _may_grow(path, before, after)]
    return sorted(dict.fromkeys(changed))


def _differences(before: Any, after: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif before != after:
        yield path


def _may_grow(path: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    def at(tree: Any) -> Any:
        for key in path.split("."):
            tree = tree[key]
        return tree

    match path:
        case "seeds" | "confirm.seeds":
            return set(at(before)) <= set(at(after))
        case "search.max_trials" | "search.max_hours":
            old, new = at(before), at(after)
            return new is None or (old is not None and new >= old)
        case "question" | "inherit_from" | "keep_epochs":
            return True
    return False


def run_session(
    study_config: StudyConfig,
    source: str,
    options: Options,
    *,
    resume: bool,
    watch: Callable[[Driver], None] = lambda driver: None,
    trainable: Callable[[dict[str, Any]], None] = train_job,
) -> Outcome:
    """Run a study until it is finished or a signal stops it.

    source: the study file's text. resume: go on with an unfinished study (or one whose budget grew). watch: called
    after each of the driver's decisions. trainable: as for run_trials. Raises: StudyLocked; LedgerError; ConfigError
    where the ledger holds another study, or an unfinished one and `resume` is false.
    """
    sources = _sources(study_config, options.home)
    folder = options.home.folder(study_config.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    compute = study_config.trial.compute
    resources = _own_resources(options, compute)
    with contextlib.ExitStack() as stack:
        stack.enter_context(DriverLock(folder))
        workplace = Workplace(
            data_dir=str(options.data_dir.resolve()),
            cache_dir=str(options.home.cache.resolve()),
            stages_dir=str((folder / "stages").resolve()),
            owner_file=str((folder / OWNER_NAME).resolve()),
            owner=(folder / OWNER_NAME).read_text(encoding="utf-8"),
        )
        stack.enter_context(_cluster(options.address, folder, workplace, compute))
        if not (folder / LEDGER_NAME).exists():
            require_inputs(study_config, workplace)
        ledger = stack.enter_context(LedgerWriter(folder))
        gpu = _gpu(compute, options)
        if not _open(ledger, study_config, source, gpu, options, resume=resume):
            return Outcome(ledger.record, None, "")
        environment = Environment(torch=metadata.version("torch"), cpu=cpu_capability(), gpu=gpu)
        store = StageStore(folder / "stages")
        driver = Driver(
            study_config,
            ledger,
            environment,
            Shelf(store),
            share=options.share,
            sources=sources,
        )
        with _mirrors(folder, study_config, options) as mirrors, _StopSignals(driver) as signals:

            def after_event() -> None:
                for mirror in mirrors:
                    mirror.notify()
                watch(driver)

            note = "stopped"
            try:
                own = contextlib.nullcontext() if options.address else local_ray(resources["CPU"], resources["GPU"])
                with own, Lifeline(f"go on with `{options.command('resume', study_config.name)}`") as lifeline:
                    if not driver.stopping:
                        scratch = folder.resolve() / "tune"
                        run_trials(driver, workplace, compute, scratch, lifeline, after_event, trainable)
                note = "stopped" if driver.stopping else "finished"
            finally:
                with contextlib.suppress(Exception):  # a full disk: the error under way says so
                    ledger.append(_driver_event("closed", note=note), durable=True)
            complete = [mirror.close(_MIRROR_TIMEOUT_S) for mirror in mirrors]
        error = "" if all(complete) else next((mirror.last_error for mirror in mirrors if mirror.last_error), "slow")
        return Outcome(ledger.record, signals.received[0] if signals.received else None, error)


@contextlib.contextmanager
def _cluster(address: str | None, folder: Path, workplace: Workplace, compute: Compute) -> Iterator[None]:
    """The cluster at `address`, its nodes asked before anything is recorded. None: nothing; our own Ray comes later."""
    if address is None:
        yield
        return
    with joined_ray(address):
        check_nodes(folder.resolve(), workplace, compute)
        yield


def _own_resources(options: Options, compute: Compute) -> dict[str, int]:
    """Processors and GPUs for this machine's Ray, where no cluster is joined. Raises: ConfigError if no trial fits."""
    here = gpu_count() if compute.device == "cuda" else 0
    gpus = here if options.gpus is None else min(here, options.gpus)
    resources = {"CPU": options.cpus or os.cpu_count() or 1, "GPU": gpus}
    if options.address is None and slots_on(resources, compute) == 0:
        raise ConfigError(
            f"trial.compute: a trial takes {compute.threads} CPUs and {compute.gpus:g} GPUs, and there are "
            f"{resources['CPU']} and {gpus}; change it in the study file, or give --cpus or --gpus"
        )
    return resources


def _sources(study_config: StudyConfig, home: Home) -> list[Source]:
    """The earlier studies that the file inherits from. Raises: ConfigError where one was never run."""
    sources = []
    for name in study_config.inherit_from:
        folder = home.existing(name).resolve()
        stages = folder / "stages"
        sources.append(Source(name, folder, stages, read_study(folder), frozenset(StageStore(stages).keys())))
    return sources


def _gpu(compute: Compute, options: Options) -> str:
    """The name of the GPU that trials train on, empty for a CPU."""
    if compute.device == "cpu":
        return ""
    return gpu_name() if options.address is None else " ".join(gpu_names())


def _open(
    ledger: LedgerWriter, study_config: StudyConfig, source: str, gpu: str, options: Options, *, resume: bool
) -> bool:
    """Record that a driver takes the study up; whether there is anything left to do."""
    config: dict[str, JsonValue] = study_config.model_dump(mode="json", by_alias=True)
    record = ledger.record
    name = study_config.name
    if record.study is None:
        ledger.append(
            StudyEvent(
                at=time.time(),
                config=config,
                source=source,
                versions=versions(),
                git_commit=_git_commit(),
                machine=machine() | ({"gpu": gpu} if gpu else {}),
            ),
            durable=True,
        )
        ledger.append(_driver_event("opened"), durable=True)
        return True
    before = record.config.model_dump(mode="json", by_alias=True)  # with the defaults of fields that are newer than it
    changed = changed_fields(before, config)
    if changed:
        raise ConfigError(
            f"{ledger.path}: holds a study with other {', '.join(changed)}; give the changed file another name, or "
            "undo the change"
        )
    grown = before != config
    if record.finished and not grown:
        return False
    if not resume and not record.finished and record.trials:
        raise ConfigError(f"{ledger.path}: this study is unfinished; go on with `{options.command('resume', name)}`")
    ledger.append(_driver_event("extended", config=config) if grown else _driver_event("opened"), durable=True)
    return True


def _driver_event(what: Any, *, config: dict[str, JsonValue] | None = None, note: str = "") -> DriverEvent:
    return DriverEvent(at=time.time(), what=what, host=socket.gethostname(), pid=os.getpid(), config=config, note=note)


@contextlib.contextmanager
def _mirrors(folder: Path, study_config: StudyConfig, options: Options) -> Iterator[list[Mirror]]:
    (folder / JOURNAL_NAME).unlink(missing_ok=True)
    mirrors = [Mirror(folder, OptunaJournal(open_journal(folder), study_config))]
    mirrors.append(Mirror(folder, MlflowView(options.tracking_uri, study_config.name, folder)))
    for mirror in mirrors:
        mirror.start()
    yield mirrors


class _StopSignals:
    """While entered, signals stop the driver cleanly; more of them change nothing. received: in order."""

    def __init__(self, driver: Driver) -> None:
        self.received: list[int] = []
        self._driver = driver

    def __enter__(self) -> Self:
        self._before = on_stop(self._stop)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.received.append(number)
        self._driver.stopping = True


def versions() -> dict[str, str]:
    """Releases of what shapes a result or shows it."""
    found = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "scale-study": metadata.version("scale-study"), **found}


def machine() -> dict[str, str]:
    """The machine in words."""
    return {
        "host": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _git_commit() -> str | None:
    """The commit of this software, where it runs from a checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
