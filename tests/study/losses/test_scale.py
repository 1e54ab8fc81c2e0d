from __future__ import annotations

import pytest
import torch
from torch.autograd import grad

from study.losses.arcface import ArcFaceLoss
from study.losses.cosface import CosFaceLoss
from study.losses.scale import ScaledLoss, TrainedScale
from study.losses.soft_triple import SoftTripleLoss
from study.losses.softmax import NormalizedSoftmaxLoss


def scaled_losses(trained: bool) -> list[ScaledLoss]:
    def draws(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def scale() -> TrainedScale | None:
        return TrainedScale(10, 0.01) if trained else None

    return [
        NormalizedSoftmaxLoss(draws(5, 4), scale()),
        ArcFaceLoss(draws(5, 4), scale(), margin_rad=0.5, guarded=True),
        CosFaceLoss(draws(5, 4), scale(), margin=0.35),
        SoftTripleLoss(draws(3, 5, 4), scale(), gamma=0.1, delta=0.01, tau=0.2, hard=False),
    ]


@pytest.mark.parametrize("index", range(4))
def test_a_trained_scale_gives_the_loss_of_its_value_and_gets_a_gradient(index: int) -> None:
    trained, given = scaled_losses(trained=True)[index], scaled_losses(trained=False)[index]
    generator = torch.Generator().manual_seed(1)
    embeddings, labels = torch.randn(6, 4, generator=generator), torch.tensor([0, 1, 2, 3, 4, 0])
    loss = trained(embeddings, labels, None).loss
    assert torch.equal(loss, given(embeddings, labels, 10.0).loss)
    assert trained.trained_scale is not None
    (gradient,) = grad(loss, trained.trained_scale.value)
    step = 1e-2
    slope = (given(embeddings, labels, 10 + step).loss - given(embeddings, labels, 10 - step).loss).item() / (2 * step)
    assert gradient.item() == pytest.approx(slope, rel=1e-2, abs=1e-4)


def test_a_trained_scale_does_not_hear_the_schedule() -> None:
    loss = scaled_losses(trained=True)[0]
    embeddings, labels = torch.ones(2, 4), torch.tensor([0, 1])
    assert torch.equal(loss(embeddings, labels, 3.0).loss, loss(embeddings, labels, None).loss)


def test_a_step_below_the_floor_is_lifted_to_it_and_can_leave_it_again() -> None:
    scale = TrainedScale(initial=1.0, floor=0.5)
    loss = NormalizedSoftmaxLoss(torch.eye(3), scale)
    embeddings, labels = torch.eye(3), torch.tensor([0, 1, 2])
    with torch.no_grad():
        scale.value.fill_(-4.0)
    loss.after_step(embeddings, labels)
    assert scale.value.item() == 0.5
    (gradient,) = grad(loss(embeddings, labels, None).loss, scale.value)
    assert gradient.item() < 0  # perfect cosines: a larger scale is better


def test_epoch_metrics_hold_the_scale_only_if_it_is_trained() -> None:
    assert scaled_losses(trained=True)[0].epoch_metrics() == {"scale": 10.0}
    assert scaled_losses(trained=False)[0].epoch_metrics() == {}


def test_without_a_scale_the_loss_refuses() -> None:
    with pytest.raises(ValueError, match="give the schedule's scale"):
        scaled_losses(trained=False)[0](torch.ones(1, 4), torch.tensor([0]), None)
