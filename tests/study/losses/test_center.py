from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch.autograd import grad, gradcheck

from study.losses.center import CenterLoss, center_loss, initial_centers, moved_centers

EMBEDDINGS = torch.tensor([[1, 2], [3, 4], [-1, 0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 2])
CENTERS = torch.tensor([[0, 0], [5, 5], [1, 1]], dtype=torch.float64)
MOVED = [[2 / 3, 1], [5, 5], [0.5, 0.75]]


def a_loss(lambda_: float, alpha: float = 0.5) -> CenterLoss:
    return CenterLoss(torch.eye(3, 2, dtype=torch.float64), CENTERS.clone(), lambda_=lambda_, alpha=alpha)


def test_value_and_gradient_by_hand() -> None:
    embeddings = EMBEDDINGS.clone().requires_grad_()
    value = center_loss(embeddings, LABELS, CENTERS)
    assert value.item() == pytest.approx(17.5, abs=1e-12)
    assert value.item() / 3 == pytest.approx(5.83333333333, abs=1e-11)
    assert grad(value, embeddings)[0].tolist() == [[1, 2], [3, 4], [-2, -1]]


def test_centers_move_by_their_own_rule() -> None:
    moved = moved_centers(EMBEDDINGS, LABELS, CENTERS, 0.5)
    torch.testing.assert_close(moved, torch.tensor(MOVED, dtype=torch.float64))
    deltas = (CENTERS - moved) / 0.5
    torch.testing.assert_close(deltas, torch.tensor([[-4 / 3, -2], [0, 0], [1, 0.5]], dtype=torch.float64))
    assert center_loss(EMBEDDINGS, LABELS, moved).item() == pytest.approx(9.18402777778, abs=1e-11)


def test_four_samples_divide_by_five() -> None:
    center = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    embeddings = torch.tensor([[2, 0], [3, 1], [0, 0], [4, 2]], dtype=torch.float64)
    moved = moved_centers(embeddings, torch.zeros(4, dtype=torch.int64), center, 1.0)
    assert moved[0].tolist() == pytest.approx([1 + 5 / 5, -1 + 7 / 5])


def test_moving_centers_equals_slow_loops(generator: torch.Generator) -> None:
    embeddings = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    centers = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 3, 3, 3, 0, 1, 0])
    expected = centers.tolist()
    for j in range(4):
        mine = [x for x, label in zip(embeddings.tolist(), labels.tolist(), strict=True) if label == j]
        for d in range(3):
            delta = sum(centers[j, d].item() - x[d] for x in mine) / (1 + len(mine))
            expected[j][d] -= 0.7 * delta
    torch.testing.assert_close(moved_centers(embeddings, labels, centers, 0.7), torch.tensor(expected).double())


@pytest.mark.parametrize(
    ("lambda_", "expected"), [(0.0, 0.581921006445), (0.003, 0.599421006445), (0.5, 3.49858767311)]
)
def test_both_terms_are_means_over_the_batch(lambda_: float, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = a_loss(lambda_)
    # No linear classifier gives the worked example's logits for its embeddings, which lie on a line.
    logits = torch.tensor([[2, 1, 0], [0, 0, 0], [1, 1, 3]], dtype=torch.float64)
    monkeypatch.setattr(loss, "logits", lambda embeddings: logits)
    output = loss(EMBEDDINGS, LABELS, None)
    assert output.loss.item() == pytest.approx(expected, abs=1e-11)
    assert output.parts["ce"].item() == pytest.approx(0.581921006445, abs=1e-12)
    assert output.parts["center"].item() == pytest.approx(lambda_ * 17.5 / 3, abs=1e-12)


def test_one_step_moves_the_centers_whatever_lambda_is() -> None:
    for lambda_ in (0.0, 1.0):
        loss = a_loss(lambda_)
        loss.after_step(EMBEDDINGS, LABELS)
        torch.testing.assert_close(loss.centers, torch.tensor(MOVED, dtype=torch.float64))


def test_centers_are_state_without_a_gradient() -> None:
    loss = a_loss(0.003)
    assert "centers" in loss.state_dict()
    assert {name for name, _ in loss.named_parameters()} == {"weight", "bias"}
    assert not loss.centers.requires_grad
    loss(EMBEDDINGS.clone().requires_grad_(), LABELS, None)
    loss.after_step(EMBEDDINGS, LABELS)
    assert not loss.centers.requires_grad


def test_passes_gradcheck(generator: torch.Generator) -> None:
    embeddings = torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: a_loss(0.1)(x, LABELS, None).loss, embeddings)


@pytest.mark.parametrize(("kind", "deviation"), [("xavier", math.sqrt(2 / 164)), ("zeros", 0.0), ("normal", 1.0)])
def test_initial_centers(
    kind: Literal["xavier", "zeros", "normal"], deviation: float, generator: torch.Generator
) -> None:
    centers = initial_centers(kind, 100, 64, generator)
    assert centers.shape == (100, 64)
    assert centers.std().item() == pytest.approx(deviation, rel=0.03)


def test_refuses_two_dimensions() -> None:
    with pytest.raises(ValueError, match="D=2, centers D=3"):
        center_loss(EMBEDDINGS, LABELS, torch.zeros(3, 3))
