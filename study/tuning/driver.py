"""Who trains what, when, and who is stopped: the study's loop without Ray, clock or network.

Every event goes into the ledger before anything judges it. What a backend (Ray, or a test's made-up workers) does:
take jobs from `next_job`, train them, tell `on_epoch`, `on_diverged` and `on_exit`, and stop a trial when told to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from search_spaces.base import Count, Frozen, Index
from search_spaces.study_config import Asha, StudyConfig
from search_spaces.trial_config import TrialConfig
from study.ledger.read import StudyRecord, TrialRecord, load_arrays
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
from study.stages.key import Environment, epoch_values, prefix_keys
from study.stages.shelf import Shelf
from study.tuning.agenda import Entry, confirm_entries, may_propose, plan_entries, proposal_entry
from study.tuning.proposals import Proposer
from study.tuning.rungs import Rungs, Verdict

MAX_ATTEMPTS = 3
"""Times that a trial is started before its crash counts as a failure."""
_MAX_HELD = 4
_FOREIGN = -1

Arrays = Mapping[str, NDArray[np.generic]]


class Job(Frozen):
    """What a worker needs to train a trial. keys: prefix_keys of the trial; start: epochs_done to start from.

    start_folder: the store of the state to start from, where that is another study's. save_at: epochs_done after which
    the state must be stored; whether others are is the worker's choice.
    """

    number: Index
    attempt: Count
    trial: dict[str, JsonValue]
    seed: Index
    keys: tuple[str, ...]
    start: Index
    start_folder: str | None = None
    save_at: tuple[Count, ...] = ()


@dataclass(frozen=True)
class Source:
    """An earlier study whose kept states this one may start from. folder: of the study; stages: of its states."""

    name: str
    folder: Path
    stages: Path
    record: StudyRecord
    keys: frozenset[str]


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
        sources: Sequence[Source] = (),
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
        self._foreign: dict[str, tuple[Source, TrialRecord]] = {}
        self._running: set[int] = set()
        self._paused: dict[str, list[int]] = {}
        search = study_config.search
        asha = search.scheduler if search is not None and isinstance(search.scheduler, Asha) else None
        self._rungs = None if asha is None else Rungs(asha, study_config.trial.epochs)
        self._proposer = Proposer(study_config, ledger.record)
        for source in sources:
            self._take_over(source)
        self._take_up(ledger.record.trials.values())
        if search is None:
            self._add(plan_entries(study_config, ledger.record))

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
            freed = self._shelf.advance(number, epochs)
            if epochs == self._first_change(number):
                freed += self._shelf.linger(keys[epochs])
            for key in freed:
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
        rungs: list[tuple[float, RungEvent, str]] = []
        for trial in sorted(trials, key=lambda trial: trial.number):
            number = trial.number
            self._know(number, trial.config, trial.trial.seed)
            keys = self._keys[number]
            for epochs in trial.epochs:
                if epochs > 0:
                    self._recorded.setdefault(keys[epochs], number)
            rungs += [(rung.at, rung, keys[rung.epochs_done]) for rung in trial.rungs]
            if trial.end is None:
                waiting.append(number)
        for _, rung, key in sorted(rungs, key=lambda entry: entry[0]):
            self._restore_rung(key, rung)
        for key in stored:
            if key in self._recorded:
                self._frontier.stands(key, self._recorded[key])
            else:
                self._shelf.forget(key)
        for number in waiting:
            trial = self.record.trials[number]
            if trial.status is Status.PAUSED and not self._goes_on(number, trial.rungs[-1]):
                self._paused.setdefault(self._keys[number][trial.rungs[-1].epochs_done], []).append(number)
                self._shelf.hold(number, trial.rungs[-1].epochs_done)
            else:
                self._wait(number)
        for key in self._shelf.sweep():
            self._frontier.lost(key)

    def _goes_on(self, number: int, rung: RungEvent) -> bool:
        """Whether the state of a trial that the ledger left paused was promoted since, with a twin of it."""
        assert self._rungs is not None
        verdict = self._rungs.judge(self._keys[number][rung.epochs_done], rung.epochs_done, rung.value)
        return verdict is not None and verdict.decision == "continue"

    def _take_over(self, source: Source) -> None:
        """Let trials start from the states that an earlier study kept."""
        for trial in source.record.trials.values():
            keys = prefix_keys(trial.config, trial.trial.seed, self._environment)
            for epochs in range(1, len(keys)):
                if epochs not in trial.epochs:
                    break
                self._foreign.setdefault(keys[epochs], (source, trial))
                if keys[epochs] in source.keys:
                    self._frontier.stands(keys[epochs], _FOREIGN)

    def _restore_rung(self, key: str, rung: RungEvent) -> None:
        if self._rungs is not None:
            decision = "continue" if rung.decision == "resume" else rung.decision
            self._rungs.restore(key, rung.epochs_done, rung.value, Verdict(decision, rung.cutoff))

    def _know(self, number: int, config: TrialConfig, seed: int) -> None:
        self._configs[number] = config
        keys = prefix_keys(config, seed, self._environment)
        self._keys[number] = keys if self._share else tuple(f"{key}-{number}" for key in keys)
        self._shelf.expect(number, self._keys[number])
        self._shelf.keep.update(self._keys[number][n] for n in self.config.keep_epochs if n <= config.epochs)

    def _wait(self, number: int) -> None:
        self._shelf.await_start(number)
        self._frontier.add(number, self._keys[number])

    def _add(self, entries: Iterable[Entry]) -> list[int]:
        """Make trials exist: recorded and durable in one write, then waiting. Returns their numbers."""
        entries = list(entries)
        first = len(self.record.trials)
        events = [
            TrialEvent(
                at=self._now(),
                number=first + place,
                phase=entry.phase,
                configuration=entry.configuration,
                values=entry.values,
                params=entry.params,
                seed=entry.seed,
                trial=entry.trial.model_dump(mode="json", by_alias=True),
                baseline=entry.baseline,
            )
            for place, entry in enumerate(entries)
        ]
        if events:
            self._append(*events, durable=True)
        for event, entry in zip(events, entries, strict=True):
            self._know(event.number, entry.trial, entry.seed)
            if entry.problem:
                self._end(event.number, Status.FAILED, f"not a valid trial: {entry.problem}")
            else:
                self._wait(event.number)
        return [event.number for event in events]

    def _begin(self, start: Start, ray_trial: str) -> Job | None:
        """Start a trial; its inherited epochs are recorded and judged as if it had trained them. None: it ended so."""
        number = start.number
        trial = self.record.trials[number]
        self._running.add(number)
        self._shelf.started(number, start.epochs)
        attempt = len(trial.starts) + 1
        keys = self._keys[number]
        foreign = self._foreign[keys[start.epochs]] if start.from_trial == _FOREIGN else None
        self._append(
            StartEvent(
                at=self._now(),
                number=number,
                attempt=attempt,
                ray_trial=ray_trial,
                from_epochs=start.epochs,
                from_trial=foreign[1].number if foreign else start.from_trial,
                from_study=foreign[0].name if foreign else "",
            ),
            durable=True,
        )
        self._proposer.update(trial)
        for epochs in range(1, start.epochs + 1):
            if epochs not in trial.epochs:
                self._append(self._inherited(number, epochs))
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
            start_folder=str(foreign[0].stages) if foreign else None,
            save_at=self._save_at(number),
        )

    def _inherited(self, number: int, epochs: int) -> EpochEvent:
        """An epoch that another trial has recorded, as trial `number`'s."""
        key = self._keys[number][epochs]
        if key in self._recorded:
            epoch = self.record.trials[self._recorded[key]].epochs[epochs]
            arrays = epoch.arrays
        else:
            source, trial = self._foreign[key]
            epoch = trial.epochs[epochs]
            arrays = epoch.arrays and self._ledger.save_arrays(
                f"{number:05d}-{epochs:04d}", load_arrays(source.folder, epoch.arrays)
            )
        return EpochEvent(at=self._now(), number=number, result=epoch.result.replace(inherited=True), arrays=arrays)

    def _save_at(self, number: int) -> tuple[int, ...]:
        """epochs_done at which trial `number` may be branched from, by others or by itself after a pause."""
        last = self._configs[number].epochs
        wanted = {last, *self._shelf.branch_points(number), *self.config.keep_epochs, self._first_change(number)}
        wanted.update(() if self._rungs is None else self._rungs.milestones)
        return tuple(sorted(epochs for epochs in wanted if 0 < epochs <= last))

    def _first_change(self, number: int) -> int:
        """epochs_done up to which the schedules of a proposal stay as they begin: where later proposals may branch."""
        if self.record.trials[number].trial.phase is not Phase.SEARCH:
            return 0
        values = list(epoch_values(self._configs[number]))
        return next((epochs for epochs, value in enumerate(values) if value != values[0]), len(values))

    def _judge(self, number: int, epochs: int, result: EpochResult) -> bool:
        """ASHA's word on a search's trial that reached `epochs`; whether it goes on."""
        trial = self.record.trials[number]
        if self._rungs is None or trial.trial.phase is not Phase.SEARCH or epochs == self._configs[number].epochs:
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

    def _promote(self, *, last: bool = False) -> bool:
        """Let the paused state whose turn has come go on; whether there was one. last: nothing more will come."""
        turn = None if self._rungs is None else self._rungs.promote(last=last)
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
        if self._frontier.waiting >= _MAX_HELD or self._proposer.exhausted:
            return False
        if self._deadline is not None and self._now() >= self._deadline:
            return False
        if not may_propose(self.config, self.record):
            return False
        number = len(self.record.trials)
        self._add([proposal_entry(self.config, number, *self._proposer.propose(number))])
        return True

    def _settle(self) -> bool:
        """With nothing left to propose: end what stayed paused, confirm the winners; whether there is more to do."""
        if self._paused and self._promote(last=True):
            return True
        for number in [number for numbers in self._paused.values() for number in numbers]:
            epochs = self.record.trials[number].epochs_done
            self._end(number, Status.PRUNED, f"ASHA paused it at epoch {epochs}, and its turn never came")
        self._paused.clear()
        return bool(self._add(confirm_entries(self.config, self.record)))

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
        if status is Status.COMPLETE and trial.trial.phase is Phase.CONFIRM and not trial.trial.baseline:
            self._shelf.keep_weights(number)
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
