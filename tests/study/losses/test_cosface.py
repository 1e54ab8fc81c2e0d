from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from study.losses.cosface import CosFaceLoss

if TYPE_CHECKING:
    from tests.study.losses.conftest import ProxyBatch


@pytest.mark.parametrize(
    ("labels", "scale", "expected"),
    [
        ("easy", 10, 0.567650647416),
        ("easy", 64, 3.20002257548),
        ("hard", 10, 15.501374936),
        ("hard", 64, 99.2),
    ],
)
def test_loss_by_hand(proxy_batch: ProxyBatch, labels: str, scale: float, expected: float) -> None:
    loss = CosFaceLoss(proxy_batch.proxies, None, margin=0.35)
    output = loss(proxy_batch.embeddings, proxy_batch.labels(labels), scale)
    assert output.loss.item() == pytest.approx(expected, rel=1e-11)
    torch.testing.assert_close(output.similarities, proxy_batch.cosines)


def test_equals_slow_loops(proxy_batch: ProxyBatch) -> None:
    total = 0.0
    for row, label in zip(proxy_batch.cosines.tolist(), proxy_batch.hard.tolist(), strict=True):
        logits = [5 * (cos - (0.2 if c == label else 0)) for c, cos in enumerate(row)]
        total += math.log(sum(map(math.exp, logits))) - logits[label]
    loss = CosFaceLoss(proxy_batch.proxies, None, margin=0.2)(proxy_batch.embeddings, proxy_batch.hard, 5.0).loss
    assert loss.item() == pytest.approx(total / 3, rel=1e-12)
