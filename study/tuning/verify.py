"""Where Optuna's journal differs from the ledger."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from study.ledger.read import TrialRecord, read_study
from study.tuning.proposals import NUMBER_ATTR, OPTUNA_STATES

JOURNAL_NAME = "optuna.journal"


def open_journal(folder: Path) -> JournalStorage:
    """The Optuna storage in a study's folder, made if it is not there."""
    path = str(folder / JOURNAL_NAME)
    return JournalStorage(JournalFileBackend(path, lock_obj=JournalFileOpenLock(path)))


def verify_optuna(folder: Path) -> list[str]:
    """What Optuna's study says otherwise than the ledger, a line each."""
    record = read_study(folder)
    if not (folder / JOURNAL_NAME).exists():
        return [f"{folder / JOURNAL_NAME}: missing; the next run or resume writes it"]
    optuna_study = optuna.load_study(study_name=record.config.name, storage=open_journal(folder))
    found = {trial.user_attrs.get(NUMBER_ATTR): trial for trial in optuna_study.get_trials(deepcopy=False)}
    lines = []
    for number, trial in record.trials.items():
        if trial.end is None or not trial.starts:
            continue
        if number not in found:
            lines.append(f"trial {number}: not in Optuna's study")
        else:
            lines += [f"trial {number}: {difference}" for difference in _differences(trial, found.pop(number))]
    return lines + [
        f"Optuna's study holds a trial {number} that the ledger does not"
        for number in found
        if number not in record.trials
    ]


def _differences(trial: TrialRecord, optuna_trial: FrozenTrial) -> list[str]:
    state = OPTUNA_STATES.get(trial.status, TrialState.RUNNING)
    lines = []
    if optuna_trial.state != state:
        lines.append(f"{trial.status.value} in the ledger, {optuna_trial.state.name} in Optuna")
    if state == TrialState.COMPLETE and trial.end is not None and optuna_trial.value != trial.end.value:
        lines.append(f"value {trial.end.value} in the ledger, {optuna_trial.value} in Optuna")
    values = {n: event.result.metrics[trial.config.objective] for n, event in trial.epochs.items() if n > 0}
    if optuna_trial.intermediate_values != values:
        lines.append(
            f"{len(values)} epochs in the ledger, {len(optuna_trial.intermediate_values)} equal or other in Optuna"
        )
    if optuna_trial.params != trial.trial.params:
        lines.append(f"parameters {trial.trial.params} in the ledger, {optuna_trial.params} in Optuna")
    return lines
