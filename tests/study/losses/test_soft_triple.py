from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor
from torch.autograd import grad, gradcheck

from study.losses.base import LossOutput
from study.losses.proxies import unit
from study.losses.soft_triple import (
    SoftTripleLoss,
    hard_similarities,
    kaiming_proxies,
    merging_regularizer,
    proxy_pairs,
    soft_similarities,
    xavier_proxies,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.study.losses.conftest import ProxyBatch

    Draw = Callable[[int, int, int, torch.Generator], Tensor]

EMBEDDINGS = torch.tensor([[0.6, 0.8], [0.8, 0.6]], dtype=torch.float64)
PROXIES = torch.tensor([[[1, 0], [0, 1]], [[-1, 0], [0.6, -0.8]]], dtype=torch.float64).transpose(0, 1)


def a_loss(
    proxies: Tensor = PROXIES, *, gamma: float = 0.1, delta: float = 0.01, tau: float = 0.2, hard: bool = False
) -> SoftTripleLoss:
    return SoftTripleLoss(proxies.clone(), None, gamma=gamma, delta=delta, tau=tau, hard=hard)


def test_similarities_by_hand() -> None:
    found = a_loss().similarities(EMBEDDINGS)
    assert found is not None
    assert found.flatten().tolist() == pytest.approx(
        [0.776159415596, -0.292533031295, 0.776159415596, -0.000268280104373], rel=1e-11
    )


@pytest.mark.parametrize(
    ("scale", "labels", "ce", "total"),
    [
        (20, [0, 0], 1.1043796e-07, 0.160153824187),
        (20, [1, 1], 18.6512014999, 18.8113552137),
        (5, [0, 1], 1.97828115193, 2.13843486567),
    ],
)
def test_loss_by_hand(scale: float, labels: list[int], ce: float, total: float) -> None:
    output = a_loss()(EMBEDDINGS, torch.tensor(labels), scale)
    assert output.parts["ce"].item() == pytest.approx(ce, rel=1e-7)
    assert output.loss.item() == pytest.approx(total, rel=1e-11)
    assert (output.parts["ce"] + output.parts["regularizer"]).item() == pytest.approx(total, rel=1e-11)
    torch.testing.assert_close(output.similarities, a_loss().similarities(EMBEDDINGS))


def test_the_regularizer_counts_each_pair_once() -> None:
    assert 0.2 * merging_regularizer(PROXIES, proxy_pairs(2), eps=0).item() == pytest.approx(0.160153397219, rel=1e-11)


def test_the_loss_without_regularizer_and_its_limits_by_hand() -> None:
    labels = torch.tensor([0, 1])
    assert a_loss(tau=0)(EMBEDDINGS, labels, 20.0).loss.item() == pytest.approx(7.86427703113, rel=1e-11)
    assert a_loss(tau=0, hard=True)(EMBEDDINGS, labels, 20.0).loss.item() == pytest.approx(8.10000004632, rel=1e-11)
    mean = a_loss(tau=0, gamma=1e9)(EMBEDDINGS, labels, 20.0).loss.item()
    assert mean == pytest.approx(11.1000000002, rel=1e-8)


def test_equals_slow_loops(generator: torch.Generator) -> None:
    classes, per_class, gamma, delta, tau, scale = 4, 3, 0.2, 0.05, 0.3, 6.0
    embeddings = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    proxies = torch.randn(per_class, classes, 6, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 1])

    def cos(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)

    w = proxies.transpose(0, 1).tolist()
    ce = 0.0
    for x, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        logits = []
        for c in range(classes):
            found = [cos(x, w[c][k]) for k in range(per_class)]
            weights = [math.exp(value / gamma) for value in found]
            mixed = sum(weight * value for weight, value in zip(weights, found, strict=True)) / sum(weights)
            logits.append(scale * (mixed - (delta if c == label else 0)))
        ce += math.log(sum(map(math.exp, logits))) - logits[label]
    distances = [
        math.sqrt(2 + 1e-5 - 2 * cos(w[c][t], w[c][u])) for c in range(classes) for t, u in combinations(range(3), 2)
    ]
    expected = ce / 5 + tau * sum(distances) / (classes * per_class * (per_class - 1))
    found = a_loss(proxies, gamma=gamma, delta=delta, tau=tau)(embeddings, labels, scale).loss
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_one_proxy_per_class_is_a_cosine_softmax_with_margin(proxy_batch: ProxyBatch) -> None:
    loss = a_loss(proxy_batch.proxies[None], delta=0.35, tau=0.2)(proxy_batch.embeddings, proxy_batch.easy, 10.0)
    assert loss.loss.item() == pytest.approx(0.567650647416, rel=1e-11)  # CosFace, by hand
    assert loss.parts["regularizer"].item() == 0


def test_the_gradient_flows_through_the_weights() -> None:
    cosines = torch.tensor([[[0.3], [0.5], [-0.2]]], dtype=torch.float64, requires_grad=True)
    (gradient,) = grad(soft_similarities(cosines, 0.1).sum(), cosines)
    weights = torch.softmax(cosines.detach() / 0.1, 1)
    similarity = (weights * cosines.detach()).sum()
    expected = weights * (1 + (cosines.detach() - similarity) / 0.1)
    torch.testing.assert_close(gradient, expected)
    assert not torch.allclose(expected, weights)  # what detached weights would give


def test_hard_triple_moves_the_best_proxy_only() -> None:
    cosines = torch.tensor([[[0.3, 0.1], [0.5, 0.1]]], dtype=torch.float64, requires_grad=True)
    (gradient,) = grad(hard_similarities(cosines).sum(), cosines)
    assert gradient[0, :, 0].tolist() == [0, 1]
    assert sorted(gradient[0, :, 1].tolist()) == [0, 1]  # a tie has one winner


@pytest.mark.parametrize("hard", [False, True])
def test_passes_gradcheck(hard: bool, generator: torch.Generator) -> None:
    embeddings = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    loss = a_loss(torch.randn(2, 3, 4, generator=generator, dtype=torch.float64), hard=hard)

    def value(x: Tensor, weight: Tensor) -> Tensor:
        output: LossOutput = torch.func.functional_call(loss, {"weight": weight}, (x, torch.tensor([0, 1, 2]), 5.0))
        return output.loss

    assert gradcheck(value, (embeddings, loss.weight.detach().clone().requires_grad_()))


def test_merged_proxies_have_a_finite_gradient() -> None:
    for dtype in (torch.float32, torch.float64):
        proxies = torch.full((3, 2, 4), 0.3, dtype=dtype, requires_grad=True)
        value = merging_regularizer(unit(proxies), proxy_pairs(3))
        assert value.item() == pytest.approx(math.sqrt(1e-5) / 2, rel=1e-2)
        assert grad(value, proxies)[0].isfinite().all()


def test_merged_proxies_whose_cosine_is_rounded_above_one_give_a_finite_regularizer() -> None:
    proxies = torch.full((3, 2, 4), 0.505, dtype=torch.float64)  # of squared length 1.02
    assert merging_regularizer(proxies, proxy_pairs(3)).item() == pytest.approx(math.sqrt(1e-5) / 2, rel=1e-6)


def test_the_regularizer_pulls_proxies_of_one_class_together(generator: torch.Generator) -> None:
    proxies = torch.randn(4, 3, 5, generator=generator, requires_grad=True)
    before = merging_regularizer(unit(proxies), proxy_pairs(4))
    (gradient,) = grad(before, proxies)
    assert merging_regularizer(unit(proxies.detach() - 0.1 * gradient), proxy_pairs(4)) < before


def test_its_regularizer_is_at_most_that_of_orthogonal_proxies(generator: torch.Generator) -> None:
    orthogonal = torch.eye(4, dtype=torch.float64)[:, None]
    assert 0.2 * merging_regularizer(orthogonal, proxy_pairs(4)).item() == pytest.approx(0.1414, abs=5e-5)


@pytest.mark.parametrize(
    ("draw", "bound"), [(kaiming_proxies, 1 / math.sqrt(1000)), (xavier_proxies, math.sqrt(6 / 1064))]
)
def test_initial_proxies_fill_their_bound(draw: Draw, bound: float, generator: torch.Generator) -> None:
    proxies = draw(100, 10, 64, generator)
    assert proxies.shape == (10, 100, 64)
    assert 0.999 * bound < proxies.abs().max() <= bound
    # The root mean square coordinate, which sets how far one Adam step turns a proxy.
    assert proxies.square().mean().sqrt().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_proxies_are_unit_vectors_by_class() -> None:
    found = a_loss(3 * PROXIES).proxies()
    assert found is not None
    torch.testing.assert_close(found, PROXIES.transpose(0, 1))
    assert not found.requires_grad


def test_refuses_two_dimensions() -> None:
    with pytest.raises(ValueError, match="D=3, proxies D=2"):
        a_loss()(torch.ones(1, 3, dtype=torch.float64), torch.tensor([0]), 20.0)
