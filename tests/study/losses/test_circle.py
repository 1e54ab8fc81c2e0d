from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import pytest
import torch
from torch.autograd import grad

from study.losses.circle import CircleClassLoss, CirclePairLoss, circle_loss, negative_logits, positive_logits
from study.losses.cosface import CosFaceLoss

if TYPE_CHECKING:
    from tests.study.losses.conftest import PairBatch, ProxyBatch


def a_pair_loss(m: float, gamma: float, *, weighting: bool = True, whole_batch: bool = False) -> CirclePairLoss:
    return CirclePairLoss(m=m, gamma=gamma, weighting=weighting, whole_batch=whole_batch)


def a_class_loss(proxies: torch.Tensor, gamma: float, *, weighting: bool = True) -> CircleClassLoss:
    return CircleClassLoss(proxies, m=0.25, gamma=gamma, weighting=weighting)


def slow_circle(within: list[float], between: list[float], m: float, gamma: float) -> float:
    raised = sum(math.exp(-gamma * max(0, 1 + m - s) * (s - (1 - m))) for s in within)
    lowered = sum(math.exp(gamma * max(0, s + m) * (s - m)) for s in between)
    return math.log(1 + raised * lowered)


@pytest.mark.parametrize(
    ("m", "gamma", "anchors", "mean", "batch"),
    [
        (0.25, 4, [1.55094748528, 3.41161755144, 16.2469504644, 13.2859411181], 8.6238641548, 16.2974244065),
        (0.4, 80, [6.40166017841, 51.328, 307.328, 246.400002761], 152.864415735, 307.328),
    ],
)
def test_pair_losses_by_hand(
    pair_batch: PairBatch, m: float, gamma: float, anchors: list[float], mean: float, batch: float
) -> None:
    assert sum(anchors) / 4 == pytest.approx(mean, rel=1e-11)
    loss = a_pair_loss(m, gamma)(pair_batch.embeddings, pair_batch.labels, None).loss
    assert loss.item() == pytest.approx(mean, rel=1e-11)
    whole = a_pair_loss(m, gamma, whole_batch=True)(pair_batch.embeddings, pair_batch.labels, None).loss
    assert whole.item() == pytest.approx(batch, rel=1e-11)


def test_pair_losses_equal_slow_loops(generator: torch.Generator) -> None:
    embeddings = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3])  # the last two have no positive
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    cos = (unit @ unit.T).tolist()
    anchors, within, between = [], [], []
    for i in range(7):
        own = [cos[i][j] for j in range(7) if j != i and labels[j] == labels[i]]
        other = [cos[i][j] for j in range(7) if labels[j] != labels[i]]
        if own and other:
            anchors.append(slow_circle(own, other, 0.3, 5))
        within += [cos[i][j] for j in range(i + 1, 7) if labels[j] == labels[i]]
        between += [cos[i][j] for j in range(i + 1, 7) if labels[j] != labels[i]]
    loss = a_pair_loss(0.3, 5)
    assert loss(embeddings, labels, None).loss.item() == pytest.approx(sum(anchors) / len(anchors), rel=1e-12)
    whole = a_pair_loss(0.3, 5, whole_batch=True)
    assert whole(embeddings, labels, None).loss.item() == pytest.approx(slow_circle(within, between, 0.3, 5), rel=1e-12)
    means = {"mean_s_p": sum(within) / len(within), "mean_s_n": sum(between) / len(between)}
    assert loss.epoch_metrics() == pytest.approx(means)
    assert whole.epoch_metrics() == pytest.approx(means)
    assert whole.epoch_metrics() == {}


@pytest.mark.parametrize(
    ("labels", "gamma", "expected"),
    [
        ("easy", 4, 1.16726029138),
        ("easy", 256, 23.4687608533),
        ("hard", 4, 11.588923919),
        ("hard", 256, 736.0),
    ],
)
def test_class_loss_by_hand(proxy_batch: ProxyBatch, labels: str, gamma: float, expected: float) -> None:
    output = a_class_loss(proxy_batch.proxies, gamma)(proxy_batch.embeddings, proxy_batch.labels(labels), None)
    assert output.loss.item() == pytest.approx(expected, rel=1e-11)
    torch.testing.assert_close(output.similarities, proxy_batch.cosines)


def test_class_loss_of_each_sample(proxy_batch: ProxyBatch) -> None:
    loss = a_class_loss(proxy_batch.proxies, 4)
    found = [loss(proxy_batch.embeddings[i : i + 1], proxy_batch.easy[i : i + 1], None).loss.item() for i in range(3)]
    assert found == pytest.approx([1.59292170960, 1.03952108014, 0.86933808441], abs=1e-11)


def test_class_loss_is_the_circle_loss_with_one_positive(proxy_batch: ProxyBatch) -> None:
    slow = []
    for row, label in zip(proxy_batch.cosines.tolist(), proxy_batch.hard.tolist(), strict=True):
        slow.append(slow_circle([row[label]], [cos for c, cos in enumerate(row) if c != label], 0.25, 4))
    loss = a_class_loss(proxy_batch.proxies, 4)
    assert loss(proxy_batch.embeddings, proxy_batch.hard, None).loss.item() == pytest.approx(sum(slow) / 3, rel=1e-12)
    own, other = [0.6, -0.6, -1], [0.8, -0.6, 0.8, -0.8, 0, 1]
    assert loss.epoch_metrics() == pytest.approx({"mean_s_p": sum(own) / 3, "mean_s_n": sum(other) / 6})


@pytest.mark.parametrize(
    ("s_n", "value", "by_s_p", "by_s_n", "not_detached"),
    [
        (0.8, 2.32310617448, -1.62365615226, 3.78853102195, (-1.44324991312, 5.7729996525)),
        (0.2, 0.607191724841, -0.819217993728, 0.819217993728, (-0.728193772202, 0.728193772202)),
    ],
)
def test_gradients_of_one_pair_hold_the_weights_constant(
    s_n: float, value: float, by_s_p: float, by_s_n: float, not_detached: tuple[float, float]
) -> None:
    within = torch.tensor([0.8], dtype=torch.float64, requires_grad=True)
    between = torch.tensor([s_n], dtype=torch.float64, requires_grad=True)
    loss = circle_loss(positive_logits(within, 0.25, 4, True), negative_logits(between, 0.25, 4, True))
    assert loss.item() == pytest.approx(value, rel=1e-11)
    assert [g.item() for g in grad(loss, [within, between])] == pytest.approx([by_s_p, by_s_n], rel=1e-10)
    full = circle_loss(4 * (1.25 - within) * (within - 0.75), 4 * (between + 0.25) * (between - 0.25))
    assert full.item() == pytest.approx(value, rel=1e-11)
    assert [g.item() for g in grad(full, [within, between])] == pytest.approx(list(not_detached), rel=1e-10)


def test_gradients_follow_the_closed_form(generator: torch.Generator) -> None:
    within = (2 * torch.rand(3, generator=generator, dtype=torch.float64) - 1).requires_grad_()
    between = (2 * torch.rand(4, generator=generator, dtype=torch.float64) - 1).requires_grad_()
    raised, lowered = positive_logits(within, 0.25, 4, True), negative_logits(between, 0.25, 4, True)
    loss = circle_loss(raised, lowered)
    z = 1 - (-loss.detach()).exp()
    by_within, by_between = grad(loss, [within, between])
    torch.testing.assert_close(by_within, -z * 4 * (1.25 - within.detach()) * (-raised.detach()).softmax(0))
    weights = (between.detach() + 0.25).clamp_min(0)
    torch.testing.assert_close(by_between, z * 4 * weights * lowered.detach().softmax(0))


def test_at_the_decision_boundary_the_logits_cancel() -> None:
    m = 0.25
    for angle in (0.1, 0.7, 1.4):
        s_n = math.sqrt(2) * m * math.sin(angle)
        s_p = 1 - math.sqrt(2) * m * math.cos(angle)
        loss = circle_loss(
            positive_logits(torch.tensor([s_p]).double(), m, 10, True),
            negative_logits(torch.tensor([s_n]).double(), m, 10, True),
        )
        assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_without_weighting_the_class_loss_is_cosface(proxy_batch: ProxyBatch) -> None:
    circle = a_class_loss(proxy_batch.proxies, 10, weighting=False)
    cosface = CosFaceLoss(proxy_batch.proxies, None, margin=0.25)
    for labels in (proxy_batch.easy, proxy_batch.hard):
        found = circle(proxy_batch.embeddings, labels, None).loss
        torch.testing.assert_close(found, cosface(proxy_batch.embeddings, labels, 10.0).loss)


def test_without_weighting_the_limit_is_the_hardest_triplet(pair_batch: PairBatch) -> None:
    cos = (pair_batch.embeddings @ pair_batch.embeddings.T).tolist()
    hinges = []
    for i, partner in enumerate([1, 0, 3, 2]):
        nearest = max(cos[i][j] for j in range(4) if j not in (i, partner))
        hinges.append(max(0, nearest - cos[i][partner] + 0.4))
    loss = a_pair_loss(0.4, 1e6, weighting=False)(pair_batch.embeddings, pair_batch.labels, None).loss
    assert loss.item() / 1e6 == pytest.approx(sum(hinges) / 4, abs=1e-5)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
@pytest.mark.parametrize("level", ["pair", "batch"])
def test_a_batch_without_a_usable_anchor_is_refused(
    pair_batch: PairBatch, labels: list[int], level: Literal["pair", "batch"]
) -> None:
    loss = a_pair_loss(0.4, 80, whole_batch=level == "batch")
    with pytest.raises(ValueError, match="draw batches of 2 or more classes with 2 or more images each"):
        loss(pair_batch.embeddings, torch.tensor(labels), None)


def test_evaluation_adds_nothing_to_the_epochs_means(pair_batch: PairBatch) -> None:
    loss = a_pair_loss(0.4, 80).eval()
    loss(pair_batch.embeddings, pair_batch.labels, None)
    assert loss.epoch_metrics() == {}
