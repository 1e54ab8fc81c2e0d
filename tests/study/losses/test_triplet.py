from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch.autograd import grad, gradcheck

from study.losses.triplet import Average, Distance, Mining, TripletLoss

if TYPE_CHECKING:
    from tests.study.losses.conftest import PairBatch


def a_loss(
    margin: float, *, distance: Distance = "euclidean", mining: Mining = "all", average: Average = "all"
) -> TripletLoss:
    return TripletLoss(margin=margin, distance=distance, mining=mining, average=average)


@pytest.mark.parametrize(
    ("margin", "euclidean", "squared", "nonzero"),
    [(0.2, 0.569842669514, 1.205, 0.911748271223), (0.05, 0.476092669514, 1.11125, 0.761748271223)],
)
def test_loss_by_hand(pair_batch: PairBatch, margin: float, euclidean: float, squared: float, nonzero: float) -> None:
    def value(loss: TripletLoss) -> float:
        found: float = loss(pair_batch.embeddings, pair_batch.labels, None).loss.item()
        return found

    loss = a_loss(margin)
    assert value(loss) == pytest.approx(euclidean, rel=1e-9)
    assert loss.epoch_metrics() == {"active_triplets": 5 / 8}
    assert value(a_loss(margin, distance="squared")) == pytest.approx(squared, rel=1e-11)
    assert value(a_loss(margin, average="nonzero")) == pytest.approx(nonzero, rel=1e-9)


def test_without_a_semi_hard_triplet_the_loss_is_zero_with_a_graph(pair_batch: PairBatch) -> None:
    embeddings = pair_batch.embeddings.clone().requires_grad_()
    loss = a_loss(0.2, mining="semi_hard")
    value = loss(embeddings, pair_batch.labels, None).loss
    assert value.item() == 0
    assert not grad(value, embeddings)[0].any()
    assert loss.epoch_metrics() == {"active_triplets": 0.0}


@pytest.mark.parametrize("distance", ["euclidean", "squared"])
@pytest.mark.parametrize("mining", ["all", "semi_hard", "hard"])
@pytest.mark.parametrize("average", ["all", "nonzero"])
def test_equals_slow_loops(distance: Distance, mining: Mining, average: Average, generator: torch.Generator) -> None:
    size, margin = 8, 0.4
    labels = [0, 0, 0, 1, 1, 2, 2, 3]
    near_their_axis = torch.eye(4, dtype=torch.float64)[labels]
    embeddings = near_their_axis + 0.5 * torch.randn(size, 4, generator=generator, dtype=torch.float64)
    unit = (embeddings / embeddings.norm(dim=1, keepdim=True)).tolist()
    power = 2 if distance == "squared" else 1

    def d(i: int, j: int) -> float:
        return math.dist(unit[i], unit[j]) ** power

    candidates, gaps = 0, []
    for a in range(size):
        own = [d(a, p) for p in range(size) if p != a and labels[p] == labels[a]]
        other = [d(a, n) for n in range(size) if labels[n] != labels[a]]
        if mining == "hard":
            triplets = [(max(own), min(other))] if own else []
        else:
            triplets = [(to_positive, to_negative) for to_positive in own for to_negative in other]
        candidates += len(triplets)
        for to_positive, to_negative in triplets:
            if mining == "semi_hard" and not to_positive < to_negative < to_positive + margin:
                continue
            gaps.append(max(0, to_positive - to_negative + margin))
    active = sum(gap > 0 for gap in gaps)
    assert 0 < active < candidates  # else the options would not differ
    loss = a_loss(margin, distance=distance, mining=mining, average=average)
    found = loss(embeddings, torch.tensor(labels), None).loss.item()
    assert found == pytest.approx(sum(gaps) / (len(gaps) if average == "all" else active), rel=1e-9)
    assert loss.epoch_metrics() == pytest.approx({"active_triplets": active / candidates})


def test_solved_triplets_give_zero_and_no_division_by_zero() -> None:
    embeddings = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]], requires_grad=True)
    value = a_loss(0.2, average="nonzero")(embeddings, torch.tensor([0, 0, 1, 1]), None).loss
    assert value.item() == 0
    assert grad(value, embeddings)[0].isfinite().all()


def test_the_active_share_is_over_the_epoch_and_not_over_evaluation(pair_batch: PairBatch) -> None:
    loss = a_loss(0.2)
    loss(pair_batch.embeddings, pair_batch.labels, None)
    loss(pair_batch.embeddings[:3], pair_batch.labels[:3], None)  # 2 triplets: (0, 1, 2) solved, (1, 0, 2) active
    loss.eval()(pair_batch.embeddings, pair_batch.labels, None)
    assert loss.epoch_metrics() == {"active_triplets": 6 / 10}
    assert loss.epoch_metrics() == {"active_triplets": 0.0}


@pytest.mark.parametrize("mining", ["all", "semi_hard", "hard"])
def test_passes_gradcheck(mining: Mining, generator: torch.Generator) -> None:
    embeddings = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    assert gradcheck(lambda x: a_loss(0.5, mining=mining)(x, labels, None).loss, embeddings)
