"""Made-up ledgers: studies whose numbers come from a formula, for benchmarks and tests of what reads ledgers.

Nothing here is a measurement, and no report of a real study may be made from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random

from search_spaces.losses import AdaCos, adacos_fixed_scale, schedule_of
from search_spaces.schedules import scale_at
from search_spaces.study_config import StudyConfig
from search_spaces.trial_config import TrialConfig
from study.ledger.write import LedgerWriter
from study.records import (
    DriverEvent,
    EndEvent,
    EpochEvent,
    EpochResult,
    Event,
    Phase,
    StartEvent,
    Status,
    StudyEvent,
    TrialEvent,
    value_of,
)

START = 1_790_000_000.0  # Unix time of the first line; any would do, this one never changes
Curve = Callable[[TrialConfig, int, int], dict[str, float]]


def curve(trial: TrialConfig, seed: int, epochs_done: int) -> dict[str, float]:
    """Metrics after `epochs_done` epochs: Recall rises over epochs, peaks at s = 8, and differs between seeds."""
    scale = _scale(trial, epochs_done)
    luck = Random(seed).gauss(0, 0.012)
    jitter = Random(f"{seed} {scale:.6g} {epochs_done}").gauss(0, 0.006)
    height = 0.56 - 0.028 * math.log(scale / 8) ** 2
    recall = height * (1 - math.exp(-epochs_done / (3 + 0.1 * scale))) + luck + jitter
    classes = trial.split.train_classes
    metrics = {
        "loss": math.log1p((classes - 1) * math.exp(-scale * 0.8)) + 2.0 * math.exp(-epochs_done / 6),
        "scale": scale,
        "lr": 1e-3,
        "train_accuracy": 1 - 0.9 * math.exp(-epochs_done / 8),
        "train_accuracy_running": 1 - 0.95 * math.exp(-epochs_done / 8),
    }
    for k in trial.measure.recall_at:
        if trial.split.val_classes:
            metrics[f"val_recall_at_{k}"] = min(1.0, max(0.0, recall + 0.08 * math.log2(k)))
        if trial.split.test_classes and trial.measure.test:
            metrics[f"test_recall_at_{k}"] = min(1.0, max(0.0, recall - 0.06 + 0.08 * math.log2(k)))
    return metrics


def _scale(trial: TrialConfig, epochs_done: int) -> float:
    schedule = schedule_of(trial.loss)
    if schedule is not None:
        return scale_at(schedule, max(0, epochs_done - 1))
    return adacos_fixed_scale(trial.split.train_classes) if isinstance(trial.loss, AdaCos) else 8.0


def study_event(config: StudyConfig) -> StudyEvent:
    """The first line of a ledger of `config`."""
    return StudyEvent(
        at=START,
        config=json.loads(config.model_dump_json(by_alias=True)),
        source=f"# {config.name}: made up\nquestion: {config.question}\n",
        versions={"python": "3.11", "made up": "by formula"},
        git_commit=None,
        machine={"host": "nowhere", "cpu": "made up"},
    )


def trial_event(
    number: int, name: str, trial: TrialConfig, seed: int, phase: Phase, values: dict[str, object]
) -> TrialEvent:
    """The line that says that a trial exists."""
    return TrialEvent.model_validate_json(
        json.dumps(
            {
                "at": START + number,
                "number": number,
                "phase": phase,
                "configuration": name,
                "values": values,
                "params": {},
                "seed": seed,
                "trial": json.loads(trial.model_dump_json(by_alias=True)),
            }
        )
    )


def trial_lines(
    number: int,
    trial: TrialConfig,
    seed: int,
    make: Curve = curve,
    epochs: int | None = None,
    status: Status = Status.COMPLETE,
    reason: str = "",
    inherited: int = 0,
) -> list[Event]:
    """Start, epochs and end of one trial. epochs: how many it reached; inherited: how many it did not train itself."""
    reached = trial.epochs if epochs is None else epochs
    metrics = [make(trial, seed, done) for done in range(1, reached + 1)]
    lines: list[Event] = [
        StartEvent(at=START + number, number=number, attempt=1, ray_trial=f"made_up_{number}", from_epochs=inherited)
    ]
    lines += [
        EpochEvent(
            at=START + number + done,
            number=number,
            result=EpochResult(epochs_done=done, metrics=values, train_s=0.5, eval_s=0.1, inherited=done <= inherited),
        )
        for done, values in enumerate(metrics, start=1)
    ]
    if status.ended:
        value, last_5 = value_of(metrics, trial.objective)
        lines.append(
            EndEvent(
                at=START + number + reached + 1,
                number=number,
                status=status,
                value=value,
                value_last_5=last_5,
                epochs_done=reached,
                reason=reason,
            )
        )
    return lines


def write_plan(folder: Path, config: StudyConfig, make: Curve = curve) -> Path:
    """A finished study of a fixed plan in `folder`, which is returned."""
    with LedgerWriter(folder) as writer:
        writer.append(study_event(config), DriverEvent(at=START, what="opened", host="nowhere", pid=1))
        number = 0
        for name, values, trial in config.configurations():
            for seed in config.seeds:
                writer.append(
                    trial_event(number, name, trial, seed, Phase.PLAN, dict(values)),
                    *trial_lines(number, trial, seed, make),
                )
                number += 1
        writer.append(DriverEvent(at=START + 1e6, what="closed", host="nowhere", pid=1, note="finished"))
    return folder
