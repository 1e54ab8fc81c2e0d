"""Which trials share which states: exactly those that training cannot tell apart."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from search_spaces.losses import ScaledLoss, schedule_of
from search_spaces.optimizers import LrSchedule, lr_factor
from search_spaces.schedules import ConstantScale, LearnedScale, scale_at
from search_spaces.trial_config import TrialConfig
from study.stages.key import Environment, prefix_keys

HERE = Environment(torch="2.14.1", cpu="AVX2")
BASE: dict[str, Any] = {
    "dataset": {"kind": "glyphs"},
    "split": {"train_classes": 20, "val_classes": 5, "test_classes": 5},
    "loss": {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": 20.0}},
    "epochs": 6,
}


def a_trial(changes: dict[str, Any] | None = None) -> TrialConfig:
    """The base trial with fields set by dotted path."""
    raw = json.loads(json.dumps(BASE))
    for path, value in (changes or {}).items():
        *parents, last = path.split(".")
        node = raw
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return TrialConfig.model_validate_json(json.dumps(raw))


def with_scale(kind: str, **fields: Any) -> TrialConfig:
    return a_trial({"loss.scale": {"kind": kind, **fields}})


def with_lr(**fields: Any) -> TrialConfig:
    return a_trial({"optimizer": {"kind": "adam", "lr_schedule": fields}})


def keys_of(trial: TrialConfig, seed: int = 0) -> tuple[str, ...]:
    return prefix_keys(trial, seed, HERE)


def shared(one: TrialConfig, other: TrialConfig) -> int | None:
    """Epochs that two trials share; None: not even the untrained network."""
    pairs = list(zip(keys_of(one), keys_of(other), strict=False))
    alike = [a == b for a, b in pairs]
    assert alike == sorted(alike, reverse=True), "trials that part never meet again"
    return sum(alike) - 1 if any(alike) else None


CONSTANT = with_scale("constant", value=20.0)


@pytest.mark.parametrize(
    ("trial", "epochs"),
    [
        (with_scale("switch", before=20.0, after=5.0, switch_epoch=3), 3),
        (with_scale("linear", start=20.0, end=5.0, first_epoch=2, epochs=3), 3),
        (with_scale("linear", start=20.0, end=5.0, first_epoch=2, epochs=3, ends="step"), 2),
        (with_scale("linear", start=20.0, end=5.0, first_epoch=2, epochs=3, ends="exclusive"), 3),
        (with_scale("quadratic", start=20.0, end=5.0, first_epoch=2, epochs=3), 3),
        (with_scale("linear", start=20.0, end=5.0, first_epoch=0, epochs=5), 1),
        (with_scale("steps", initial=20.0, factor=0.5, every=2), 2),
        (with_scale("steps", initial=20.0, factor=1.0, every=2), 6),
        (with_scale("constant", value=math.nextafter(20.0, 21.0)), 0),
        (with_scale("learned", initial=20.0), None),
        (with_lr(milestones=[4]), 4),
        (with_lr(milestones=[2, 4], factor=1.0), 6),
        (with_lr(milestones=[9]), 6),
        (with_lr(factor=0.5), 6),
        (with_lr(warmup_epochs=1), 0),
        (with_lr(milestones=[4], restarts=[4]), 4),
        (with_lr(milestones=[2], restarts=[3]), 2),
        (with_lr(restarts=[3]), 6),
        (a_trial({"optimizer": {"kind": "adam", "fresh_epochs": [3]}}), 3),
        (a_trial({"model": {"kind": "small_cnn", "normalize": True}}), None),
        (with_lr(tie_to_scale={"reference": 20.0, "power": -1.0}), 6),
        (with_lr(tie_to_scale={"reference": 10.0, "power": -1.0}), 0),
        (with_lr(tie_to_scale={"reference": 10.0, "power": 0.0}), 6),
        (a_trial({"epochs": 2}), 2),
        (a_trial({"epochs": 60}), 6),
        (a_trial({"measure.test": False}), None),
        (a_trial({"measure.diagnostics": True}), None),
        (a_trial({"split.val_classes": 6}), None),
        (a_trial({"split.test_classes": 6}), None),
        (a_trial({"loss": {"kind": "adacos"}}), None),
    ],
)
def test_epochs_shared_with_a_constant_scale(trial: TrialConfig, epochs: int | None) -> None:
    assert shared(CONSTANT, trial) == epochs


def test_two_trials_share_what_both_do_first() -> None:
    warm, warmer = with_lr(warmup_epochs=2), with_lr(warmup_epochs=3)
    assert shared(warm, warmer) == 2
    linear = with_scale("linear", start=20.0, end=5.0, first_epoch=1, epochs=4)
    quadratic = with_scale("quadratic", start=20.0, end=5.0, first_epoch=1, epochs=4)
    assert shared(linear, quadratic) == 2
    tied = {"optimizer": {"kind": "adam", "lr_schedule": {"tie_to_scale": {}}}}
    switch = {"loss.scale": {"kind": "switch", "before": 20.0, "after": 5.0, "switch_epoch": 3}}
    assert shared(a_trial({**tied, **switch}), a_trial(switch)) == 3
    assert shared(with_scale("learned", initial=20.0), with_scale("learned", initial=20.0, floor=1.0)) is None


def test_rates_are_whole_again_at_a_restart() -> None:
    # the reading of the thesis in which the rates are reset at 50 and fall again at 69 and 89, a tenth as long
    schedule = LrSchedule(milestones=(2, 4, 7, 9), restarts=(5,))
    factors = [lr_factor(schedule, epoch, None) for epoch in range(11)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_gpu_that_is_shared_gives_the_bits_of_one_that_is_not() -> None:
    whole, half = (a_trial({"compute": {"device": "cuda", "gpus": share}}) for share in (1.0, 0.5))
    assert keys_of(whole) == keys_of(half)


def test_what_reads_the_batch_is_keyed_by_its_settings() -> None:
    fixed, dynamic = (a_trial({"loss": {"kind": "adacos", "mode": mode}}) for mode in ("fixed", "dynamic"))
    assert shared(fixed, dynamic) is None
    assert shared(fixed, a_trial({"loss": {"kind": "adacos"}, "epochs": 3})) == 3


def test_seed_and_machine_separate_from_the_start() -> None:
    trial = a_trial()
    chains = [
        prefix_keys(trial, 0, HERE),
        prefix_keys(trial, 1, HERE),
        prefix_keys(trial, 0, HERE.replace(torch="2.9.0")),
        prefix_keys(trial, 0, HERE.replace(cpu="AVX512")),
        prefix_keys(trial, 0, HERE.replace(gpu="NVIDIA H100 80GB HBM3")),
    ]
    assert len({key for chain in chains for key in chain}) == 5 * 7
    assert prefix_keys(trial, 0, HERE) == chains[0]


def test_numbers_written_otherwise_are_the_same() -> None:
    assert shared(with_scale("constant", value=20), with_scale("constant", value=2e1)) == 6


SCHEDULES: list[dict[str, Any]] = [
    *({"kind": "constant", "value": value} for value in (20.0, 5.0)),
    *({"kind": "switch", "before": 20.0, "after": 5.0, "switch_epoch": epoch} for epoch in (1, 3)),
    {"kind": "switch", "before": 5.0, "after": 20.0, "switch_epoch": 2},
    *(
        {"kind": kind, "start": 20.0, "end": 5.0, "first_epoch": first, "epochs": 2, "ends": ends}
        for kind, first, ends in itertools.product(("linear", "quadratic"), (0, 1), ("inclusive", "step", "exclusive"))
    ),
    *({"kind": "steps", "initial": 20.0, "factor": factor, "every": every} for factor, every in ((0.25, 2), (1.0, 1))),
    *({"kind": "learned", "initial": initial} for initial in (20.0, 5.0)),
]
LR_SCHEDULES: list[dict[str, Any]] = [
    {},
    {"milestones": [2]},
    {"milestones": [2, 3], "factor": 1.0},
    {"milestones": [9]},
    {"warmup_epochs": 1},
    {"warmup_epochs": 2, "milestones": [3]},
    {"tie_to_scale": {"reference": 20.0}},
    {"tie_to_scale": {"reference": 5.0, "power": 0.0}},
]
FIXED: list[dict[str, Any]] = [{}, {"optimizer.lr": 2e-3}, {"batches.size": 16}, {"measure.test": False}]


@st.composite
def trials(draw: st.DrawFn) -> TrialConfig:
    kind = draw(st.sampled_from(["normalized_softmax", "normalized_softmax", "cosface", "adacos"]))
    loss = {"kind": kind} if kind == "adacos" else {"kind": kind, "scale": draw(st.sampled_from(SCHEDULES))}
    changes = {
        "loss": loss,
        "epochs": draw(st.integers(4, 7)),
        "optimizer.kind": "adam",
        "optimizer.lr_schedule": draw(st.sampled_from(LR_SCHEDULES)),
        **draw(st.sampled_from([{}, {}, *FIXED])),
    }
    return a_trial(changes)


def told_apart(trial: TrialConfig) -> tuple[TrialConfig, list[tuple[float | None, float, bool]]]:
    """What training sees of a trial: what is the same in each epoch, and the values of each."""
    lr_schedule, schedule = trial.optimizer.lr_schedule, schedule_of(trial.loss)
    loss = trial.loss
    if isinstance(loss, ScaledLoss) and not isinstance(loss.scale, LearnedScale):
        loss = loss.replace(scale=ConstantScale(value=1.0))
    fixed = trial.replace(epochs=1, loss=loss, optimizer=trial.optimizer.replace(lr_schedule=LrSchedule()))
    epochs = []
    for epoch in range(trial.epochs):
        scale = None if schedule is None else scale_at(schedule, epoch)
        epochs.append((scale, lr_factor(lr_schedule, epoch, scale), epoch < lr_schedule.warmup_epochs))
    return fixed, epochs


@settings(deadline=None, derandomize=True, max_examples=120)
@given(trials(), trials(), st.integers(0, 1), st.integers(0, 1))
def test_trials_share_a_state_exactly_if_training_cannot_tell_them_apart(
    one: TrialConfig, other: TrialConfig, seed: int, other_seed: int
) -> None:
    (fixed, epochs), (other_fixed, other_epochs) = told_apart(one), told_apart(other)
    for n, (key, other_key) in enumerate(zip(keys_of(one, seed), keys_of(other, other_seed), strict=False)):
        alike = (seed, fixed, epochs[:n]) == (other_seed, other_fixed, other_epochs[:n])
        assert (key == other_key) == alike


LOSSES: list[dict[str, Any]] = [
    {"kind": "softmax"},
    {"kind": "adacos"},
    *(
        {"kind": "normalized_softmax", "scale": scale}
        for scale in (
            {"kind": "constant", "value": 20.0},
            {"kind": "switch", "before": 20.0, "after": 5.0, "switch_epoch": 3},
            {"kind": "linear", "start": 20.0, "end": 5.0, "first_epoch": 1, "epochs": 3},
            {"kind": "quadratic", "start": 20.0, "end": 5.0, "first_epoch": 1, "epochs": 3},
            {"kind": "steps", "initial": 20.0, "factor": 0.5, "every": 2},
            {"kind": "learned"},
        )
    ),
    *({"kind": kind, "scale": {"kind": "constant", "value": 20.0}} for kind in ("soft_triple", "arcface", "cosface")),
    *({"kind": kind} for kind in ("circle", "center", "proxy_anchor", "proxy_nca", "contrastive", "triplet")),
]
LR_SCHEDULE = {"milestones": [2], "factor": 0.5, "warmup_epochs": 1, "tie_to_scale": {"reference": 12.0, "power": -0.5}}
UNTIED = {name: value for name, value in LR_SCHEDULE.items() if name != "tie_to_scale"}
WHOLES = [
    *(
        {"loss": loss, "optimizer": {"kind": "adam", "lr_schedule": LR_SCHEDULE if "scale" in loss else UNTIED}}
        for loss in LOSSES
    ),
    *({"optimizer": {"kind": kind, "lr_schedule": LR_SCHEDULE}} for kind in ("adamw", "sgd")),
    {"dataset": {"kind": "digits"}},
    {"dataset": {"kind": "omniglot"}},
    {"dataset": {"kind": "kmnist", "images_per_class": 9}},
    {"dataset": {"kind": "emnist", "images_per_class": 9}},
    {"dataset": {"kind": "cub200"}, "augment": {"kind": "random_resized_crop"}},
    {"dataset": {"kind": "cars196"}, "augment": {"kind": "random_crop"}},
    {"model": {"kind": "small_resnet"}},
    {"model": {"kind": "efficientnet_lite0"}},
    {"model": {"kind": "timm", "architecture": "resnet18", "weights": {"kind": "imagenet"}}},
    {
        "model": {
            "kind": "torchvision",
            "architecture": "googlenet",
            "weights": {"kind": "file", "path": "w", "sha256": "0" * 64},
        }
    },
    {"dataset": {"kind": "sop"}, "augment": {"kind": "none"}},
    {"dataset": {"kind": "image_folder", "folder": "pets", "table": "t"}, "augment": {"kind": "random_crop"}},
    {"augment": {"kind": "none"}, "batches": {"images_per_class": 4}},
    {"dataset": {"kind": "glyphs", "distortion": {"kind": "none"}}},
]


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every field of a configuration that holds no further one."""
    if isinstance(value, BaseModel):
        return [leaf for name in type(value).model_fields for leaf in leaves(getattr(value, name), (*path, name))]
    return [(path, value)]


def owner_of(trial: TrialConfig, path: tuple[str, ...]) -> BaseModel:
    node: Any = trial
    for name in path[:-1]:
        node = getattr(node, name)
    return node


def others(owner: BaseModel, name: str, value: Any) -> list[Any]:
    """Values that the field might take instead."""
    annotation = type(owner).model_fields[name].annotation
    if get_origin(annotation) is Literal:
        return [other for other in get_args(annotation) if other != value]
    found: list[Any] = [2, 224]
    match value:
        case bool():
            found = [not value]
        case int():
            found = [value + 1, value * 2, value + 4]
        case float():
            found = [value * 0.5, value + 0.25, 0.5]
        case tuple():
            found = [value[:-1], (*value, 3), (3,), ("images_background",), (0.5, 0.75), (0.5, 0.75, 0.25)]
        case str():
            found = ["other", "1" * 64]
    return [other for other in found if other != value]


def changed(trial: TrialConfig, path: tuple[str, ...], other: Any) -> TrialConfig:
    raw = trial.model_dump(mode="json", by_alias=False)
    node = raw
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = other
    if path == ("compute", "device"):
        node["gpus"] = 1.0
    if path == ("compute", "gpus"):
        node["device"] = "cuda"
    return TrialConfig.model_validate_json(json.dumps(raw))


@pytest.mark.parametrize(
    "whole", WHOLES, ids=lambda whole: "-".join(part["kind"] for part in whole.values() if "kind" in part)
)
def test_every_field_but_the_length_matters(whole: dict[str, Any]) -> None:
    trial = a_trial(whole)
    # Where weights lie is not what they are, and how much a cache may hold not what is in it.
    without_effect = {("epochs",), ("dataset", "cache_gib"), ("model", "weights", "path")}
    if "optimizer" not in whole:  # a factor at no milestone
        without_effect |= {("optimizer", "lr_schedule", "factor"), ("optimizer", "lr_schedule", "restarts")}
    if trial.optimizer.lr_schedule.tie_to_scale is None:
        without_effect.add(("optimizer", "lr_schedule", "tie_to_scale"))
    checked = []
    for path, value in leaves(trial):
        if path[-1] == "kind" or path in without_effect:
            continue
        for other in others(owner_of(trial, path), path[-1], value):
            with contextlib.suppress(ValidationError):
                assert keys_of(changed(trial, path, other)) != keys_of(trial), path
                checked.append(path)
                break
        else:
            pytest.fail(f"{path}: no other value than {value!r} was valid")
    assert len(checked) >= 25
