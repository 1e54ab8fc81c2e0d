from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.autograd import grad

from search_spaces.losses import adacos_fixed_scale
from study.losses.adacos import AdaCosDynamicLoss, AdaCosFixedLoss, dynamic_scale
from study.losses.base import Diverged
from study.losses.softmax import normalized_softmax

if TYPE_CHECKING:
    from tests.study.losses.conftest import ProxyBatch

START = math.sqrt(2) * math.log(2)


def scales(cosines: Tensor, labels: Tensor, steps: int) -> list[float]:
    scale = torch.tensor(START, dtype=torch.float64)
    found = []
    for _ in range(steps):
        scale = dynamic_scale(cosines, labels, scale)
        found.append(scale.item())
    return found


def dynamic_loss(proxies: Tensor) -> AdaCosDynamicLoss:
    loss = AdaCosDynamicLoss(proxies, START).double()
    loss.scale.fill_(START)  # float32 until here
    return loss


def test_the_fixed_scale_is_the_papers_not_the_one_the_thesis_prints() -> None:
    assert adacos_fixed_scale(3) == pytest.approx(0.980258143469, abs=1e-12)
    found = [round(adacos_fixed_scale(classes), 4) for classes in (10, 98, 100, 121, 1000)]
    assert found == [3.1073, 6.4696, 6.4985, 6.7705, 9.7676]


@pytest.mark.parametrize(("labels", "expected"), [("easy", 0.508663980567), ("hard", 1.68497375273)])
def test_fixed_loss_by_hand(proxy_batch: ProxyBatch, labels: str, expected: float) -> None:
    loss = AdaCosFixedLoss(proxy_batch.proxies, START)
    found = loss(proxy_batch.embeddings, proxy_batch.labels(labels), None).loss
    assert found.item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(
    ("labels", "first", "second", "loss_at_first"),
    [("easy", 0.572588015796, 0.644768125812, 0.699079863687), ("hard", 1.56280583208, 2.12000363802, 2.213754326)],
)
def test_dynamic_scale_and_loss_by_hand(
    proxy_batch: ProxyBatch, labels: str, first: float, second: float, loss_at_first: float
) -> None:
    found = scales(proxy_batch.cosines, proxy_batch.labels(labels), 2)
    assert found == pytest.approx([first, second], rel=1e-11)
    loss = dynamic_loss(proxy_batch.proxies)
    output = loss(proxy_batch.embeddings, proxy_batch.labels(labels), None)
    assert loss.scale.item() == pytest.approx(first, rel=1e-11)
    assert output.loss.item() == pytest.approx(loss_at_first, rel=1e-9)


def test_frozen_easy_embeddings_settle_and_hard_ones_run_away(proxy_batch: ProxyBatch) -> None:
    assert scales(proxy_batch.cosines, proxy_batch.easy, 200)[-1] == pytest.approx(0.630108813677, abs=1e-12)
    assert scales(proxy_batch.cosines, proxy_batch.hard, 12)[-1] == pytest.approx(25.804463, abs=5e-7)


def test_dynamic_scale_equals_slow_loops(generator: torch.Generator) -> None:
    cosines = 2 * torch.rand(6, 5, generator=generator, dtype=torch.float64) - 1
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    sums, angles = [], []
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        sums.append(sum(math.exp(3 * cos) for k, cos in enumerate(row) if k != label))
        angles.append(math.acos(row[label]))
    expected = math.log(sum(sums) / 6) / math.cos(min(math.pi / 4, statistics.median_low(angles)))
    found = dynamic_scale(cosines, labels, torch.tensor(3.0, dtype=torch.float64))
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_the_parts_of_the_first_step_by_hand(proxy_batch: ProxyBatch) -> None:
    others = (START * proxy_batch.cosines).exp().scatter(1, proxy_batch.easy[:, None], 0)
    assert others.sum(1).tolist() == pytest.approx([2.35601394606, 1.01183279555, 1.37521422725], rel=1e-11)
    angles = proxy_batch.cosines.gather(1, proxy_batch.easy[:, None]).acos().rad2deg()
    assert angles.median().item() == pytest.approx(36.8698976, abs=1e-7)


def test_the_gradient_is_that_of_a_constant_scale(proxy_batch: ProxyBatch) -> None:
    embeddings = proxy_batch.embeddings.clone().requires_grad_()
    loss = dynamic_loss(proxy_batch.proxies)
    (dynamic,) = grad(loss(embeddings, proxy_batch.easy, None).loss, embeddings)
    constant_loss = AdaCosFixedLoss(proxy_batch.proxies, loss.scale.item())
    (constant,) = grad(constant_loss(embeddings, proxy_batch.easy, None).loss, embeddings)
    assert torch.equal(dynamic, constant)
    assert dynamic[0].tolist() == pytest.approx([0.0756010901, -0.0567008175], abs=1e-10)


def test_evaluation_uses_the_scale_and_leaves_it_alone(proxy_batch: ProxyBatch) -> None:
    loss = dynamic_loss(proxy_batch.proxies)
    loss(proxy_batch.embeddings, proxy_batch.easy, None)
    scale = loss.scale.clone()
    output = loss.eval()(proxy_batch.embeddings, proxy_batch.hard, None)
    assert torch.equal(loss.scale, scale)
    assert output.similarities is not None
    assert torch.equal(output.loss, normalized_softmax(output.similarities, proxy_batch.hard, scale))


def test_a_step_does_not_spoil_the_graph_of_the_one_before(proxy_batch: ProxyBatch) -> None:
    embeddings = proxy_batch.embeddings.clone().requires_grad_()
    loss = dynamic_loss(proxy_batch.proxies)
    first, second = (loss(embeddings, proxy_batch.easy, None).loss for _ in range(2))
    assert grad(first + second, embeddings)[0].isfinite().all()


def test_epoch_metrics_are_the_mean_and_last_scale_of_training_steps(proxy_batch: ProxyBatch) -> None:
    loss = dynamic_loss(proxy_batch.proxies)
    for _ in range(2):
        loss(proxy_batch.embeddings, proxy_batch.easy, None)
    assert loss.epoch_metrics() == pytest.approx(
        {"scale": (0.572588015796 + 0.644768125812) / 2, "scale_last": 0.644768125812}, rel=1e-11
    )
    loss.eval()(proxy_batch.embeddings, proxy_batch.easy, None)
    assert loss.epoch_metrics() == {}


def test_a_runaway_scale_ends_the_trial_with_its_reason(proxy_batch: ProxyBatch) -> None:
    loss = dynamic_loss(proxy_batch.proxies)
    healthy = [scale for scale in scales(proxy_batch.cosines, proxy_batch.hard, 20) if scale <= 100 * START]
    assert 12 < len(healthy) < 20
    for scale in healthy:
        loss(proxy_batch.embeddings, proxy_batch.hard, None)
        assert loss.scale.item() == pytest.approx(scale)
    with pytest.raises(Diverged, match=r"ran away: .* is above 98\.0258"):
        loss(proxy_batch.embeddings, proxy_batch.hard, None)


def test_a_scale_of_zero_or_less_ends_the_trial_with_its_reason() -> None:
    # Three classes at 120 degrees, every sample on its proxy: ln(B_avg) = ln(2 exp(-s/2)) falls to 0 at s = 2 ln 2.
    angles = torch.tensor([0, 2, 4], dtype=torch.float64) * math.pi / 3
    proxies = torch.stack([angles.cos(), angles.sin()], dim=1)
    loss = dynamic_loss(proxies)
    loss.scale.fill_(1.5)
    with pytest.raises(Diverged, match="all other classes are repelled"):
        loss(proxies, torch.tensor([0, 1, 2]), None)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_scale_that_is_not_finite_ends_the_trial(proxy_batch: ProxyBatch, bad: float) -> None:
    loss = dynamic_loss(proxy_batch.proxies)
    embeddings = proxy_batch.embeddings.clone()
    embeddings[0, 0] = bad
    with pytest.raises(Diverged, match="became nan"):
        loss(embeddings, proxy_batch.easy, None)


def test_random_directions_settle_at_the_fixed_point_of_theory(generator: torch.Generator) -> None:
    # C = 100, D = 64: s* = 7.0434, the fixed point of sqrt(2) ln(99 E exp(s cos)) for random directions.
    embeddings = torch.nn.functional.normalize(torch.randn(500, 64, generator=generator, dtype=torch.float64))
    proxies = torch.nn.functional.normalize(torch.randn(100, 64, generator=generator, dtype=torch.float64))
    labels = torch.randint(100, (500,), generator=generator)
    scale = torch.tensor(adacos_fixed_scale(100), dtype=torch.float64)
    for _ in range(20):
        scale = dynamic_scale(embeddings @ proxies.T, labels, scale)
    assert scale.item() == pytest.approx(7.0434, rel=0.01)


def test_a_large_scale_does_not_overflow(proxy_batch: ProxyBatch) -> None:
    cosines = proxy_batch.cosines.float()
    found = dynamic_scale(cosines, proxy_batch.easy, torch.tensor(200.0))
    assert found.item() == pytest.approx((200 * 0.6 - math.log(3)) / 0.8, rel=1e-4)
