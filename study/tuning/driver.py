"""Who trains what, when, and who is stopped: the study's loop without Ray, clock or network.

Every event goes into the ledger before anything judges it. What a backend (Ray, or a test's made-up workers) does:
take jobs from `next_job`, train them, tell `on_epoch`, `on_diverged` and `on_exit`, and stop a trial when told to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue, ValidationError

from search_spaces.base import Count, Frozen, Index
from search_spaces.load import explain
from search_spaces.study_config import Asha, StudyConfig, Values, label_of
from search_spaces.trial_config import TrialConfig
from study.ledger.read import StudyRecord, TrialRecord
from study.ledger.write import LedgerWriter
from study.records import (
    EndEvent,
    EpochEvent,
    EpochResult,
    Event,
    Phase,
    RungEvent,
    StartEvent,
    Status,
    TrialEvent,
    value_of,
)
from study.stages.frontier import Frontier, Start
from study.stages.key import Environment, prefix_keys
from study.stages.shelf import Shelf
from study.tuning.proposals import Proposer
from study.tuning.rungs import Rungs, Verdict
from study.tuning.space import CASE, SEED, Params, point_params

MAX_ATTEMPTS = 3
"""Times that a trial is started before its crash counts as a failure."""
_MAX_HELD = 4

Arrays = Mapping[str, NDArray[np.generic]]


class Job(Frozen):
    """What a worker needs to train a trial. keys: prefix_keys of the trial; start: epochs_done to start from."""

    number: Index
    attempt: Count
    trial: dict[str, JsonValue]
    seed: Index
    keys: tuple[str, ...]
    start: Index


class Driver:
    """One study's decisions. Not safe for threads: the backend calls it from one.

    stopping: set it to end early; running trials are told to stop at their next epoch and stay unfinished.
    share: False trains every trial from its first epoch, to the same bits; for benchmarks and doubters.
    """

    def __init__(
        self,
        study_config: StudyConfig,
        ledger: LedgerWriter,
        environment: Environment,
        shelf: Shelf,
        now: Callable[[], float] = time.time,
        *,
        share: bool = True,
    ) -> None:
        self.config = study_config
        self.stopping = False
        self._ledger = ledger
        self._environment = environment
        self._shelf = shelf
        self._now = now
        self._share = share
        self._deadline = self._deadline_of(ledger.record)
        self._frontier = Frontier()
        self._configs: dict[int, TrialConfig] = {}
        self._keys: dict[int, tuple[str, ...]] = {}
        self._recorded: dict[str, int] = {}
        self._running: set[int] = set()
        self._paused: dict[str, list[int]] = {}
        search = study_config.search
        asha = search.scheduler if search is not None and isinstance(search.scheduler, Asha) else None
        self._rungs = None if asha is None else Rungs(asha, study_config.trial.epochs)
        self._proposer = Proposer(study_config, ledger.record)
        self._take_up(ledger.record.trials.values())
        if search is None:
            self._plan()

    @property
    def record(self) -> StudyRecord:
        """The study as the ledger tells it."""
        return self._ledger.record

    @property
    def running(self) -> frozenset[int]:
        """Numbers of the trials in training."""
        return frozenset(self._running)

    def next_job(self, ray_trial: str) -> Job | None:
        """A trial to train now, recorded as started and durable before this returns.

        None: with trials in training, wait for one of them; with none, the study is finished (or stopping).
        """
        while not self.stopping:
            start = self._frontier.next()
            if start is not None:
                job = self._begin(start, ray_trial)
                if job is not None:
                    return job
            elif not (self._promote() or self._propose() or (not self._running and self._settle())):
                return None
        return None

    def on_epoch(self, number: int, result: EpochResult, arrays: Arrays, *, stands: bool) -> bool:
        """Record an epoch of a trial in training; whether the trial goes on. stands: its state is in the store."""
        if number not in self._running:
            return False
        trial = self.record.trials[number]
        if result.epochs_done == trial.starts[-1].from_epochs and result.epochs_done in trial.epochs:
            # Inherited whole: its metrics are recorded, only its arrays were measured now.
            result = trial.epochs[result.epochs_done].result
        file = self._ledger.save_arrays(f"{number:05d}-{result.epochs_done:04d}", arrays) if arrays else None
        self._append(EpochEvent(at=self._now(), number=number, result=result, arrays=file))
        epochs = result.epochs_done
        if epochs == 0:
            return not self.stopping
        keys = self._keys[number]
        self._recorded[keys[epochs]] = number
        self._frontier.reached(number, epochs, stands=stands)
        if stands:
            for key in self._shelf.advance(number, epochs):
                self._frontier.lost(key)
        self._proposer.update(trial)
        if not self._judge(number, epochs, result):
            return False
        if epochs == self._configs[number].epochs:
            self._end(number, Status.COMPLETE)
            return False
        return not self.stopping

    def on_diverged(self, number: int, reason: str) -> None:
        """Training of a trial cannot go on: a value is not finite, or its scale ran away."""
        if number in self._running:
            self._end(number, Status.DIVERGED, reason)

    def on_exit(self, number: int, error: str | None, *, blameless: bool = False) -> None:
        """A worker let go of a trial. error: in words if it crashed; blameless: its node died, or it was preempted."""
        if number not in self._running:
            return
        if self.stopping:
            self._let_go(number)
            return
        trial = self.record.trials[number]
        if not blameless and len(trial.starts) >= MAX_ATTEMPTS:
            self._end(
                number, Status.FAILED, f"{error or 'its worker ended without a result'} ({len(trial.starts)} attempts)"
            )
            return
        self._let_go(number)
        self._wait(number)

    def on_damaged(self, key: str) -> None:
        """The state `key` was found damaged, and is no longer in the store."""
        self._frontier.lost(key)
        self._shelf.forget(key)

    def _take_up(self, trials: Iterable[TrialRecord]) -> None:
        """Go on from what the ledger says: results that stand, rungs, trials that wait."""
        stored = self._shelf.stored()
        waiting = []
        for trial in sorted(trials, key=lambda trial: trial.number):
            number = trial.number
            self._know(number, trial.config, trial.trial.seed)
            keys = self._keys[number]
            for epochs in trial.epochs:
                if epochs > 0:
                    self._recorded.setdefault(keys[epochs], number)
            for rung in trial.rungs:
                self._restore_rung(keys[rung.epochs_done], rung)
            if trial.end is None:
                waiting.append(number)
        for key in stored:
            if key in self._recorded:
                self._frontier.stands(key, self._recorded[key])
            else:
                self._shelf.forget(key)
        for number in waiting:
            trial = self.record.trials[number]
            if trial.status is Status.PAUSED:
                self._paused.setdefault(self._keys[number][trial.rungs[-1].epochs_done], []).append(number)
                self._shelf.hold(number, trial.rungs[-1].epochs_done)
            else:
                self._wait(number)

    def _restore_rung(self, key: str, rung: RungEvent) -> None:
        if self._rungs is not None:
            decision = "continue" if rung.decision == "resume" else rung.decision
            self._rungs.restore(key, rung.epochs_done, rung.value, Verdict(decision, rung.cutoff))

    def _know(self, number: int, config: TrialConfig, seed: int) -> None:
        self._configs[number] = config
        keys = prefix_keys(config, seed, self._environment)
        self._keys[number] = keys if self._share else tuple(f"{key}-{number}" for key in keys)
        self._shelf.expect(number, self._keys[number])

    def _wait(self, number: int) -> None:
        self._shelf.await_start(number)
        self._frontier.add(number, self._keys[number])

    def _plan(self) -> None:
        """Record every trial of a fixed plan that the ledger does not hold yet: all configurations, seed by seed."""
        known = {(trial.trial.configuration, trial.trial.seed) for trial in self.record.trials.values()}
        configurations = self.config.configurations()
        self._add(
            (Phase.PLAN, name, values, self._plan_params(name, values), seed, trial, False)
            for seed in self.config.seeds
            for name, values, trial in configurations
            if (name, seed) not in known
        )

    def _plan_params(self, name: str, values: Values) -> Params:
        params = point_params(self.config, {path: values[path] for path in self.config.vary})
        case = next(
            (case.name for case in self.config.cases if name == case.name or name.startswith(f"{case.name}, ")), None
        )
        return params if case is None else {**params, CASE: case}

    def _add(self, entries: Iterable[tuple[Phase, str, Values, Params, int, TrialConfig, bool]]) -> list[int]:
        """Make trials exist: recorded and durable in one write, then waiting."""
        number = len(self.record.trials)
        events: list[TrialEvent] = []
        for phase, name, values, params, seed, trial, baseline in entries:
            events.append(
                TrialEvent(
                    at=self._now(),
                    number=number + len(events),
                    phase=phase,
                    configuration=name,
                    values=values,
                    params=params if phase is Phase.SEARCH else {**params, SEED: seed},
                    seed=seed,
                    trial=trial.model_dump(mode="json", by_alias=True),
                    baseline=baseline,
                )
            )
            self._know(events[-1].number, trial, seed)
        if events:
            self._append(*events, durable=True)
        for event in events:
            self._wait(event.number)
        return [event.number for event in events]

    def _begin(self, start: Start, ray_trial: str) -> Job | None:
        """Start a trial; its inherited epochs are recorded and judged as if it had trained them. None: it ended so."""
        number = start.number
        trial = self.record.trials[number]
        self._running.add(number)
        self._shelf.started(number, start.epochs)
        attempt = len(trial.starts) + 1
        self._append(
            StartEvent(
                at=self._now(),
                number=number,
                attempt=attempt,
                ray_trial=ray_trial,
                from_epochs=start.epochs,
                from_trial=start.from_trial,
            ),
            durable=True,
        )
        self._proposer.update(trial)
        keys = self._keys[number]
        for epochs in range(1, start.epochs + 1):
            if epochs not in trial.epochs:
                source = self.record.trials[self._recorded[keys[epochs]]].epochs[epochs]
                result = source.result.replace(inherited=True)
                self._append(EpochEvent(at=self._now(), number=number, result=result, arrays=source.arrays))
            if not self._judge(number, epochs, trial.epochs[epochs].result):
                return None
        self._proposer.update(trial)
        if start.epochs == self._configs[number].epochs and trial.epochs[start.epochs].arrays is not None:
            self._end(number, Status.COMPLETE)
            return None
        return Job(
            number=number,
            attempt=attempt,
            trial=trial.trial.trial,
            seed=trial.trial.seed,
            keys=keys,
            start=start.epochs,
        )

    def _judge(self, number: int, epochs: int, result: EpochResult) -> bool:
        """ASHA's word on a search's trial that reached `epochs`; whether it goes on."""
        trial = self.record.trials[number]
        if self._rungs is None or trial.trial.phase is not Phase.SEARCH:
            return True
        value = result.metrics[self._configs[number].objective]
        key = self._keys[number][epochs]
        verdict = self._rungs.judge(key, epochs, value)
        if verdict is None:
            return True
        if not any(rung.epochs_done == epochs for rung in trial.rungs):
            self._append(
                RungEvent(
                    at=self._now(),
                    number=number,
                    epochs_done=epochs,
                    value=value,
                    cutoff=verdict.cutoff,
                    decision=verdict.decision,
                ),
                durable=True,
            )
        match verdict.decision:
            case "continue":
                return True
            case "stop":
                self._end(
                    number,
                    Status.PRUNED,
                    f"ASHA stopped it at epoch {epochs}: {value:.4f} is below {verdict.cutoff:.4f}",
                )
            case "pause":
                self._let_go(number)
                self._shelf.hold(number, epochs)
                self._paused.setdefault(key, []).append(number)
        return False

    def _promote(self) -> bool:
        """Let the paused state whose turn has come go on; whether there was one."""
        turn = None if self._rungs is None else self._rungs.promote()
        if turn is None:
            return False
        epochs, key = turn
        for number in self._paused.pop(key, ()):
            rung = self.record.trials[number].rungs[-1]
            self._append(rung.replace(at=self._now(), epochs_done=epochs, decision="resume"), durable=True)
            self._wait(number)
        return True

    def _propose(self) -> bool:
        """Ask the sampler for a point, within the budget; whether there is one."""
        search = self.config.search
        if search is None or self._frontier.waiting >= _MAX_HELD:
            return False
        proposals = [trial for trial in self.record.trials.values() if trial.trial.phase is Phase.SEARCH]
        failed = sum(trial.status in (Status.FAILED, Status.DIVERGED) for trial in proposals)
        if len(proposals) >= search.max_trials or failed > search.max_failures or self._proposer.exhausted:
            return False
        if self._deadline is not None and self._now() >= self._deadline:
            return False
        if search.round_size is not None and len(proposals) % search.round_size == 0:
            open_ones = [trial for trial in proposals if not trial.status.ended and trial.status is not Status.PAUSED]
            if open_ones:
                return False
        number = len(self.record.trials)
        params, values = self._proposer.propose(number)
        name = ", ".join(label_of(path, value) for path, value in params.items())
        try:
            trial, problem = self.config.trial_with(values), ""
        except ValidationError as error:
            trial, problem = self.config.trial, explain(error, TrialConfig)[0]
        measured = trial.replace(measure=trial.measure.replace(test=False))
        self._add([(Phase.SEARCH, f"{number}: {name}", values, params, search.seed, measured, False)])
        if problem:
            self._frontier.withdraw(number)
            self._end(number, Status.FAILED, f"not a valid trial: {problem}")
        return True

    def _settle(self) -> bool:
        """With nothing left to propose: end what stayed paused, confirm the winners; whether there is more to do."""
        for number in [number for numbers in self._paused.values() for number in numbers]:
            epochs = self.record.trials[number].epochs_done
            self._end(number, Status.PRUNED, f"ASHA paused it at epoch {epochs}, and its turn never came")
        self._paused.clear()
        confirm, search = self.config.confirm, self.config.search
        if confirm is None or search is None:
            return False
        known = {(trial.trial.configuration, trial.trial.seed) for trial in self.record.trials.values()}
        points: list[tuple[str, Values, Params, bool]] = [
            (case.name, dict(case.overrides), {CASE: case.name}, True) for case in confirm.baselines
        ]
        for rank, winner in enumerate(best_trials(self.record, confirm.best), start=1):
            name = f"best {rank}: {winner.trial.configuration.split(': ', 1)[1]}"
            points.append((name, winner.trial.values, winner.trial.params, False))
        return bool(
            self._add(
                (Phase.CONFIRM, name, values, params, seed, self.config.trial_with(values), baseline)
                for seed in confirm.seeds
                for name, values, params, baseline in points
                if (name, seed) not in known
            )
        )

    def _end(self, number: int, status: Status, reason: str = "") -> None:
        trial = self.record.trials[number]
        value, value_last_5 = value_of([result.metrics for result in trial.results], self._configs[number].objective)
        self._append(
            EndEvent(
                at=self._now(),
                number=number,
                status=status,
                value=value,
                value_last_5=value_last_5,
                epochs_done=trial.epochs_done,
                reason=reason,
            ),
            durable=True,
        )
        if number in self._running:
            self._let_go(number)
        self._frontier.drop(number)
        for key in self._shelf.ended(number):
            self._frontier.lost(key)
        self._proposer.update(trial)

    def _let_go(self, number: int) -> None:
        self._running.discard(number)
        self._frontier.release(number)

    def _append(self, *events: Event, durable: bool = False) -> None:
        self._ledger.append(*events, durable=durable)

    def _deadline_of(self, record: StudyRecord) -> float | None:
        search = self.config.search
        if search is None or search.max_hours is None:
            return None
        return self._now() + search.max_hours * 3600 - record.seconds_driven


def best_trials(record: StudyRecord, count: int) -> list[TrialRecord]:
    """The `count` completed proposals of highest value, best first; equal values in order of their numbers."""
    done = [
        trial
        for trial in record.trials.values()
        if trial.trial.phase is Phase.SEARCH and trial.status is Status.COMPLETE and trial.end is not None
    ]
    return sorted(done, key=lambda trial: (-(trial.end.value or 0.0) if trial.end else 0.0, trial.number))[:count]
