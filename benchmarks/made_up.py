"""Made-up ledgers: studies whose numbers come from a formula, for benchmarks and tests of what reads ledgers.

Nothing here is a measurement, and no report of a real study may be made from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.load import parse_study
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
    RungEvent,
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


def plan_config(name: str = "made-up", **fields: Any) -> StudyConfig:
    """A small grid over constant scales; `fields` replace those of its study file."""
    return parse_study({"trial": _TRIAL, "seeds": [0, 1], "vary": {"loss.scale.value": [5, 20]}, **fields}, name, name)


def search_config(name: str = "made-up", **fields: Any) -> StudyConfig:
    """A small search over scale and learning rate with ASHA, and its confirmation on fresh seeds."""
    raw = {
        "trial": {**_TRIAL, "epochs": 10},
        "vary": {
            "loss.scale.value": {"kind": "float", "low": 1, "high": 64, "log": True},
            "optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
        },
        "search": {"max_trials": 12, "scheduler": {"kind": "asha"}},
        "confirm": {"best": 2, "seeds": [101, 102, 103]},
    }
    return parse_study({**raw, **fields}, name, name)


_TRIAL: dict[str, Any] = {
    "dataset": {"kind": "glyphs"},
    "split": {"train_classes": 100, "val_classes": 50, "test_classes": 200},
    "loss": {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": 20}},
    "epochs": 3,
}


def trial_fields(**fields: Any) -> dict[str, Any]:
    """The common trial of `plan_config`, as a study file's values, with `fields` replaced."""
    return {**_TRIAL, **fields}


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
    number: int,
    name: str,
    trial: TrialConfig,
    seed: int,
    phase: Phase,
    values: dict[str, object],
    params: dict[str, object] | None = None,
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
                "params": params or {},
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


def thesis_config(name: str = "made-up", phase: int = 4, **fields: Any) -> StudyConfig:
    """Every schedule of the thesis in phases of `phase` epochs, SoftTriple, two seeds."""
    ramp = {"start": 20, "first_epoch": phase, "epochs": phase}
    scales: dict[str, tuple[int, dict[str, Any]]] = {
        "constant 6.5": (2, {"kind": "constant", "value": 6.5}),
        "constant 20": (3, {"kind": "constant", "value": 20}),
        "linear to 10": (2, {"kind": "linear", "end": 10, **ramp}),
        "linear to 5": (3, {"kind": "linear", "end": 5, **ramp}),
        "switch to 5": (3, {"kind": "switch", "before": 20, "after": 5, "switch_epoch": phase}),
        "quadratic to 5": (3, {"kind": "quadratic", "end": 5, **ramp}),
        "from start": (2, {"kind": "linear", "end": 5, **ramp, "first_epoch": 0}),
    }
    cases = [{"name": case, "epochs": phases * phase, "loss.scale": scale} for case, (phases, scale) in scales.items()]
    loss = {"kind": "soft_triple", "scale": {"kind": "constant", "value": 20}}
    return plan_config(name, **{"trial": trial_fields(loss=loss, epochs=phase), "cases": cases, "vary": {}, **fields})


def made_up_arrays(trial: TrialConfig, seed: int, epochs_done: int) -> dict[str, NDArray[np.generic]]:
    """Histograms of random directions' cosines, and embeddings in clusters that tighten."""
    generator = np.random.default_rng([seed, epochs_done])
    dim = trial.model.embedding_dim
    directions = generator.normal(size=(100, dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cosines = (directions @ directions.T)[np.triu_indices(100, 1)]
    counts = np.histogram(cosines, 200, (-1, 1))[0].astype(np.int64)
    labels = np.repeat(np.arange(10), 20)
    embeddings = 2 * directions[labels] + generator.normal(size=(200, dim)) / (1 + epochs_done)
    histograms = {f"proxy_cos_hist_{name}": counts for name in ("all", "between", "class_mean")}
    return {**histograms, "train_embeddings": embeddings.astype(np.float32), "train_labels": labels}


def write_plan(
    folder: Path,
    config: StudyConfig,
    make: Curve = curve,
    array_epochs: Collection[int] = (),
    diagnostics: bool = False,
) -> Path:
    """A finished study of a fixed plan in `folder`, which is returned.

    array_epochs: epochs_done at which `made_up_arrays` are kept. diagnostics: also an untrained epoch 0.
    """
    with LedgerWriter(folder) as writer:
        writer.append(study_event(config), DriverEvent(at=START, what="opened", host="nowhere", pid=1))
        number = 0
        for name, values, trial in config.configurations():
            for seed in config.seeds:
                writer.append(trial_event(number, name, trial, seed, Phase.PLAN, dict(values)))
                lines = trial_lines(number, trial, seed, make)
                if diagnostics:
                    result = EpochResult(epochs_done=0, metrics=make(trial, seed, 0), train_s=0, eval_s=0.1)
                    lines.insert(1, EpochEvent(at=START + number, number=number, result=result))
                for place, line in enumerate(lines):
                    if isinstance(line, EpochEvent) and line.result.epochs_done in array_epochs:
                        epochs_done = line.result.epochs_done
                        arrays = made_up_arrays(trial, seed, epochs_done)
                        file = writer.save_arrays(f"{number}-{epochs_done}", arrays)
                        lines[place] = line.replace(arrays=file)
                writer.append(*lines)
                number += 1
        writer.append(DriverEvent(at=START + 1e6, what="closed", host="nowhere", pid=1, note="finished"))
    return folder


def write_search(folder: Path, config: StudyConfig, proposals: int, make: Curve = curve) -> Path:
    """A search in `folder` over log-uniform scales, with ASHA's rungs at 1, 3, 9, ... epochs, and its confirm phase.

    config: a search that varies loss.scale.value and optimizer.lr, with `confirm`.
    """
    assert config.search is not None
    assert config.confirm is not None
    random = Random(0)
    with LedgerWriter(folder) as writer:
        writer.append(study_event(config), DriverEvent(at=START, what="opened", host="nowhere", pid=1))
        seen: dict[int, list[float]] = {}
        finished: list[tuple[float, dict[str, object]]] = []
        for number in range(proposals):
            values: dict[str, object] = {
                "loss.scale.value": round(math.exp(random.uniform(0, math.log(64))), 3),
                "optimizer.lr": round(10 ** random.uniform(-4, -2), 6),
            }
            trial = config.trial_with(json.loads(json.dumps(values)))
            name = f"s={values['loss.scale.value']:.4g}, lr={values['optimizer.lr']:.4g}"
            writer.append(trial_event(number, name, trial, config.search.seed, Phase.SEARCH, values, params=values))
            stopped, rungs = trial.epochs, []
            rung = 1
            while rung < trial.epochs:
                value = make(trial, config.search.seed, rung)[trial.objective]
                peers = seen.setdefault(rung, [])
                cutoff = sorted(peers, reverse=True)[len(peers) // 3] if len(peers) >= 3 else None
                peers.append(value)
                stop = cutoff is not None and value < cutoff
                decision: Literal["stop", "continue"] = "stop" if stop else "continue"
                rungs.append(
                    RungEvent(
                        at=START + number,
                        number=number,
                        epochs_done=rung,
                        value=value,
                        cutoff=cutoff,
                        decision=decision,
                    )
                )
                if stop:
                    stopped = rung
                    break
                rung *= 3
            pruned = stopped < trial.epochs
            lines = trial_lines(
                number,
                trial,
                config.search.seed,
                make,
                epochs=stopped,
                status=Status.PRUNED if pruned else Status.COMPLETE,
                reason=f"below the best third at {stopped} epochs" if pruned else "",
            )
            writer.append(*lines[:-1], *rungs, lines[-1])
            if not pruned:
                finished.append((make(trial, config.search.seed, trial.epochs)[trial.objective], values))
        number = proposals
        for _, values in sorted(finished, key=lambda pair: pair[0], reverse=True)[: config.confirm.best]:
            trial = config.trial_with(json.loads(json.dumps(values)))
            name = f"s={values['loss.scale.value']:.4g}, lr={values['optimizer.lr']:.4g}"
            for seed in config.confirm.seeds:
                writer.append(trial_event(number, name, trial, seed, Phase.CONFIRM, values))
                writer.append(*trial_lines(number, trial, seed, make))
                number += 1
        writer.append(DriverEvent(at=START + 1e6, what="closed", host="nowhere", pid=1, note="finished"))
    return folder
