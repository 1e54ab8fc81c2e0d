from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch.autograd import grad, gradcheck

from study.losses.proxy_anchor import ProxyAnchorLoss, kaiming_normal, proxy_anchor

if TYPE_CHECKING:
    from tests.study.losses.conftest import ProxyBatch


def with_a_fourth_proxy(batch: ProxyBatch) -> torch.Tensor:
    return torch.cat([batch.proxies, torch.tensor([[0, -1]], dtype=torch.float64)])


def slow_terms(cosines: list[list[float]], labels: list[int], alpha: float, delta: float) -> tuple[float, float]:
    pull, push, with_sample = 0.0, 0.0, 0
    for c in range(len(cosines[0])):
        own = [row[c] for row, label in zip(cosines, labels, strict=True) if label == c]
        other = [row[c] for row, label in zip(cosines, labels, strict=True) if label != c]
        with_sample += bool(own)
        pull += math.log1p(sum(math.exp(-alpha * (cos - delta)) for cos in own))
        push += math.log1p(sum(math.exp(alpha * (cos + delta)) for cos in other))
    return pull / with_sample, push / len(cosines[0])


@pytest.mark.parametrize(
    ("labels", "alpha", "expected"),
    [
        ("easy", 32, 12.0099883639),
        ("easy", 4, 1.78581626138),
        ("hard", 32, 57.6000000013),
        ("hard", 4, 7.29936270345),
    ],
)
def test_loss_by_hand(proxy_batch: ProxyBatch, labels: str, alpha: float, expected: float) -> None:
    loss = ProxyAnchorLoss(with_a_fourth_proxy(proxy_batch), alpha=alpha, delta=0.1)
    output = loss(proxy_batch.embeddings, proxy_batch.labels(labels), None)
    assert output.loss.item() == pytest.approx(expected, rel=1e-11)
    cosines = (proxy_batch.embeddings @ with_a_fourth_proxy(proxy_batch).T).tolist()
    slow = slow_terms(cosines, proxy_batch.labels(labels).tolist(), alpha, 0.1)
    assert output.loss.item() == pytest.approx(sum(slow), rel=1e-12)


def test_pull_and_push_by_hand(proxy_batch: ProxyBatch) -> None:
    cosines = (proxy_batch.embeddings @ with_a_fourth_proxy(proxy_batch).T).tolist()
    found = slow_terms(cosines, proxy_batch.easy.tolist(), 4, 0.1)
    assert found == pytest.approx((0.0483409151947, 1.73747534619), rel=1e-11)
    assert slow_terms(cosines, proxy_batch.easy.tolist(), 32, 0.1) == pytest.approx(
        (1.2476e-10, 12.0099883638), rel=1e-4
    )


def test_a_proxy_without_a_sample_is_pushed_but_not_pulled(proxy_batch: ProxyBatch) -> None:
    cosines = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = grad(proxy_anchor(cosines, torch.tensor([0, 0, 1]), 4.0, 0.1), cosines)
    assert (gradient[:, 2:] > 0).all()
    assert (gradient[[0, 1, 2], [0, 0, 1]] < 0).all()


def test_passes_gradcheck(generator: torch.Generator) -> None:
    cosines = torch.rand(4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda cos: proxy_anchor(cos, torch.tensor([0, 1, 1, 4]), 8.0, 0.1), cosines)


def test_initial_proxies_are_the_authors(generator: torch.Generator) -> None:
    found = kaiming_normal(100, 64, generator)
    assert found.shape == (100, 64)
    assert found.std().item() == pytest.approx(math.sqrt(2 / 100), rel=0.03)
