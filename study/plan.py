"""What a study will do, in words, before anything runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from search_spaces.datasets import images_per_class
from search_spaces.load import ConfigError
from search_spaces.losses import ScaledLoss
from search_spaces.models import SmallCnn
from search_spaces.samples import sample_points
from search_spaces.schedules import Ramp
from search_spaces.study_config import Asha, StudyConfig, rungs_of
from search_spaces.trial_config import TrialConfig
from study.stages.key import prefix_keys
from study.stages.tree import ANYWHERE, stage_tree

SECONDS_PER_IMAGE = 0.0006
"""Of the small CNN on one core with evaluation, measured on a 2-core x86-64 cloud VM; other networks cost more."""


def describe(study_config: StudyConfig, slots: int, epoch_s: float | None = None) -> list[str]:
    """The plan of `study_config` in lines: trials, epochs asked and trained, time on `slots` workers.

    epoch_s: seconds of an epoch that were measured; None takes SECONDS_PER_IMAGE where it is the small CNN's.
    """
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
        trained, longest = tree.trained, tree.critical_path
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
        trained, longest = asked, trial.epochs
        lines.append("chosen on: validation")
    return [*lines, f"cost: {_cost(workloads(study_config), trained, longest, slots, epoch_s)}"]


def workloads(study_config: StudyConfig) -> list[tuple[TrialConfig, float]]:
    """A trial for each kind of epoch (network, data, batches, measuring) that a plan asks for, and its share of them.

    Of a search, whose choices are not made yet, only the common trial.
    """
    if study_config.search is not None:
        return [(study_config.trial, 1.0)]
    kinds: dict[str, tuple[TrialConfig, int]] = {}
    for _, _, trial in study_config.configurations():
        kind = trial.model_dump_json(include={"dataset", "split", "model", "batches", "measure", "compute"})
        kinds[kind] = (trial, trial.epochs + (kinds[kind][1] if kind in kinds else 0))
    total = sum(epochs for _, epochs in kinds.values())
    return [(trial, epochs / total) for trial, epochs in kinds.values()]


def measured_epoch(study_config: StudyConfig, data_dir: Path, cache_dir: Path) -> float:
    """Seconds of a study's mean epoch on this machine, from two short ones of each kind.

    Raises: ConfigError where the data, or the device, are not here.
    """
    import torch  # takes seconds, which a plan alone need not wait for

    from study.data.arrays import DataError
    from study.losses.base import Diverged
    from study.training.timing import seconds_per_epoch

    kinds = workloads(study_config)
    if study_config.trial.compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("trial.compute.device: cuda, and this machine has none; measure where the GPU is")
    try:
        return sum(share * seconds_per_epoch(trial, data_dir, cache_dir) for trial, share in kinds)
    except (DataError, Diverged) as error:
        raise ConfigError(f"--measure: {error}") from error


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


def _cost(kinds: list[tuple[TrialConfig, float]], epochs: int, longest: int, slots: int, epoch_s: float | None) -> str:
    """Time for `epochs`, of which `longest` follow one another."""
    compute = kinds[0][0].compute
    if epoch_s is None:
        for trial, _ in kinds:
            if compute.device == "cuda" or not isinstance(trial.model, SmallCnn):
                return f"not known for {trial.model.kind} on {compute.device}; `check --measure` times an epoch here"
        images = [share * trial.split.train_classes * images_per_class(trial.dataset) for trial, share in kinds]
        epoch_s, source = sum(images) * SECONDS_PER_IMAGE, "small CNN, CPU"
    else:
        source = f"{epoch_s:.3g} s an epoch, measured here" + (f" over {len(kinds)} kinds" if len(kinds) > 1 else "")
    if compute.device == "cuda":
        return f"about {_duration(epochs * epoch_s)} on one GPU, one trial at a time ({source})"
    seconds = max(epochs * epoch_s / slots, longest * epoch_s)
    return f"about {_duration(seconds)} on {slots} workers of {compute.threads} thread ({source})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
