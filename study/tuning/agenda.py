"""Which trials a study makes: its fixed plan, its search's proposals, the confirmation of winners. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from search_spaces.load import explain
from search_spaces.study_config import StudyConfig, Values, label_of
from search_spaces.trial_config import TrialConfig
from study.ledger.read import StudyRecord, TrialRecord
from study.records import Phase, Status
from study.tuning.space import CASE, SEED, Params, point_params


@dataclass(frozen=True)
class Entry:
    """A trial to make. problem: why it is no valid trial; it is then recorded as failed."""

    phase: Phase
    configuration: str
    values: Values
    params: Params
    seed: int
    trial: TrialConfig
    baseline: bool = False
    problem: str = ""


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
    try:
        trial, problem = config.trial_with(values), ""
    except ValidationError as error:
        trial, problem = config.trial, explain(error, TrialConfig)[0]
    trial = trial.replace(measure=trial.measure.replace(test=False))
    return Entry(Phase.SEARCH, name, values, params, config.search.seed, trial, problem=problem)


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


def may_propose(config: StudyConfig, record: StudyRecord) -> bool:
    """Whether the search's budget in trials, its patience with failures and its rounds allow one more proposal."""
    search = config.search
    if search is None:
        return False
    proposals = [trial for trial in record.trials.values() if trial.trial.phase is Phase.SEARCH]
    failed = sum(trial.status in (Status.FAILED, Status.DIVERGED) for trial in proposals)
    if len(proposals) >= search.max_trials or failed > search.max_failures:
        return False
    if search.round_size is None or len(proposals) % search.round_size:
        return True
    return all(trial.status.ended or trial.status is Status.PAUSED for trial in proposals)


def _known(record: StudyRecord) -> set[tuple[str, int]]:
    return {(trial.trial.configuration, trial.trial.seed) for trial in record.trials.values()}


def _plan_params(config: StudyConfig, name: str, values: Values, seed: int) -> Params:
    params = point_params(config, {path: values[path] for path in config.vary})
    cases = [case.name for case in config.cases if name == case.name or name.startswith(f"{case.name}, ")]
    return {**params, **({CASE: max(cases, key=len)} if cases else {}), SEED: seed}
