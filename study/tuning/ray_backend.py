"""Ray Tune runs what the driver decides: one Tuner, actors reused, none of Tune's own records kept.

Tune asks our searcher for trials and our scheduler about each result; both only pass on to the driver.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
}
for _name, _value in _QUIET.items():
    os.environ.setdefault(_name, _value)  # ray reads them when it is imported

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402
from ray.tune.stopper import Stopper  # noqa: E402

from search_spaces.trial_config import Compute  # noqa: E402
from study.ledger.lock import lives  # noqa: E402
from study.tuning.driver import Driver  # noqa: E402
from study.tuning.worker import EndReport, EpochReport, Report, Workplace, train_job  # noqa: E402

OBJECT_STORE_BYTES = 200_000_000
_PREFIX = "study-ray-"
T = TypeVar("T")


@contextlib.contextmanager
def local_ray(cpus: int, gpus: int) -> Iterator[None]:
    """A Ray of our own on this machine, on loopback only; its files go with it."""
    _remove_stale(Path(_short_temp()))
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_short_temp())
    umask = os.umask(0o077)
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=folder,
            _node_ip_address="127.0.0.1",
        )
        yield
    finally:
        ray.shutdown()
        os.umask(umask)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(place: Path) -> None:
    """Remove the folders of drivers of ours that were killed before they could."""
    for folder in place.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and folder.stat().st_uid == os.getuid() and not lives(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _short_temp() -> str:
    # Ray's socket paths are limited to 107 bytes, and a long TMPDIR would break them.
    return tempfile.gettempdir() if len(tempfile.gettempdir()) <= 20 else "/tmp"


def run_trials(
    driver: Driver,
    workplace: Workplace,
    compute: Compute,
    scratch: Path,
    after_event: Callable[[], None],
    trainable: Callable[[dict[str, Any]], None] = train_job,
) -> None:
    """Train until the driver has nothing left or is stopping. Needs an initialized Ray.

    scratch: a folder that all nodes reach, for Tune's own files; removed at the end. after_event: called after each of
    the driver's decisions. trainable: what Ray runs for a job; a benchmark gives one that trains nothing.
    Raises: whatever the driver raises (LedgerError, say), once the workers have been let go.
    """
    desk = _Desk(driver, after_event)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(1, _slots(compute)))
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": compute.threads, "gpu": compute.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=_Searcher(desk, workplace, compute),
                scheduler=_Scheduler(desk),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch),
                verbose=0,
                stop=_Stopper(desk),
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[_Forget()],
            ),
        )
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if desk.error is not None:
        raise desk.error


def _trial_name(trial: Any) -> str:
    return str(trial.trial_id)


def _slots(compute: Compute) -> int:
    """Trials that the cluster can train at once."""
    have = ray.cluster_resources()
    by_cpu = int(have.get("CPU", 0) // compute.threads)
    return min(by_cpu, int(have.get("GPU", 0) / compute.gpus)) if compute.gpus else by_cpu


class _Desk:
    """Between Tune's calls and the driver: which Ray trial trains which of ours, and the first error in between."""

    def __init__(self, driver: Driver, after_event: Callable[[], None]) -> None:
        self.driver = driver
        self.numbers: dict[str, int] = {}
        self.error: BaseException | None = None
        self._after_event = after_event

    def call(self, action: Callable[[], T], otherwise: T) -> T:
        """`action()`; an error in it stops the study, and is raised again once Tune has let go of its workers."""
        if self.error is not None:
            return otherwise
        try:
            return action()
        except BaseException as error:
            self.error = error
            self.driver.stopping = True
            return otherwise
        finally:
            self._after_event()

    def take(self, ray_trial: str, report: Report) -> bool:
        """Pass a worker's report on; whether the trial goes on."""
        number = self.numbers.get(ray_trial)
        if number is None:
            return False
        match report:
            case EpochReport():
                return self.driver.on_epoch(number, report.result, report.arrays, stands=report.stands)
            case EndReport() if report.diverged:
                self.driver.on_diverged(number, report.diverged)
            case EndReport():
                if report.damaged:
                    self.driver.on_damaged(report.damaged)
                self.exit(ray_trial, report.error, blameless=bool(report.damaged))
        return False

    def exit(self, ray_trial: str, error: str | None, *, blameless: bool = False) -> None:
        """A Ray trial is over; only the first word of that counts."""
        number = self.numbers.pop(ray_trial, None)
        if number is not None:
            self.driver.on_exit(number, error, blameless=blameless)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        # Tune pickles searcher and scheduler into snapshots of its own, which nobody reads here.
        return object, ()


class _Searcher(Searcher):
    """Hands the driver's jobs to Tune."""

    def __init__(self, desk: _Desk, workplace: Workplace, compute: Compute) -> None:
        super().__init__()
        self._desk = desk
        self._workplace = workplace.model_dump_json()
        self._compute = compute

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        return self._desk.call(lambda: self._next(trial_id), Searcher.FINISHED)

    def _next(self, ray_trial: str) -> Any:
        if self._desk.numbers and len(self._desk.numbers) >= _slots(self._compute):
            # Tune asks ahead of free slots; a trial decided on later knows more results and more stages.
            return None
        job = self._desk.driver.next_job(ray_trial)
        if job is None:
            return None if self._desk.driver.running else Searcher.FINISHED
        self._desk.numbers[ray_trial] = job.number
        # Text, because Tune copies, flattens and encodes a trial's configuration with each of its results.
        return {"job": job.model_dump_json(), "workplace": self._workplace}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._desk.call(lambda: self._desk.exit(trial_id, "its process died" if error else None), None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds the study."""


class _Scheduler(FIFOScheduler):
    """Asks the driver about each result."""

    def __init__(self, desk: _Desk) -> None:
        super().__init__()
        self._desk = desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = self._desk.call(lambda: self._desk.take(trial.trial_id, result["report"]), False)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class _Forget(tune.Callback):
    """Keeps reports out of Tune's own record of the last results, which it encodes for snapshots that nobody reads."""

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        result.pop("report", None)


class _Stopper(Stopper):
    """Ends Tune's loop once the driver is stopping."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._desk.driver.stopping
