"""Optuna's study as a view of ours: it hears what happened, and its sampler proposes what comes next."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import assert_never

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState, create_trial

from search_spaces.study_config import CmaEs, Gp, Grid, Qmc, Random, SamplerConfig, StudyConfig, Tpe, Values
from study.ledger.read import StudyRecord, TrialRecord
from study.records import EndEvent, Event, Phase, Status
from study.tuning.space import Params, distributions, optuna_draw, point_params, values_of

NUMBER_ATTR = "ledger_number"
OPTUNA_STATES = {
    Status.COMPLETE: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.DIVERGED: TrialState.FAIL,
    Status.FAILED: TrialState.FAIL,
}


class OptunaTrials:
    """The ledger's trials in one Optuna storage, by ledger number."""

    def __init__(self, storage: BaseStorage, study_config: StudyConfig) -> None:
        self._config = study_config
        self.storage = storage
        self.optuna_study = optuna.create_study(
            storage=storage, study_name=study_config.name, direction="maximize", load_if_exists=True
        )
        self._study_id = storage.get_study_id_from_name(study_config.name)
        self._ids: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        self._ended: set[int] = set()

    def adopt(self, number: int, trial_id: int) -> None:
        """Trial `number` of the ledger is the Optuna trial that was just asked for."""
        self._ids[number], self._steps[number] = trial_id, 0
        self.storage.set_trial_user_attr(trial_id, NUMBER_ATTR, number)

    def update(self, trial: TrialRecord, *, asked: bool = False) -> None:
        """Tell Optuna what the ledger says of `trial` beyond what it was told before.

        A trial that waits is no news; asked: but it was asked for, so that its sampler takes it for running.
        """
        number = trial.number
        if number in self._ended or not (asked or trial.starts or trial.end):
            return
        objective = trial.config.objective
        values = {
            event.result.epochs_done: event.result.metrics[objective]
            for event in trial.epochs.values()
            if objective in event.result.metrics and event.result.epochs_done > self._steps.get(number, 0)
        }
        state = OPTUNA_STATES.get(trial.status, TrialState.RUNNING)
        if number not in self._ids:
            params = dict(trial.trial.params)
            frozen = create_trial(
                state=state,
                value=trial.end.value if state == TrialState.COMPLETE and trial.end else None,
                params=params,
                distributions=distributions(self._config, params),
                user_attrs={NUMBER_ATTR: number, "configuration": trial.trial.configuration, "seed": trial.trial.seed},
                intermediate_values=values,
            )
            self._ids[number] = self.storage.create_new_trial(self._study_id, template_trial=frozen)
        else:
            for step in sorted(values):
                self.storage.set_trial_intermediate_value(self._ids[number], step, values[step])
            if state.is_finished():
                value = (
                    [trial.end.value]
                    if state == TrialState.COMPLETE and trial.end and trial.end.value is not None
                    else None
                )
                self.storage.set_trial_state_values(self._ids[number], state, value)
        self._steps[number] = max(values, default=self._steps.get(number, 0))
        if state.is_finished():
            self._ended.add(number)


class Proposer:
    """Asks Optuna's sampler for points; hears of every proposal through `update`, and of no confirmation.

    Each proposal's draws depend on the sampler's seed and the proposal's place alone, so that a resumed study goes on
    as an unbroken one would (QMC and CMA-ES keep a state of their own: their past proposals are asked for again).
    """

    def __init__(self, study_config: StudyConfig, record: StudyRecord) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._config = study_config
        self._proposed = 0
        self._trials = OptunaTrials(InMemoryStorage(), study_config)
        self._points: list[Params] = []
        search = study_config.search
        if search is not None:
            self._points = [point_params(study_config, point) for point in search.start_from]
            if isinstance(search.sampler, Grid):
                grid = [point_params(study_config, values) for _, values in study_config.points()]
                self._points += [params for params in grid if params not in self._points]
        replay = search is not None and isinstance(search.sampler, Qmc | CmaEs)
        proposals = [trial for _, trial in sorted(record.trials.items()) if trial.trial.phase is Phase.SEARCH]
        if replay:
            self._replay(proposals)
        self._proposed = len(proposals)
        for trial in proposals:
            self._trials.update(trial, asked=True)

    @property
    def exhausted(self) -> bool:
        """Whether a grid has no point left."""
        search = self._config.search
        return search is not None and isinstance(search.sampler, Grid) and self._proposed >= len(self._points)

    def propose(self, number: int) -> tuple[Params, Values]:
        """The next point, as Optuna's parameters and as values by dotted path; it becomes trial `number`."""
        params, values = self._ask()
        self._trials.adopt(number, self._last_id)
        return params, values

    def update(self, trial: TrialRecord) -> None:
        """Hear what the ledger says of `trial`."""
        if trial.trial.phase is Phase.SEARCH:
            self._trials.update(trial)

    def _replay(self, proposals: Sequence[TrialRecord]) -> None:
        """Ask for past proposals again, each after the same ends as in its day: CMA-ES adapts to those it knows."""
        moments = [(trial.trial.at, trial.number, False) for trial in proposals]
        moments += [(trial.end.at, trial.number, True) for trial in proposals if trial.end is not None]
        trials = {trial.number: trial for trial in proposals}
        for _, number, ended in sorted(moments):
            if ended:
                self._trials.update(trials[number])
                continue
            params, _ = self._ask()
            if params == trials[number].trial.params:
                self._trials.adopt(number, self._last_id)
            else:  # another release of Optuna draws otherwise; what the ledger says was tried is what counts
                self._trials.storage.set_trial_state_values(self._last_id, TrialState.FAIL)

    def _ask(self) -> tuple[Params, Values]:
        search = self._config.search
        assert search is not None
        optuna_study = self._trials.optuna_study
        optuna_study.sampler = make_sampler(search.sampler, self._proposed, optuna_study.sampler)
        if self._proposed < len(self._points):
            optuna_study.enqueue_trial(self._points[self._proposed])
        self._proposed += 1
        trial = optuna_study.ask()
        self._last_id = trial._trial_id
        values = values_of(self._config, optuna_draw(trial))
        return dict(trial.params), values


def make_sampler(config: SamplerConfig, proposal: int, current: BaseSampler) -> BaseSampler:
    """The sampler that draws proposal number `proposal`; QMC and CMA-ES go on as `current` where it is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        match config:
            case Random():
                return optuna.samplers.RandomSampler(seed=_derived(config.seed, proposal))
            case Tpe():
                return optuna.samplers.TPESampler(
                    seed=_derived(config.seed, proposal),
                    n_startup_trials=config.startup_trials,
                    multivariate=config.multivariate,
                    constant_liar=True,
                )
            case Gp():
                return optuna.samplers.GPSampler(
                    seed=_derived(config.seed, proposal), n_startup_trials=config.startup_trials
                )
            case Qmc():
                if isinstance(current, optuna.samplers.QMCSampler):
                    return current
                return optuna.samplers.QMCSampler(
                    qmc_type="sobol", scramble=True, seed=config.seed, warn_independent_sampling=False
                )
            case CmaEs():
                if isinstance(current, optuna.samplers.CmaEsSampler):
                    return current
                return optuna.samplers.CmaEsSampler(
                    seed=config.seed, n_startup_trials=config.startup_trials, warn_independent_sampling=False
                )
            case Grid():
                return optuna.samplers.RandomSampler(seed=0)
            case _:
                assert_never(config)


def _derived(seed: int, proposal: int) -> int:
    digest = hashlib.blake2b(f"{seed} {proposal}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")


class OptunaJournal:
    """The trials that ended, in another storage, for optuna-dashboard: a background view that each driver builds anew.

    A trial enters whole at its end: one append to a journal costs an fsync, and each of its epochs would be one.
    """

    name = "Optuna"

    def __init__(self, storage: BaseStorage, study_config: StudyConfig) -> None:
        self._trials = OptunaTrials(storage, study_config)

    def apply(self, record: StudyRecord, events: Sequence[Event]) -> None:
        """Put in the trials whose ends are among `events`."""
        for event in events:
            if isinstance(event, EndEvent):
                self._trials.update(record.trials[event.number])
