"""Ray Tune runs what the driver decides: one Tuner, actors reused, none of Tune's own records kept.

Tune asks our searcher for trials and our scheduler about each result; both only pass on to the driver.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from search_spaces.load import ConfigError
from search_spaces.trial_config import Compute
from study.tuning.deaths import a_node_is_gone, death_of
from study.tuning.driver import Driver
from study.tuning.lifeline import Lifeline
from study.tuning.slots import Slots, slots
from study.tuning.worker import EndReport, EpochReport, Report, Workplace, train_job

T = TypeVar("T")


def run_trials(
    driver: Driver,
    workplace: Workplace,
    compute: Compute,
    scratch: Path,
    lifeline: Lifeline,
    after_event: Callable[[], None],
    trainable: Callable[[dict[str, Any]], None] = train_job,
) -> None:
    """Train until the driver has nothing left or is stopping. Needs an initialized Ray.

    scratch: a folder that all nodes reach, for Tune's own files; removed at the end. lifeline: watches Ray.
    after_event: called after each of the driver's decisions. trainable: what Ray runs for a job; a benchmark gives one
    that trains nothing.
    Raises: whatever the driver raises (LedgerError, say), ConfigError for what no trial can do here (data that are
    missing, a disk that is full) and for Ray's own death, all once the workers have been let go.
    """
    desk = _Desk(driver, lifeline, after_event)
    # Tune takes snapshots that nobody reads; where it cannot (it removed a file itself, the disk is full) it prints a
    # traceback. What it says of trials the driver says better.
    for name in ("ray.tune.execution.experiment_state", "ray.tune.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(1, slots(compute)))
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


class _Desk:
    """Between Tune's calls and the driver: which Ray trial trains which of ours, and the first error in between."""

    def __init__(self, driver: Driver, lifeline: Lifeline, after_event: Callable[[], None]) -> None:
        self.driver = driver
        self.lifeline = lifeline
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
            self.fail(error)
            return otherwise
        finally:
            self._after_event()

    def fail(self, error: BaseException) -> None:
        """Stop the study with `error`."""
        self.error, self.driver.stopping = error, True

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
            case EndReport() if report.obstacle:
                raise ConfigError(f"{report.obstacle}, then resume the study")
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
        self._slots = Slots(compute)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        return self._desk.call(lambda: self._next(trial_id), Searcher.FINISHED)

    def _next(self, ray_trial: str) -> Any:
        if self._desk.numbers and len(self._desk.numbers) >= self._slots.count():
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

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        # Before the searcher hears of it, which is told no more than that there was an error.
        words, blameless = death_of(_error_of(trial), a_node_is_gone)
        self._desk.call(lambda: self._desk.exit(trial.trial_id, words, blameless=blameless), None)


def _error_of(trial: Any) -> BaseException | None:
    """What Ray raised for a Tune trial; Tune has just written it to a file of its own on this machine.

    It pickles the death of an actor; of others, Ray's OutOfMemoryError among them, it writes only the words.
    """
    pickled, words = trial.pickled_error_file, trial.error_file
    if pickled is not None and Path(pickled).exists():
        error = pickle.loads(Path(pickled).read_bytes())
        return error if isinstance(error, BaseException) else None
    if words is not None and Path(words).exists():
        return RuntimeError(Path(words).read_text(encoding="utf-8"))
    return None


class _Forget(tune.Callback):
    """Keeps reports out of Tune's own record of the last results, which it encodes for snapshots that nobody reads."""

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        result.pop("report", None)


class _Stopper(Stopper):
    """Ends Tune's loop once the driver is stopping, or where Ray itself has died."""

    def __init__(self, desk: _Desk) -> None:
        self._desk = desk

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if dead := self._desk.lifeline.dead:
            self._desk.fail(ConfigError(dead))
        return self._desk.driver.stopping
