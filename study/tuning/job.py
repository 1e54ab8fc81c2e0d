"""What a worker is given, and what it measures besides numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from search_spaces.base import Count, Frozen, Index

Arrays = Mapping[str, NDArray[np.generic]]


class Job(Frozen):
    """What a worker needs to train a trial. keys: prefix_keys of the trial; start: epochs_done to start from.

    start_folder: the store of the state to start from, where that is another study's. save_at: epochs_done after which
    the state must be stored; whether others are is the worker's choice.
    """

    number: Index
    attempt: Count
    trial: dict[str, JsonValue]
    seed: Index
    keys: tuple[str, ...]
    start: Index
    start_folder: str | None = None
    save_at: tuple[Count, ...] = ()
