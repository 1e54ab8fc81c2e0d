from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch.autograd import grad, gradcheck

from study.losses.proxies import cosines
from study.losses.softmax import NormalizedSoftmaxLoss, SoftmaxLoss, normalized_softmax

if TYPE_CHECKING:
    from tests.study.losses.conftest import ProxyBatch


def test_plain_softmax_on_given_logits() -> None:
    loss = SoftmaxLoss(torch.eye(3, dtype=torch.float64))
    logits = torch.tensor([[2, 1, 0], [0, 0, 0], [1, 1, 3]], dtype=torch.float64)
    output = loss(logits, torch.tensor([0, 0, 2]), None)
    assert output.loss.item() == pytest.approx(0.581921006445, abs=1e-12)
    torch.testing.assert_close(output.similarities, logits)


def test_plain_softmax_of_equal_logits_is_the_logarithm_of_the_class_count() -> None:
    loss = SoftmaxLoss(torch.zeros(7, 2, dtype=torch.float64))
    assert loss(torch.ones(3, 2, dtype=torch.float64), torch.tensor([0, 3, 6]), None).loss.item() == pytest.approx(
        math.log(7), abs=1e-12
    )


def test_plain_softmax_adds_its_bias_and_normalizes_nothing() -> None:
    loss = SoftmaxLoss(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
    with torch.no_grad():
        loss.bias.copy_(torch.tensor([0.5, 0.0]))
    assert loss.logits(torch.tensor([[2.0, 3.0]])).tolist() == [[8.5, -3.0]]
    assert loss.proxies() is None


@pytest.mark.parametrize(
    ("labels", "scale", "expected"),
    [
        ("easy", 1, 0.501139639116),
        ("easy", 4, 0.132491087056),
        ("easy", 20, 0.00604997666012),
        ("hard", 1, 1.70113963912),
        ("hard", 4, 4.93249108706),
        ("hard", 20, 24.0060499767),
    ],
)
def test_cosine_softmax_by_hand(proxy_batch: ProxyBatch, labels: str, scale: float, expected: float) -> None:
    loss = normalized_softmax(proxy_batch.cosines, proxy_batch.labels(labels), scale)
    assert loss.item() == pytest.approx(expected, rel=1e-11)


def test_cosine_softmax_of_each_sample(proxy_batch: ProxyBatch) -> None:
    losses = [normalized_softmax(proxy_batch.cosines[i : i + 1], proxy_batch.easy[i : i + 1], 4) for i in range(3)]
    expected = [0.3736488481711, 0.0053451104012, 0.0184793025947]
    assert [loss.item() for loss in losses] == pytest.approx(expected, abs=1e-12)


def test_cosine_softmax_has_the_gradients_worked_by_hand(proxy_batch: ProxyBatch) -> None:
    cosine = proxy_batch.cosines.requires_grad_()
    (by_cosine,) = grad(normalized_softmax(cosine, proxy_batch.easy, 4), cosine)
    assert (3 * by_cosine[0]).tolist() == pytest.approx([1.23694609, -1.24712585, 0.01017975], abs=1e-8)
    embeddings = proxy_batch.embeddings.requires_grad_()
    loss = NormalizedSoftmaxLoss(proxy_batch.proxies, None)(embeddings, proxy_batch.easy, 4.0).loss
    assert grad(loss, embeddings)[0][0].tolist() == pytest.approx([0.4612502876, -0.3459377157], abs=1e-10)


def test_cosine_softmax_equals_slow_loops(generator: torch.Generator) -> None:
    embeddings = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    proxies = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 1])
    total = 0.0
    for x, label in zip(embeddings.tolist(), labels.tolist(), strict=True):
        logits = []
        for w in proxies.tolist():
            dot = sum(a * b for a, b in zip(x, w, strict=True))
            logits.append(7 * dot / math.hypot(*x) / math.hypot(*w))
        total += math.log(sum(math.exp(z) for z in logits)) - logits[label]
    loss = NormalizedSoftmaxLoss(proxies, None)(embeddings, labels, 7.0).loss
    assert loss.item() == pytest.approx(total / 5, rel=1e-12)


def test_cosine_softmax_passes_gradcheck(generator: torch.Generator) -> None:
    embeddings = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    proxies = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2])
    assert gradcheck(lambda x, w: normalized_softmax(cosines(x, w), labels, 4.0), (embeddings, proxies))


def test_the_arg_max_of_similarities_is_the_nearest_proxy(proxy_batch: ProxyBatch) -> None:
    loss = NormalizedSoftmaxLoss(5 * proxy_batch.proxies, None)
    similarities = loss.similarities(3 * proxy_batch.embeddings)
    assert similarities is not None
    torch.testing.assert_close(similarities, proxy_batch.cosines)
    assert similarities.argmax(1).tolist() == [1, 0, 2]
    assert not similarities.requires_grad
    torch.testing.assert_close(loss.proxies(), proxy_batch.proxies[:, None])
