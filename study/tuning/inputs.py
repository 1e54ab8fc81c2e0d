"""What trials read before they train, tried once before anything is recorded."""

from __future__ import annotations

from pathlib import Path

import torch

from search_spaces.load import ConfigError
from search_spaces.models import Backbone
from search_spaces.study_config import StudyConfig
from study.data.build import DataError, forget_loaded, load_trial_data
from study.training.models import build_model
from study.tuning.worker import Workplace


def require_inputs(study_config: StudyConfig, workplace: Workplace) -> None:
    """Load every data set and every network's first weights that the plan names (a search: its common trial's).

    Photos that were never decoded are, here and once, so that a corrupt one is told before any trial waits for it.
    Raises: ConfigError.
    """
    seen = set()
    trials = [study_config.trial]
    if study_config.search is None:
        trials = [trial for _, _, trial in study_config.configurations()]
    try:
        for trial in trials:
            inputs = (trial.dataset, trial.split, trial.model if isinstance(trial.model, Backbone) else None)
            if inputs not in seen:
                seen.add(inputs)
                data = load_trial_data(trial, Path(workplace.data_dir), Path(workplace.cache_dir))
                if isinstance(trial.model, Backbone):
                    build_model(trial.model, *data.train.shape, torch.Generator())
    except DataError as error:
        raise ConfigError(str(error)) from error
    finally:
        forget_loaded()
