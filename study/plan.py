"""What a study will do, in words, before anything runs."""

from __future__ import annotations

from search_spaces.datasets import Digits, Glyphs, Omniglot
from search_spaces.study_config import Asha, StudyConfig
from search_spaces.trial_config import TrialConfig
from study.stages.tree import stage_tree

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


def _seconds(trial: TrialConfig, epochs: int) -> float:
    match trial.dataset:
        case Glyphs():
            images = 12
        case Omniglot():
            images = 20
        case Digits():
            images = trial.dataset.images_per_class
    return epochs * trial.split.train_classes * images * SECONDS_PER_IMAGE


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
