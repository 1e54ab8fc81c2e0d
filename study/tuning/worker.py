"""One Ray worker's part: train a job, report each epoch."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray import tune

from search_spaces.base import Frozen
from search_spaces.trial_config import TrialConfig
from study.data.build import DataError, load_trial_data
from study.losses.base import Diverged
from study.records import EpochResult
from study.stages.store import StageDamaged, StageStore
from study.training.train import Measured, Trainer, wants_untrained
from study.tuning.job import Arrays, Job

SMALL_BYTES = 16 * 2**20
"""A state up to this size is stored after every epoch."""
SAVE_EVERY_S = 300.0
"""A larger one when so many seconds have passed since the last, and where the job asks for it."""
SEEN_S = 30.0
"""How long a change may take to be seen on a node: a network file system shows a new file late."""
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO})
"""Errors that say nothing against the trial: the next one would meet them too."""


class Workplace(Frozen):
    """Where a worker finds things; the same paths on every node.

    stages_dir: None keeps no states. owner_file, owner: a file, and what the driver wrote into it: a worker that does
    not read the same there, on a node that joined later or whose mount is gone, is no part of the study. None: no such
    file.
    """

    data_dir: str
    cache_dir: str
    stages_dir: str | None
    owner_file: str | None = None
    owner: str = ""


@dataclass(frozen=True)
class EpochReport:
    """An epoch was trained. stands: the state after it is in the store."""

    result: EpochResult
    arrays: Arrays
    stands: bool


@dataclass(frozen=True)
class EndReport:
    """A trial ends before its last epoch.

    damaged: the state that it should have started from. obstacle: what no trial could do here, why, and the mend.
    """

    diverged: str = ""
    error: str = ""
    damaged: str = ""
    obstacle: str = ""
    details: str = field(default="", repr=False)


Report = EpochReport | EndReport


def train_job(config: dict[str, Any]) -> None:
    """Ray's trainable. Every outcome but the process's death is a report, so that the driver decides what follows."""
    os.umask(0o077)  # a cluster's node has one of its own
    job, workplace = Job.model_validate_json(config["job"]), Workplace.model_validate_json(config["workplace"])
    elsewhere = _elsewhere(workplace)
    for report in [EndReport(obstacle=elsewhere)] if elsewhere else reports(job, workplace):
        tune.report({"report": report})


def _elsewhere(workplace: Workplace) -> str:
    """What tells that this node does not see the driver's folder, in a line; empty if it does."""
    if workplace.owner_file is None:
        return ""
    file, deadline = Path(workplace.owner_file), time.monotonic() + SEEN_S
    while True:
        try:
            found, why = file.read_text(encoding="utf-8"), "is another folder than the driver's"
        except OSError as error:
            found, why = "", f"is not the driver's folder ({error.strerror})"
        if found == workplace.owner:
            return ""
        if time.monotonic() > deadline:
            return f"node {socket.gethostname()}: {file.parent}: {why}; mount it there at the same path"
        time.sleep(0.2)


def reports(job: Job, workplace: Workplace) -> Iterator[Report]:
    """Train `job`; a report per epoch, and one that ends it early."""
    trial = TrialConfig.model_validate_json(json.dumps(job.trial))
    store = None if workplace.stages_dir is None else StageStore(Path(workplace.stages_dir))
    if trial.compute.device == "cuda" and not torch.cuda.is_available():
        yield EndReport(obstacle="trial.compute.device: torch finds no GPU; install its CUDA build and a driver for it")
        return
    try:
        trainer = Trainer(trial, job.seed, load_trial_data(trial, Path(workplace.data_dir), Path(workplace.cache_dir)))
        if job.start:
            place = job.start_folder or workplace.stages_dir
            assert place is not None
            trainer.load_state(StageStore(Path(place)).load(job.keys[job.start]))
        last_saved = time.monotonic()
        for measured in _epochs(trainer):
            epochs = measured.result.epochs_done
            stands = epochs == job.start and epochs > 0
            if store is not None and epochs > job.start:
                state = trainer.state()
                late = time.monotonic() - last_saved > SAVE_EVERY_S
                if late or epochs in job.save_at or _bytes(state) <= SMALL_BYTES:
                    store.save(job.keys[epochs], state, {"epochs_done": epochs, "trial": job.number})
                    stands, last_saved = True, time.monotonic()
            yield EpochReport(measured.result, measured.arrays, stands)
    except Diverged as error:
        yield EndReport(diverged=str(error))
    except StageDamaged as error:
        yield EndReport(error=str(error), damaged=job.keys[job.start])
    except DataError as error:
        yield EndReport(obstacle=str(error))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            folder = Path(error.filename).parent if error.filename else workplace.stages_dir
            what, mend = ("read or written", "mend the disk") if error.errno == errno.EIO else ("written", "make room")
            yield EndReport(obstacle=f"{folder}: cannot be {what} ({error.strerror}); {mend}")
            return
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        yield EndReport(error=f"{type(error).__name__}: {error} ({where})", details=traceback.format_exc())


def _bytes(state: Any) -> int:
    """Size of the tensors in a state."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(map(_bytes, state.values()))
    return sum(map(_bytes, state)) if isinstance(state, list | tuple) else 0


def _epochs(trainer: Trainer) -> Iterator[Measured]:
    if trainer.epochs_done == 0 and wants_untrained(trainer.trial.measure):
        yield trainer.untrained()
    if trainer.epochs_done == trainer.trial.epochs:
        # All epochs are inherited and recorded; only what this trial keeps of its last one is missing.
        yield Measured(EpochResult(epochs_done=trainer.epochs_done, metrics={}, train_s=0, eval_s=0), trainer.arrays())
    while trainer.epochs_done < trainer.trial.epochs:
        yield trainer.run_epoch()
