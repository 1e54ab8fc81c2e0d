import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from search_spaces.datasets import Batches, Digits, Split
from search_spaces.losses import (
    AdaCos,
    Center,
    LossConfig,
    NormalizedSoftmax,
    ProxyAnchor,
    Softmax,
    SoftTriple,
    Triplet,
)
from search_spaces.models import SmallCnn
from search_spaces.schedules import ConstantScale
from search_spaces.trial_config import Measure, TrialConfig
from study.data.build import TrialData
from study.training import diagnostics
from study.training.train import Trainer, train

TRIAL = TrialConfig(
    dataset=Digits(),  # a name only: the images are the fixture's
    split=Split(train_classes=6, val_classes=4, test_classes=3),
    model=SmallCnn(channels=(4, 8), embedding_dim=8),
    loss=NormalizedSoftmax(scale=ConstantScale(value=8.0)),
    batches=Batches(size=8),
    epochs=2,
    measure=Measure(diagnostics=True, histogram_epochs=(0, 2), embedding_epochs=(1,)),
)
ANGLES = {"theta_q05", "theta_q25", "theta_q50", "theta_q75", "theta_q95", "max_other_cosine", "mean_s_p", "mean_s_n"}
PROBABILITIES = {"effective_classes", "mean_p_target", "clean_ce"}
PAIRS = {"pair_mean_s_p", "pair_mean_s_n"}
GEOMETRY = {f"proxy_cos_{what}_{name}" for what in ("mean", "var") for name in ("all", "between", "class_mean")}
PROXIES = GEOMETRY | {"proxy_cos_max", "proxy_move_degrees"}
MOVES = {"embedding_move_degrees", "grad_norm"}


def test_angles_of_a_worked_example() -> None:
    cosines = torch.tensor([[1.0, 0.0, -0.5], [0.5, 0.5, 0.2], [0.1, 0.3, 0.0]])
    metrics = diagnostics.angle_metrics(cosines, torch.tensor([0, 0, 2]))
    assert metrics["theta_q50"] == pytest.approx(60.0, abs=1e-4)  # angles 0, 60, 90
    assert metrics["theta_q05"] == pytest.approx(6.0, abs=1e-4)
    assert metrics["theta_q95"] == pytest.approx(87.0, abs=1e-4)
    assert metrics["max_other_cosine"] == pytest.approx((0.0 + 0.5 + 0.3) / 3)
    assert metrics["mean_s_p"] == pytest.approx((1.0 + 0.5 + 0.0) / 3)
    assert metrics["mean_s_n"] == pytest.approx((0.0 - 0.5 + 0.5 + 0.2 + 0.1 + 0.3) / 6)


def test_effective_classes_of_the_thesis_vector() -> None:
    values = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    for scale, effective, target in ((1.0, 3.9752, 0.2887), (5.0, 3.4731, 0.4551), (10.0, 2.5793, 0.6439)):
        metrics = diagnostics.probability_metrics(values, torch.tensor([3]), scale)
        assert metrics["effective_classes"] == pytest.approx(effective, abs=5e-5)
        assert metrics["mean_p_target"] == pytest.approx(target, abs=5e-5)
        assert metrics["clean_ce"] == pytest.approx(-math.log(metrics["mean_p_target"]))


def test_a_large_scale_gives_no_nan() -> None:
    metrics = diagnostics.probability_metrics(torch.tensor([[1.0, -1.0]]), torch.tensor([0]), 1000.0)
    assert metrics == {"effective_classes": 1.0, "mean_p_target": 1.0, "clean_ce": 0.0}


def test_pair_means_are_means_over_all_pairs() -> None:
    embeddings = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3])
    unit = F.normalize(embeddings, dim=1)
    pairs = [(i, j) for i in range(9) for j in range(i)]
    same = [float(unit[i] @ unit[j]) for i, j in pairs if labels[i] == labels[j]]
    other = [float(unit[i] @ unit[j]) for i, j in pairs if labels[i] != labels[j]]
    metrics = diagnostics.pair_metrics(embeddings, labels)
    assert metrics["pair_mean_s_p"] == pytest.approx(np.mean(same), abs=1e-6)
    assert metrics["pair_mean_s_n"] == pytest.approx(np.mean(other), abs=1e-6)


def test_pairs_that_do_not_exist_are_left_out() -> None:
    assert set(diagnostics.pair_metrics(torch.ones(3, 2), torch.tensor([0, 1, 2]))) == {"pair_mean_s_n"}
    assert set(diagnostics.pair_metrics(torch.ones(3, 2), torch.tensor([0, 0, 0]))) == {"pair_mean_s_p"}


def test_proxy_geometry_of_a_worked_example() -> None:
    # Class 0: (1,0) and (0,1); class 1: (1,0) twice. All pairs: 0 within class 0, 1 within class 1, between 1 1 0 0.
    proxies = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    metrics = diagnostics.proxy_metrics(proxies)
    assert metrics["proxy_cos_mean_all"] == pytest.approx(0.5)
    assert metrics["proxy_cos_var_all"] == pytest.approx(0.25)
    assert metrics["proxy_cos_mean_between"] == pytest.approx(0.5)
    assert metrics["proxy_cos_var_between"] == pytest.approx(0.25)
    assert metrics["proxy_cos_mean_class_mean"] == pytest.approx(math.sqrt(0.5))
    assert metrics["proxy_cos_var_class_mean"] == pytest.approx(0.0, abs=1e-12)
    assert metrics["proxy_cos_max"] == pytest.approx(1.0)


def test_random_proxies_have_a_variance_of_one_over_d() -> None:
    proxies = F.normalize(torch.randn(100, 10, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    metrics = diagnostics.proxy_metrics(proxies)
    assert abs(metrics["proxy_cos_var_all"] - 1 / 64) < 3 * 3.05e-5
    assert abs(metrics["proxy_cos_var_class_mean"] - 1 / 64) < 3 * 0.00031


def test_rows_taken_in_blocks_count_each_pair_once(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies = F.normalize(torch.randn(7, 3, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    whole = diagnostics.proxy_histograms(proxies)
    monkeypatch.setattr(diagnostics, "_ROWS", 4)
    blocks = diagnostics.proxy_histograms(proxies)
    assert {name: counts.sum() for name, counts in blocks.items()} == {
        "proxy_cos_hist_all": 21 * 20 / 2,
        "proxy_cos_hist_between": 21 * 20 / 2 - 7 * 3,
        "proxy_cos_hist_class_mean": 21,
    }
    for name, counts in blocks.items():
        assert counts.dtype == np.int64
        assert counts.shape == (200,)
        assert (counts == whole[name]).all()


def test_a_cosine_rounded_above_one_falls_in_the_last_bin() -> None:
    proxies = torch.full((2, 1, 2), math.sqrt(0.5) + 1e-7)
    assert diagnostics.proxy_histograms(proxies)["proxy_cos_hist_all"].tolist() == [0] * 199 + [1]


def test_movement_is_an_angle() -> None:
    before = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    after = torch.tensor([[5.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    assert diagnostics.move_degrees(before, after) == pytest.approx(45.0)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (TRIAL.loss, ANGLES | PROBABILITIES | PAIRS | PROXIES | MOVES),
        (SoftTriple(scale=ConstantScale(value=20.0)), ANGLES | PROBABILITIES | PAIRS | PROXIES | MOVES),
        (AdaCos(mode="dynamic"), ANGLES | PROBABILITIES | PAIRS | PROXIES | MOVES),
        (ProxyAnchor(), ANGLES | PAIRS | PROXIES | MOVES),
        (Softmax(), PROBABILITIES | PAIRS | MOVES),
        (Center(), PROBABILITIES | PAIRS | MOVES),
        (Triplet(), PAIRS | MOVES),
    ],
    ids=lambda value: value.kind if not isinstance(value, set) else "",
)
def test_each_loss_has_the_diagnostics_that_exist_for_it(loss: LossConfig, expected: set[str], data: TrialData) -> None:
    untrained, first, last = train(TRIAL.replace(loss=loss), 0, data)
    every = ANGLES | PROBABILITIES | PAIRS | PROXIES | MOVES
    assert set(untrained.result.metrics) & every == expected - {"grad_norm", "proxy_move_degrees"} - MOVES
    assert set(first.result.metrics) & every == set(last.result.metrics) & every == expected


def test_arrays_are_kept_at_the_epochs_asked_for(data: TrialData) -> None:
    trial = TRIAL.replace(loss=SoftTriple(scale=ConstantScale(value=20.0), proxies_per_class=2))
    untrained, first, last = train(trial, 0, data)
    histograms = {f"proxy_cos_hist_{name}" for name in ("all", "between", "class_mean")}
    assert set(untrained.arrays) == histograms
    assert set(first.arrays) == {
        *("val_embeddings", "val_labels", "train_embeddings", "train_labels", "proxies", "loss_weight")
    }
    assert first.arrays["val_embeddings"].shape == (24, 8)
    assert first.arrays["proxies"].shape == (6, 2, 8)
    assert histograms < set(last.arrays)


def test_the_untrained_network_is_measured_only_before_training(data: TrialData) -> None:
    trainer = Trainer(TRIAL, 0, data)
    measured = trainer.untrained()
    assert measured.result.epochs_done == 0
    assert measured.result.metrics["scale"] == 8.0
    assert "loss" not in measured.result.metrics
    trainer.run_epoch()
    with pytest.raises(ValueError, match="has trained 1 epochs"):
        trainer.untrained()


def test_diagnosing_changes_no_bit_of_training(data: TrialData) -> None:
    plain = list(train(TRIAL.replace(measure=Measure()), 0, data))
    diagnosed = list(train(TRIAL, 0, data))[1:]
    for one, two in zip(plain, diagnosed, strict=True):
        assert one.result.metrics.items() <= two.result.metrics.items()


def test_the_gradient_norm_is_that_of_the_network(data: TrialData) -> None:
    trainer = Trainer(TRIAL.replace(batches=Batches(size=36)), 0, data)
    reference = Trainer(TRIAL.replace(batches=Batches(size=36)), 0, data)
    ((images, labels),) = reference._batches(0)
    reference.loss(reference.model(images), labels, 8.0).loss.backward()
    squares = [
        parameter.grad.square().sum() for parameter in reference.model.parameters() if parameter.grad is not None
    ]
    expected = float(torch.stack(squares).sum().sqrt())
    assert trainer.run_epoch().result.metrics["grad_norm"] == pytest.approx(expected, rel=1e-5)
