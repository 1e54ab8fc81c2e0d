"""Which trials a study makes: its fixed plan, its search's proposals, the confirmation of winners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from search_spaces.load import explain
from search_spaces.study_config import Search, StudyConfig, Values, label_of
from search_spaces.trial_config import TrialConfig
from study.ledger.read import StudyRecord, TrialRecord
from study.records import Phase, Status, TrialEvent
from study.tuning.halving import stopped_words
from study.tuning.proposals import Proposer
from study.tuning.space import CASE, SEED, Params, point_params

_MAX_HELD = 4


@dataclass(frozen=True)
class Entry:
    """A trial to make. problem: why it is recorded as failed: it is no valid trial."""

    phase: Phase
    configuration: str
    values: Values
    params: Params
    seed: int
    trial: TrialConfig
    baseline: bool = False
    problem: str = ""

    def event(self, number: int, at: float) -> TrialEvent:
        """The line that says that it exists as trial `number`."""
        return TrialEvent(
            at=at,
            number=number,
            phase=self.phase,
            configuration=self.configuration,
            values=self.values,
            params=self.params,
            seed=self.seed,
            trial=self.trial.model_dump(mode="json", by_alias=True),
            baseline=self.baseline,
        )


def plan_entries(config: StudyConfig, record: StudyRecord) -> Iterator[Entry]:
    """The trials of a fixed plan that `record` does not hold yet: all configurations, seed by seed."""
    known = _known(record)
    configurations = config.configurations()
    for seed in config.seeds:
        for name, values, trial in configurations:
            if (name, seed) not in known:
                yield Entry(Phase.PLAN, name, values, _plan_params(config, name, values, seed), seed, trial)


def proposal_entry(config: StudyConfig, number: int, params: Params, values: Values) -> Entry:
    """A sampler's point as a trial; test classes are not measured."""
    assert config.search is not None
    name = f"{number}: " + ", ".join(label_of(path, value) for path, value in params.items())
    problem = _problem(config, values)
    trial = config.trial if problem else config.trial_with(values)
    trial = trial.replace(measure=trial.measure.replace(test=False))
    return Entry(Phase.SEARCH, name, values, params, config.search.seed, trial, problem=problem)


def half_end(config: StudyConfig, trial: TrialRecord) -> tuple[Status, str] | None:
    """How a trial without an end has to end, and why, if a dying driver wrote only what led to it."""
    if trial.rungs and trial.rungs[-1].decision == "stop":
        return Status.PRUNED, stopped_words(trial.rungs[-1])
    if trial.starts or trial.trial.phase is not Phase.SEARCH:
        return None
    problem = _problem(config, trial.trial.values)
    return (Status.FAILED, problem) if problem else None


def _problem(config: StudyConfig, values: Values) -> str:
    try:
        config.trial_with(values)
    except ValidationError as error:
        return f"not a valid trial: {explain(error, TrialConfig)[0]}"
    return ""


def confirm_entries(config: StudyConfig, record: StudyRecord) -> Iterator[Entry]:
    """The winners of the search and the baselines of the file on fresh seeds, without what `record` holds already."""
    if config.confirm is None:
        return
    known = _known(record)
    points: list[tuple[str, Values, Params, bool]] = [
        (case.name, dict(case.overrides), {CASE: case.name}, True) for case in config.confirm.baselines
    ]
    for rank, winner in enumerate(best_trials(record, config.confirm.best), start=1):
        name = f"best {rank}: {winner.trial.configuration.split(': ', 1)[1]}"
        points.append((name, winner.trial.values, winner.trial.params, False))
    for seed in config.confirm.seeds:
        for name, values, params, baseline in points:
            if (name, seed) not in known:
                trial = config.trial_with(values)
                yield Entry(Phase.CONFIRM, name, values, {**params, SEED: seed}, seed, trial, baseline)


def best_trials(record: StudyRecord, count: int) -> list[TrialRecord]:
    """The `count` completed proposals of highest value, best first; equal values in order of their numbers."""
    done = [
        (-trial.end.value, trial.number)
        for trial in record.trials.values()
        if trial.trial.phase is Phase.SEARCH
        and trial.end is not None
        and trial.status is Status.COMPLETE
        and trial.end.value is not None
    ]
    return [record.trials[number] for _, number in sorted(done)[:count]]


class Agenda:
    """What a search asks its sampler for, and when: its budget, its patience with failures, its rounds."""

    def __init__(self, config: StudyConfig, record: StudyRecord, now: Callable[[], float]) -> None:
        self._config = config
        self._record = record
        self._now = now
        self._proposer = Proposer(config, record)
        self._search = search = config.search
        proposals = [trial for trial in record.trials.values() if trial.trial.phase is Phase.SEARCH]
        self._made = len(proposals)
        self._open = {trial.number for trial in proposals}
        self._failed = 0
        for trial in proposals:
            self._count(trial)
        self.strict = search is not None and search.determinism == "strict"
        hours = None if search is None else search.max_hours
        self._deadline = None if hours is None else now() + hours * 3600 - record.seconds_driven

    def hear(self, trial: TrialRecord) -> None:
        """The ledger says more of `trial`."""
        self._count(trial)
        self._proposer.update(trial)

    def _count(self, trial: TrialRecord) -> None:
        # Kept as counts: going through all proposals at each one is quadratic.
        if trial.end is not None and trial.number in self._open:
            self._open.discard(trial.number)
            self._failed += trial.status in (Status.FAILED, Status.DIVERGED)

    def proposals(self, waiting: int) -> list[Entry]:
        """The next proposals to make while `waiting` trials wait: one, or a strict search's whole round, or none."""
        if self._search is None or self._proposer.exhausted or not self._may_propose(self._search):
            return []
        if self.strict:
            assert self._search.round_size is not None
            return self._ask(self._search.round_size)
        return self._ask(1) if waiting < _MAX_HELD else []

    def rest_of_round(self) -> list[Entry]:
        """The proposals that a strict search's last round lacks, because its driver died while it wrote them."""
        if self._search is None or self._search.round_size is None or not self.strict:
            return []
        return self._ask(-self._made % self._search.round_size)

    def _ask(self, count: int) -> list[Entry]:
        entries: list[Entry] = []
        while len(entries) < count and not self._proposer.exhausted:
            number = len(self._record.trials) + len(entries)
            entries.append(proposal_entry(self._config, number, *self._proposer.propose(number)))
            self._open.add(number)
        self._made += len(entries)
        return entries

    def _may_propose(self, search: Search) -> bool:
        if self._deadline is not None and self._now() >= self._deadline:
            return False
        if self._made >= search.max_trials or self._failed > search.max_failures:
            return False
        if search.round_size is None or self._made % search.round_size:
            return True
        return all(self._record.trials[number].status is Status.PAUSED for number in self._open)


def _known(record: StudyRecord) -> set[tuple[str, int]]:
    return {(trial.trial.configuration, trial.trial.seed) for trial in record.trials.values()}


def _plan_params(config: StudyConfig, name: str, values: Values, seed: int) -> Params:
    params = point_params(config, {path: values[path] for path in config.vary})
    cases = [case.name for case in config.cases if name == case.name or name.startswith(f"{case.name}, ")]
    return {**params, **({CASE: max(cases, key=len)} if cases else {}), SEED: seed}
