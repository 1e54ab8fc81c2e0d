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
    """What besides the configuration shapes the bits of a result: torch's release, the processor's capability, the GPU.

    gpu: its name where trials train on one, else empty.
    """

    torch: str
    cpu: str
    gpu: str = ""


def prefix_keys(trial: TrialConfig, seed: int, environment: Environment) -> tuple[str, ...]:
    """keys[n] names the state after n epochs, n = 0 .. epochs, together with what was measured on the way.

    Two trials agree on keys[n] exactly if everything that shapes the weights agrees over epochs 0 .. n-1 (the *values*
    of every per-epoch schedule, not its kind or name) and if they measure the same. Chained, so that one difference
    separates all later keys.
    """
    digest = hashlib.sha256(
        _json([TRAINING_VERSION, environment.model_dump(exclude_defaults=True), seed, _fixed_part(trial)])
    )
    keys = [digest.hexdigest()[:32]]
    for values in epoch_values(trial):
        digest.update(values)
        keys.append(digest.copy().hexdigest()[:32])
    return tuple(keys)


def epoch_values(trial: TrialConfig) -> Iterable[bytes]:
    """Per epoch, the values of every schedule that training reads, exactly: scale, learning-rate factor, warm-up.

    And whether the optimizer begins anew.
    """
    schedule, lr_schedule = schedule_of(trial.loss), trial.optimizer.lr_schedule
    for epoch in range(trial.epochs):
        scale = None if schedule is None else scale_at(schedule, epoch)
        factor = lr_factor(lr_schedule, epoch, scale)
        warming = epoch < lr_schedule.warmup_epochs
        fresh = " fresh" if epoch in trial.optimizer.fresh_epochs else ""
        yield f"{'none' if scale is None else scale.hex()} {factor.hex()} {warming}{fresh}\n".encode()


def steady_epochs(trial: TrialConfig) -> int:
    """epochs_done up to which every schedule stays as it begins."""
    values = list(epoch_values(trial))
    return next((epochs for epochs, value in enumerate(values) if value != values[0]), len(values))


def _fixed_part(trial: TrialConfig) -> object:
    """The configuration without what the per-epoch values stand for, and without what shapes no bit."""
    raw = trial.model_dump(mode="json", by_alias=True)
    del raw["epochs"], raw["optimizer"]["lr_schedule"], raw["optimizer"]["fresh_epochs"]
    for part, name in (("compute", "compile"), ("model", "normalize")):
        if not raw[part][name]:  # younger than the first states: without it their keys stay as they are
            del raw[part][name]
    raw["compute"]["gpus"] = 0
    raw["dataset"].pop("cache_gib", None)
    raw["model"].get("weights", {}).pop("path", None)
    if "scale" in raw["loss"]:
        learned = isinstance(schedule_of(trial.loss), LearnedScale)
        raw["loss"]["scale"] = raw["loss"]["scale"] if learned else "by epoch"
    return raw


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
