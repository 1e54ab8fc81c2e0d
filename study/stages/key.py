"""What identifies the weights after n epochs. Pure: neither torch nor files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from search_spaces.base import Frozen
from search_spaces.losses import schedule_of
from search_spaces.optimizers import lr_factor
from search_spaces.schedules import LearnedScale, scale_at
from search_spaces.trial_config import TrialConfig

TRAINING_VERSION = 1
"""Raised whenever training gives other bits for the same configuration."""


class Environment(Frozen):
    """What besides the configuration shapes the bits of a result: the torch release and the processor's capability."""

    torch: str
    cpu: str


def prefix_keys(trial: TrialConfig, seed: int, environment: Environment) -> tuple[str, ...]:
    """keys[n] names the state after n epochs, n = 0 .. epochs, together with what was measured on the way.

    Two trials agree on keys[n] exactly if everything that shapes the weights agrees over epochs 0 .. n-1 (the *values*
    of every per-epoch schedule, not its kind or name) and if they measure the same. Chained, so that one difference
    separates all later keys.
    """
    digest = hashlib.sha256(_json([TRAINING_VERSION, environment.model_dump(), seed, _fixed_part(trial)]))
    keys = [digest.hexdigest()[:32]]
    for values in epoch_values(trial):
        digest.update(values)
        keys.append(digest.copy().hexdigest()[:32])
    return tuple(keys)


def epoch_values(trial: TrialConfig) -> Iterable[bytes]:
    """Per epoch, the values of every schedule that training reads, exactly: scale, learning-rate factor, warm-up."""
    schedule, lr_schedule = schedule_of(trial.loss), trial.optimizer.lr_schedule
    for epoch in range(trial.epochs):
        scale = None if schedule is None else scale_at(schedule, epoch)
        factor = lr_factor(lr_schedule, epoch, scale)
        warming = epoch < lr_schedule.warmup_epochs
        yield f"{'none' if scale is None else scale.hex()} {factor.hex()} {warming}\n".encode()


def steady_epochs(trial: TrialConfig) -> int:
    """epochs_done up to which every schedule stays as it begins."""
    values = list(epoch_values(trial))
    return next((epochs for epochs, value in enumerate(values) if value != values[0]), len(values))


def _fixed_part(trial: TrialConfig) -> object:
    """The configuration without what the per-epoch values stand for."""
    raw = trial.model_dump(mode="json", by_alias=True)
    del raw["epochs"], raw["optimizer"]["lr_schedule"]
    if not raw["compute"]["compile"]:  # younger than the first states: without it their keys stay as they are
        del raw["compute"]["compile"]
    if "scale" in raw["loss"]:
        learned = isinstance(schedule_of(trial.loss), LearnedScale)
        raw["loss"]["scale"] = raw["loss"]["scale"] if learned else "by epoch"
    return raw


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
