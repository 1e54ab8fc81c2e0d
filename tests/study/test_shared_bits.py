"""Every loss family and schedule: a run from a stored stage gives the bits of an unbroken one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.load import parse_study
from search_spaces.trial_config import TrialConfig
from study.data.build import TrialData, load_trial_data
from study.stages.key import prefix_keys
from study.stages.store import StageStore
from study.stages.tree import ANYWHERE
from study.training.train import Trainer

EPOCHS = 3
CONSTANT = {"kind": "constant", "value": 10}
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": CONSTANT,
    "switch": {"kind": "switch", "before": 10, "after": 5, "switch_epoch": 2},
    "linear": {"kind": "linear", "start": 10, "end": 5, "first_epoch": 1, "epochs": 2},
    "quadratic": {"kind": "quadratic", "start": 10, "end": 5, "first_epoch": 0, "epochs": 3},
    "steps": {"kind": "steps", "initial": 10, "factor": 0.5, "every": 2},
    "learned": {"kind": "learned"},
}
LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {"kind": "softmax"},
    **{f"normalized_softmax, {name}": {"kind": "normalized_softmax", "scale": s} for name, s in SCHEDULES.items()},
    "adacos fixed": {"kind": "adacos", "mode": "fixed"},
    "adacos dynamic": {"kind": "adacos", "mode": "dynamic"},
    **{
        f"soft_triple, {name}": {"kind": "soft_triple", "proxies_per_class": 2, "scale": scale}
        for name, scale in SCHEDULES.items()
    },
    "hard_triple": {"kind": "soft_triple", "proxies_per_class": 2, "hard": True, "scale": CONSTANT},
    "arcface": {"kind": "arcface", "scale": CONSTANT},
    "cosface": {"kind": "cosface", "scale": CONSTANT},
    "circle pair": {"kind": "circle"},
    "circle class": {"kind": "circle", "level": "class", "m": 0.25, "gamma": 64},
    "circle unified": {"kind": "circle", "weighting": False},
    "center": {"kind": "center"},
    "proxy_anchor": {"kind": "proxy_anchor"},
    "proxy_nca": {"kind": "proxy_nca"},
    "contrastive": {"kind": "contrastive"},
    "triplet": {"kind": "triplet"},
}


def a_trial(loss: dict[str, Any], **fields: Any) -> TrialConfig:
    trial = {
        "dataset": {"kind": "digits", "images_per_class": 8},
        "split": {"order": "label", "train_classes": 5, "val_classes": 2, "test_classes": 3},
        "model": {"kind": "small_cnn", "channels": [4, 8], "embedding_dim": 8},
        "batches": {"size": 16},
        "loss": loss,
        "epochs": EPOCHS,
        **fields,
    }
    return parse_study({"trial": trial}, "a", "a").trial


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    folder = tmp_path_factory.mktemp("digits")
    return load_trial_data(a_trial({"kind": "softmax"}), folder, folder)


def bits(trainer: Trainer) -> str:
    """sha256 over all weights, buffers and optimizer state."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in value:
                digest.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(trainer.state())
    return digest.hexdigest()


@pytest.mark.parametrize("name", LOSSES)
def test_a_run_from_a_stored_stage_has_the_bits_of_an_unbroken_one(data: TrialData, tmp_path: Path, name: str) -> None:
    trial = a_trial(LOSSES[name])
    keys, store = prefix_keys(trial, 7, ANYWHERE), StageStore(tmp_path)
    whole = Trainer(trial, 7, data)
    results = []
    for epochs in range(1, EPOCHS + 1):
        results.append(whole.run_epoch().result.metrics)
        store.save(keys[epochs], whole.state(), {"epochs_done": epochs})
    for branch in range(1, EPOCHS):
        trainer = Trainer(trial, 7, data)
        trainer.load_state(store.load(keys[branch]))
        assert [trainer.run_epoch().result.metrics for _ in range(branch, EPOCHS)] == results[branch:]
        assert bits(trainer) == bits(whole)


def test_a_decay_branched_from_the_constant_has_the_bits_of_one_trained_alone(data: TrialData, tmp_path: Path) -> None:
    def soft_triple(scale: str) -> TrialConfig:
        return a_trial({"kind": "soft_triple", "proxies_per_class": 2, "scale": SCHEDULES[scale]})

    store = StageStore(tmp_path)
    trunk = Trainer(soft_triple("constant"), 3, data)
    for _ in range(2):
        trunk.run_epoch()
        store.save(prefix_keys(trunk.trial, 3, ANYWHERE)[trunk.epochs_done], trunk.state(), {})
    for scale, shared in (("switch", 2), ("linear", 2)):
        trial = soft_triple(scale)
        keys, standing = prefix_keys(trial, 3, ANYWHERE), store.keys()
        assert max(n for n in range(EPOCHS + 1) if keys[n] in standing) == shared
        branch = Trainer(trial, 3, data)
        branch.load_state(store.load(keys[shared]))
        alone = Trainer(trial, 3, data)
        for _ in range(shared):
            alone.run_epoch()
        assert branch.run_epoch().result.metrics == alone.run_epoch().result.metrics
        assert bits(branch) == bits(alone)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_every_optimizer_with_milestones_and_warm_up_goes_on_to_the_bit(
    data: TrialData, tmp_path: Path, kind: str
) -> None:
    schedule = {"milestones": [2], "warmup_epochs": 1, "tie_to_scale": {"reference": 10}}
    loss = {"kind": "soft_triple", "proxies_per_class": 2, "scale": SCHEDULES["linear"]}
    trial = a_trial(loss, optimizer={"kind": kind, "lr_schedule": schedule})
    store = StageStore(tmp_path)
    whole = Trainer(trial, 0, data)
    for epochs in range(1, EPOCHS + 1):
        whole.run_epoch()
        store.save(f"{epochs}", whole.state(), {})
    for branch in range(1, EPOCHS):
        trainer = Trainer(trial, 0, data)
        trainer.load_state(store.load(f"{branch}"))
        for _ in range(branch, EPOCHS):
            trainer.run_epoch()
        assert bits(trainer) == bits(whole)
