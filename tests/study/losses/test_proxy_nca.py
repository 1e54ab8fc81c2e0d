from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch.autograd import gradcheck

from study.losses.proxy_nca import ProxyNcaLoss, proxy_nca
from study.losses.softmax import normalized_softmax

if TYPE_CHECKING:
    from tests.study.losses.conftest import ProxyBatch


@pytest.mark.parametrize(
    ("labels", "sigma", "original", "with_target"),
    [
        ("easy", 1, -1.49107352813, 0.262814852765),
        ("hard", 1, 2.4753047235, 2.66281485277),
        ("easy", 9, -15.5910142971, 0.00898570275365),
        ("hard", 9, 21.6000000051, 21.6089857028),
    ],
)
def test_loss_by_hand(proxy_batch: ProxyBatch, labels: str, sigma: float, original: float, with_target: float) -> None:
    for variant, expected in ((False, original), (True, with_target)):
        loss = ProxyNcaLoss(proxy_batch.proxies, sigma=sigma, with_target=variant)
        output = loss(proxy_batch.embeddings, proxy_batch.labels(labels), None)
        assert output.loss.item() == pytest.approx(expected, rel=1e-11)
        torch.testing.assert_close(output.similarities, proxy_batch.cosines)


@pytest.mark.parametrize("with_target", [False, True])
def test_equals_slow_loops(with_target: bool, generator: torch.Generator) -> None:
    embeddings = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    proxies = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 1])
    total = 0.0
    for x, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        x = [value / math.hypot(*x) for value in x]
        distances = [math.dist(x, [value / math.hypot(*w) for value in w]) ** 2 for w in proxies.tolist()]
        rest = [math.exp(-2 * d) for c, d in enumerate(distances) if with_target or c != label]
        total += 2 * distances[label] + math.log(sum(rest))
    loss = ProxyNcaLoss(proxies, sigma=2, with_target=with_target)(embeddings, labels, None).loss
    assert loss.item() == pytest.approx(total / 5, rel=1e-12)


def test_with_target_is_cosine_softmax_at_twice_sigma(generator: torch.Generator) -> None:
    cosines = 2 * torch.rand(6, 5, generator=generator, dtype=torch.float64) - 1
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    torch.testing.assert_close(proxy_nca(cosines, labels, 9, True), normalized_softmax(cosines, labels, 18))


@pytest.mark.parametrize("with_target", [False, True])
def test_passes_gradcheck(with_target: bool, generator: torch.Generator) -> None:
    cosines = torch.rand(4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda cos: proxy_nca(cos, torch.tensor([0, 1, 1, 4]), 3.0, with_target), cosines)
