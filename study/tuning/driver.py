"""Who trains what, when, and who is stopped: the study's loop without Ray, clock or network.

Every event goes into the ledger before anything judges it. What a backend (Ray, or a test's made-up workers) does:
take jobs from `next_job`, train them, tell `on_epoch`, `on_diverged` and `on_exit`, and stop a trial when told to.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from search_spaces.study_config import StudyConfig
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
    value_of,
)
from study.stages.frontier import Frontier, Start
from study.stages.key import Environment, prefix_keys, steady_epochs
from study.stages.shelf import Shelf
from study.tuning.agenda import Agenda, Entry, confirm_entries, half_end, plan_entries
from study.tuning.halving import Halving, stopped_words
from study.tuning.inherited import Inherited, Source
from study.tuning.job import Arrays, Job
from study.tuning.rungs import Verdict
from study.uncollected import uncollected

MAX_ATTEMPTS = 3
"""Crashes of a trial under one driver that count as its failure."""
_FOREIGN = -1


class Driver:
    """One study's decisions. Not safe for threads: the backend calls it from one.

    stopping: set it to end early; running trials are told to stop at their next epoch and stay unfinished.
    share: False trains every trial from its first epoch, to the same bits; for benchmarks and doubters.
    """

    @uncollected()
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
        self._frontier = Frontier()
        self._configs: dict[int, TrialConfig] = {}
        self._keys: dict[int, tuple[str, ...]] = {}
        self._crashes: Counter[int] = Counter()
        self._running: set[int] = set()
        search = study_config.search
        self._halving = Halving(search, study_config.trial.epochs)
        self._agenda = Agenda(study_config, ledger.record, now)
        self._inherited = Inherited(ledger)
        for source in sources:
            for key in self._inherited.take_over(source, environment):
                self._frontier.stands(key, _FOREIGN)
        self._take_up()
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
            elif (self._agenda.strict and self._running) or not (
                self._decide() or self._propose() or (not self._running and self._settle())
            ):
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
        # Durable where the state stands: it makes an earlier one superfluous, which must not go before this is certain.
        self._append(EpochEvent(at=self._at(), number=number, result=result, arrays=file), durable=stands)
        epochs = result.epochs_done
        if epochs == 0:
            return not self.stopping
        keys = self._keys[number]
        self._inherited.know(keys[epochs], number)
        self._frontier.reached(number, epochs, stands=stands)
        if stands:
            freed = self._shelf.advance(number, epochs)
            if epochs == self._first_change(number):
                freed += self._shelf.linger(keys[epochs])
            for key in freed:
                self._frontier.lost(key)
        self._agenda.hear(trial)
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
        self._crashes[number] += not blameless
        if self._crashes[number] >= MAX_ATTEMPTS:
            words = error or "its worker ended without a result"
            self._end(number, Status.FAILED, f"{words} ({MAX_ATTEMPTS} attempts)")
            return
        self._let_go(number)
        self._wait(number)

    def on_damaged(self, key: str) -> None:
        """The state `key` was found damaged, and is no longer in the store."""
        self._frontier.lost(key)
        self._shelf.forget(key)

    def _take_up(self) -> None:
        """Go on from what the ledger says: results that stand, rungs, trials that wait, what was written half."""
        stored, deciding = self._shelf.stored(), self.record.deciding
        rungs: list[tuple[float, int, str, RungEvent]] = []
        trials = [trial for _, trial in sorted(self.record.trials.items())]
        for trial in trials:
            keys = self._know(trial.number, trial.config, trial.trial.seed, ended=trial.end is not None)
            for epochs in trial.epochs:
                if epochs > 0:
                    self._inherited.know(keys[epochs], trial.number)
            rungs += [(rung.at, trial.number, keys[rung.epochs_done], rung) for rung in trial.rungs]
        for _, number, key, rung in sorted(rungs, key=lambda entry: entry[0]):
            self._halving.restore(number, key, rung)
        for key in stored:
            trained_by = self._inherited.trained_by(key)
            if trained_by is None:
                self._shelf.forget(key)
            else:
                self._frontier.stands(key, trained_by)
        waiting = [trial for trial in trials if trial.end is None]
        half_ended = {trial.number: end for trial in waiting if (end := half_end(self.config, trial))}
        for trial in waiting:
            if trial.number not in half_ended:
                self._take_back(trial)
        for key in self._shelf.sweep():
            self._frontier.lost(key)
        self._add(self._agenda.rest_of_round())
        if self._agenda.strict and deciding is not None and self._halving.undecided(deciding):
            self._decide()  # nobody has started since: the same decision again, and what of it was not written
        for number, (status, reason) in half_ended.items():
            self._end(number, status, reason)

    def _take_back(self, trial: TrialRecord) -> None:
        """Let a trial that did not end wait as it waited: at a rung, or for a start."""
        number = trial.number
        if trial.status is Status.PAUSED:
            rung = trial.rungs[-1]
            key = self._keys[number][rung.epochs_done]
            verdict = self._halving.judge(number, key, rung.epochs_done, rung.value)
            if verdict is None or verdict.decision == "pause":
                self._halving.wait(number, key)
                self._shelf.hold(number, rung.epochs_done)
                return
            # Its twin's turn was written, its own was not.
            self._append(self._turn(number, verdict), durable=True)
            if verdict.decision == "stop":
                self._end(number, Status.PRUNED, stopped_words(trial.rungs[-1]))
                return
        self._wait(number)

    def _know(self, number: int, config: TrialConfig, seed: int, *, ended: bool = False) -> tuple[str, ...]:
        """The keys of a trial's states. Of one that ended nothing else is kept: there are thousands of them."""
        keys = prefix_keys(config, seed, self._environment)
        if not self._share:
            keys = tuple(f"{key}-{number}" for key in keys)
        self._shelf.keep.update(keys[n] for n in self.config.keep_epochs if n <= config.epochs)
        if not ended:
            self._configs[number], self._keys[number] = config, keys
            self._shelf.expect(number, keys)
        return keys

    def _wait(self, number: int) -> None:
        self._shelf.await_start(number)
        self._frontier.add(number, self._keys[number])

    def _add(self, entries: Iterable[Entry]) -> bool:
        """Make trials exist: recorded and durable in one write, then waiting; whether there were any."""
        entries, first, at = list(entries), len(self.record.trials), self._at()
        events = [entry.event(number, at) for number, entry in enumerate(entries, start=first)]
        if events:
            self._append(*events, durable=True)
        for event, entry in zip(events, entries, strict=True):
            self._know(event.number, entry.trial, entry.seed)
            if entry.problem:
                self._end(event.number, Status.FAILED, entry.problem)
            else:
                self._wait(event.number)
        return bool(events)

    def _begin(self, start: Start, ray_trial: str) -> Job | None:
        """Start a trial; its inherited epochs are recorded and judged as if it had trained them. None: it ended so."""
        number = start.number
        trial = self.record.trials[number]
        self._running.add(number)
        self._shelf.started(number, start.epochs)
        attempt = len(trial.starts) + 1
        keys = self._keys[number]
        foreign = self._inherited.origin(keys[start.epochs]) if start.from_trial == _FOREIGN else None
        self._append(
            StartEvent(
                at=self._at(),
                number=number,
                attempt=attempt,
                ray_trial=ray_trial,
                from_epochs=start.epochs,
                from_trial=foreign[1].number if foreign else start.from_trial,
                from_study=foreign[0].name if foreign else "",
            ),
            durable=True,
        )
        self._agenda.hear(trial)
        for epochs in range(1, start.epochs + 1):
            if epochs not in trial.epochs:
                self._append(self._inherited.epoch(number, keys, epochs, self._at()))
            if not self._judge(number, epochs, trial.epochs[epochs].result):
                return None
        self._agenda.hear(trial)
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

    def _save_at(self, number: int) -> tuple[int, ...]:
        """epochs_done at which trial `number` may be branched from, by others or by itself after a pause."""
        last = self._configs[number].epochs
        wanted = {last, *self._shelf.branch_points(number), *self.config.keep_epochs, self._first_change(number)}
        wanted.update(self._halving.milestones)
        return tuple(sorted(epochs for epochs in wanted if 0 < epochs <= last))

    def _first_change(self, number: int) -> int:
        """epochs_done up to which the schedules of a proposal stay as they begin: where later proposals may branch."""
        proposed = self.record.trials[number].trial.phase is Phase.SEARCH
        return steady_epochs(self._configs[number]) if proposed else 0

    def _judge(self, number: int, epochs: int, result: EpochResult) -> bool:
        """ASHA's word on a search's trial that reached `epochs`; whether it goes on."""
        trial = self.record.trials[number]
        if trial.trial.phase is not Phase.SEARCH or epochs == self._configs[number].epochs:
            return True
        value = result.metrics[self._configs[number].objective]
        key = self._keys[number][epochs]
        verdict = self._halving.judge(number, key, epochs, value)
        if verdict is None:
            return True
        rung = RungEvent(
            at=self._at(),
            number=number,
            epochs_done=epochs,
            value=value,
            cutoff=verdict.cutoff,
            decision=verdict.decision,
        )
        if not any(known.epochs_done == epochs for known in trial.rungs):
            self._append(rung, durable=True)
        match verdict.decision:
            case "continue":
                return True
            case "stop":
                self._end(number, Status.PRUNED, stopped_words(rung))
            case "pause":
                self._let_go(number)
                self._shelf.hold(number, epochs)
                self._halving.wait(number, key)
        return False

    def _decide(self, *, last: bool = False) -> bool:
        """Decide on trials that wait at rungs, as far as their turn has come; whether there was one.

        last: nothing more will come.
        """
        events = [self._turn(number, verdict) for number, verdict in self._halving.turns(last=last)]
        if events:
            self._append(*events, durable=True)
        for event in events:
            if event.decision == "stop":
                self._end(event.number, Status.PRUNED, stopped_words(event))
            else:
                self._wait(event.number)
        return bool(events)

    def _turn(self, number: int, verdict: Verdict) -> RungEvent:
        """The line that says that a trial waits at a rung no longer."""
        rung = self.record.trials[number].rungs[-1]
        cutoff = verdict.cutoff if self._agenda.strict else rung.cutoff
        decision = "stop" if verdict.decision == "stop" else "resume"
        return rung.replace(at=self._at(), cutoff=cutoff, decision=decision)

    def _propose(self) -> bool:
        return self._add(self._agenda.proposals(self._frontier.waiting))

    def _settle(self) -> bool:
        """With nothing left to propose: end what stayed paused, confirm the winners; whether there is more to do."""
        if self._halving.waiting and self._decide(last=True):
            return True
        for number in self._halving.give_up():
            epochs = self.record.trials[number].epochs_done
            self._end(number, Status.PRUNED, f"ASHA paused it at epoch {epochs}, and its turn never came")
        return self._add(confirm_entries(self.config, self.record))

    def _end(self, number: int, status: Status, reason: str = "") -> None:
        trial = self.record.trials[number]
        if status is Status.COMPLETE and trial.trial.phase is Phase.CONFIRM and not trial.trial.baseline:
            self._shelf.keep_weights(
                number
            )  # before the end is on record: a resume asks no ended trial for its weights
        value, value_last_5 = value_of([result.metrics for result in trial.results], self._configs[number].objective)
        self._append(
            EndEvent(
                at=self._at(),
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
        self._agenda.hear(trial)
        del self._configs[number], self._keys[number]

    def _let_go(self, number: int) -> None:
        self._running.discard(number)
        self._frontier.release(number)

    def _at(self) -> float:
        """The time, later than all of the ledger's even where the clock was set back: replay goes by it."""
        return max(self._now(), math.nextafter(self.record.latest_at, math.inf))

    def _append(self, *events: Event, durable: bool = False) -> None:
        self._ledger.append(*events, durable=durable)
