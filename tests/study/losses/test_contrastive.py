from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
import torch
from torch.autograd import grad, gradcheck

from study.losses.contrastive import Form, contrastive
from study.losses.pairs import euclidean_distances

if TYPE_CHECKING:
    from tests.study.losses.conftest import PairBatch


@pytest.mark.parametrize(
    ("margin", "thesis", "hadsell"), [(1, 0.55875870411, 0.377121682754), (0.5, 0.45782990261, 0.337263107294)]
)
def test_loss_by_hand(pair_batch: PairBatch, margin: float, thesis: float, hadsell: float) -> None:
    embeddings, labels = pair_batch.embeddings, pair_batch.labels
    assert contrastive(embeddings, labels, margin, "thesis").item() == pytest.approx(thesis, rel=1e-10)
    assert contrastive(embeddings, labels, margin, "hadsell").item() == pytest.approx(hadsell, rel=1e-10)


def test_distances_by_hand(pair_batch: PairBatch) -> None:
    rows, columns = torch.triu_indices(4, 4, offset=1)
    found = euclidean_distances(3 * pair_batch.embeddings)[rows, columns]
    expected = [0.632455532, 0.894427191, 1.414213562, 0.282842712, 1.788854382, 1.897366596]
    assert found.tolist() == pytest.approx(expected, abs=1e-9)


def test_embeddings_that_coincide_are_as_good_as_a_millionth_apart() -> None:
    embeddings = torch.tensor([[0.6, 0.8], [0.6, 0.8]], requires_grad=True)
    distance = euclidean_distances(embeddings)[0, 1]
    assert distance.item() == pytest.approx(1e-6, rel=1e-3)
    assert grad(distance, embeddings)[0].isfinite().all()


@pytest.mark.parametrize("form", ["hadsell", "thesis"])
def test_equals_slow_loops(form: Form, generator: torch.Generator) -> None:
    embeddings = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 2, 0])
    unit = (embeddings / embeddings.norm(dim=1, keepdim=True)).tolist()
    values = []
    for i, j in combinations(range(6), 2):
        d = math.dist(unit[i], unit[j])
        gap = d if labels[i] == labels[j] else max(0, 1.2 - d)
        values.append(gap if form == "thesis" else gap**2 / 2)
    assert contrastive(embeddings, labels, 1.2, form).item() == pytest.approx(sum(values) / 15, rel=1e-9)


@pytest.mark.parametrize("form", ["hadsell", "thesis"])
def test_passes_gradcheck(form: Form, generator: torch.Generator) -> None:
    embeddings = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: contrastive(x, torch.tensor([0, 0, 1, 1, 2]), 1.0, form), embeddings)


def test_one_image_has_no_pair_and_a_loss_of_zero_with_a_graph() -> None:
    embedding = torch.ones(1, 2, requires_grad=True)
    loss = contrastive(embedding, torch.tensor([0]), 1.0, "hadsell")
    assert loss.item() == 0
    assert grad(loss, embedding)[0].tolist() == [[0, 0]]
