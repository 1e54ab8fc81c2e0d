"""Made-up curves for the statistics: the frame that analysis.runs.curves would give, without a ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

CONSTANTS = (1, 3, 6.5, 10, 15, 20, 30)
THESIS: tuple[tuple[str, float, float], ...] = (
    *(("constant", s, s) for s in CONSTANTS),
    *(("linear", 20, b) for b in (10, 5, 2.5)),
    ("switch", 20, 5),
    ("quadratic", 20, 5),
    ("linear_from_start", 20, 5),
)
Measure = Callable[[tuple[str, float, float], np.ndarray, int, np.random.Generator], dict[str, Any]]


def _made_up(
    measure: Measure,
    conditions: tuple[tuple[str, float, float], ...] = THESIS,
    seeds: int = 5,
    phase: int = 10,
    epochs: int = 30,
    first_epoch: int = 1,
    **columns: Any,
) -> pd.DataFrame:
    """measure(condition, epochs_done, seed, rng) gives metrics, each a number or an array over epochs_done."""
    usual = {
        "study": "made-up",
        "status": "complete",
        "dataset": "glyphs",
        "loss_kind": "soft_triple",
        "classes": 100,
        "dim": 64,
        "other": "",
        "margin": 0.01,
        "proxies_per_class": 10,
        "inherited": False,
        "train_s": 0.5,
        "eval_s": 0.1,
    }
    parts = []
    done = np.arange(first_epoch, epochs + 1)
    for place, condition in enumerate(conditions):
        for seed in range(seeds):
            schedule, start, end = condition
            parts.append(
                pd.DataFrame(
                    {
                        **usual,
                        **columns,
                        "number": place * seeds + seed,
                        "seed": seed,
                        "epochs_planned": epochs,
                        "phase": phase,
                        "schedule": schedule,
                        "start": float(start),
                        "end": float(end),
                        "epochs_done": done,
                        **measure(condition, done, seed, np.random.default_rng([place, seed])),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def made_up() -> Callable[..., pd.DataFrame]:
    return _made_up
