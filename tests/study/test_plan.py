"""What check prints."""

from __future__ import annotations

from typing import Any

from search_spaces.load import parse_study
from study.plan import describe, rung_warnings, workloads

TRIAL: dict[str, Any] = {
    "dataset": {"kind": "glyphs"},
    "split": {"train_classes": 10, "val_classes": 5, "test_classes": 5},
    "loss": {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": 20}},
    "epochs": 12,
}


def a_search(vary: dict[str, Any], grace: int) -> Any:
    scheduler = {"kind": "asha", "grace_epochs": grace, "factor": 2}
    search = {"sampler": {"kind": "random"}, "scheduler": scheduler, "max_trials": 8}
    confirm = {"best": 2, "seeds": [101, 102], "baselines": [{"name": "constant 20"}]}
    return parse_study({"trial": TRIAL, "vary": vary, "search": search, "confirm": confirm}, "a", "a")


def test_a_fixed_plan_is_counted_with_its_shared_stages() -> None:
    switch = {"kind": "switch", "before": 20, "after": 5, "switch_epoch": 8}
    cases = [{"name": "constant"}, {"name": "switch", "loss.scale": switch}]
    lines = describe(parse_study({"trial": TRIAL, "cases": cases, "seeds": [0, 1, 2]}, "plan", "plan"), slots=2)
    assert lines[:3] == [
        "plan",
        "trials: 6 (2 configurations x 3 seeds)",
        "epochs: 48 trained of 72 asked (9 stages; configurations that begin alike share them); the longest chain has "
        "12",
    ]


def test_a_search_is_counted_with_its_confirmation() -> None:
    vary = {"loss.scale.value": {"kind": "float", "low": 1, "high": 64}}
    lines = describe(a_search(vary, grace=3), slots=2)
    assert lines[1] == "trials: at most 8 proposals by random, seed 0"
    assert "confirm: 6 trials (best 2 and 1 baselines x 2 seeds), test classes for the first time" in lines
    assert f"epochs: at most {(8 + 6) * 12}" in lines
    assert not any(line.startswith("warning") for line in lines)


def test_a_rung_before_configurations_differ_is_warned_of() -> None:
    after = {"kind": "float", "low": 1, "high": 10}
    vary = {"loss.scale": [{"kind": "switch", "before": 20, "after": after, "switch_epoch": 5}]}
    warnings = rung_warnings(a_search(vary, grace=2))
    assert [line.split(" lies")[0] for line in warnings] == ["the rung at epoch 2", "the rung at epoch 4"]
    assert rung_warnings(a_search(vary, grace=6)) == []


def test_a_rung_inside_a_ramp_is_warned_of() -> None:
    end = {"kind": "float", "low": 1, "high": 10}
    ramp = {"kind": "linear", "start": 20, "end": end, "first_epoch": 2, "epochs": 6}
    vary = {"loss.scale": [ramp], "optimizer.lr": {"kind": "float", "low": 0.001, "high": 0.01}}
    warnings = rung_warnings(a_search(vary, grace=6))
    assert warnings == [
        "the rung at epoch 6 lies inside a ramp of the scale (epochs 3 to 8), where Recall is not yet what it will be; "
        "move one of them"
    ]


def test_the_cost_of_what_was_never_timed_is_not_made_up() -> None:
    resnet = parse_study({"trial": {**TRIAL, "model": {"kind": "small_resnet"}}}, "plan", "plan")
    assert describe(resnet, slots=2)[-1] == (
        "cost: not known for small_resnet on cpu; `check --measure` times an epoch here"
    )
    # 12 epochs of 10 s follow one another, so a second worker does not help.
    assert describe(resnet, slots=2, epoch_s=10.0)[-1] == (
        "cost: about 2 min on 2 workers of 1 thread (10 s an epoch, measured here)"
    )
    on_gpu = parse_study({"trial": {**TRIAL, "compute": {"device": "cuda", "gpus": 0.5}}}, "plan", "plan")
    assert describe(on_gpu, slots=2, epoch_s=1800.0)[-1] == (
        "cost: about 6.0 h on one GPU, one trial at a time (1.8e+03 s an epoch, measured here)"
    )


def test_each_kind_of_epoch_counts_by_its_share() -> None:
    def plan(*cases: dict[str, Any]) -> Any:
        named = [{"name": str(place), **case} for place, case in enumerate(cases)]
        return parse_study({"trial": {**TRIAL, "epochs": 1000}, "cases": named}, "plan", "plan")

    # 12 images a class, 0.6 ms each: 0.072 s an epoch for 10 classes, 0.216 s for 30; a quarter of the epochs is such.
    mixed = plan({}, {"loss.scale.value": 5, "epochs": 2000}, {"split.train_classes": 30})
    assert [share for _, share in workloads(mixed)] == [0.75, 0.25]
    assert describe(mixed, slots=1)[-1] == "cost: about 7 min on 1 workers of 1 thread (small CNN, CPU)"
    assert describe(mixed, slots=1, epoch_s=0.108)[-1].endswith("(0.108 s an epoch, measured here over 2 kinds)")
    other = plan({}, {"model": {"kind": "small_resnet"}})
    assert describe(other, slots=1)[-1].startswith("cost: not known for small_resnet on cpu")
