"""What a study will do, in words, before anything runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pydantic import ValidationError

from search_spaces.datasets import images_per_class
from search_spaces.losses import ScaledLoss
from search_spaces.samples import sample_points
from search_spaces.schedules import Ramp
from search_spaces.study_config import Asha, StudyConfig, rungs_of
from search_spaces.trial_config import TrialConfig
from study.stages.key import prefix_keys
from study.stages.tree import ANYWHERE, stage_tree

SECONDS_PER_IMAGE = 0.0006
"""Of the small CNN on one core with evaluation, measured on a 2-core x86-64 cloud VM; other networks cost more."""


def describe(study_config: StudyConfig, slots: int) -> list[str]:
    """The plan of `study_config` in lines: trials, epochs asked and trained, seconds on `slots` workers."""
    lines = [study_config.name + (f": {study_config.question}" if study_config.question else "")]
    trial, search = study_config.trial, study_config.search
    slots = max(1, slots // trial.compute.threads)
    if search is None:
        configurations = study_config.configurations()
        tree = stage_tree([(each.trial, seed) for seed in study_config.seeds for each in configurations])
        trials = len(configurations) * len(study_config.seeds)
        lines.append(f"trials: {trials} ({len(configurations)} configurations x {len(study_config.seeds)} seeds)")
        lines.append(
            f"epochs: {tree.trained} trained of {tree.asked} asked ({len(tree.stages)} stages; configurations that "
            f"begin alike share them); the longest chain has {tree.critical_path}"
        )
        seconds = _seconds(trial, tree.trained)
        seconds = max(seconds / slots, _seconds(trial, tree.critical_path))
        objective = "validation" if trial.split.val_classes else "test (no validation classes: chosen on test)"
        lines.append(f"chosen on: {objective}")
    else:
        asked = search.max_trials * trial.epochs
        lines.append(f"trials: at most {search.max_trials} proposals by {search.sampler.kind}, seed {search.seed}")
        if isinstance(search.scheduler, Asha):
            lines.append(f"ASHA: the best 1/{search.scheduler.factor} go on from epoch {search.scheduler.grace_epochs}")
        lines += [f"warning: {line}" for line in rung_warnings(study_config)]
        if study_config.confirm is not None:
            confirm = study_config.confirm
            count = (confirm.best + len(confirm.baselines)) * len(confirm.seeds)
            lines.append(
                f"confirm: {count} trials (best {confirm.best} and {len(confirm.baselines)} baselines "
                f"x {len(confirm.seeds)} seeds), test classes for the first time"
            )
            asked += count * trial.epochs
        lines.append(f"epochs: at most {asked}")
        seconds = _seconds(trial, asked) / slots
        lines.append("chosen on: validation")
    lines.append(
        f"cost: about {_duration(seconds)} on {slots} workers of {trial.compute.threads} thread (small CNN, CPU)"
    )
    return lines


def rung_warnings(study_config: StudyConfig) -> list[str]:
    """Rungs that decide nothing, or too early: before the search's trials differ, or inside a ramp of the scale."""
    search = study_config.search
    if search is None or not isinstance(search.scheduler, Asha):
        return []
    trials = list(_samples(study_config))
    chains = [prefix_keys(trial, search.seed, ANYWHERE) for trial in trials]
    lines = []
    for rung in rungs_of(search.scheduler, study_config.trial.epochs):
        if len({chain[rung] for chain in chains if rung < len(chain)}) == 1:
            lines.append(
                f"the rung at epoch {rung} lies before configurations differ, so all stand there with one value; raise "
                "search.scheduler.grace_epochs"
            )
        ramps = [trial.loss.scale for trial in trials if isinstance(trial.loss, ScaledLoss)]
        inside = [ramp for ramp in ramps if isinstance(ramp, Ramp) and ramp.first_epoch < rung <= ramp.hold_epoch]
        if inside:
            ramp = inside[0]
            lines.append(
                f"the rung at epoch {rung} lies inside a ramp of the scale (epochs {ramp.first_epoch + 1} to "
                f"{ramp.hold_epoch + 1}), where Recall is not yet what it will be; move one of them"
            )
    return lines


def _samples(study_config: StudyConfig) -> Iterator[TrialConfig]:
    """The valid trials at the ends of the search's ranges."""
    for values in sample_points(study_config):
        with contextlib.suppress(ValidationError):
            yield study_config.trial_with(values)


def _seconds(trial: TrialConfig, epochs: int) -> float:
    return epochs * trial.split.train_classes * images_per_class(trial.dataset) * SECONDS_PER_IMAGE


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
