"""Our losses against pytorch-metric-learning's, where its conventions are ours or can be turned into ours."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.reducers import DoNothingReducer, MeanReducer
from torch import Tensor
from torch.autograd import grad

from study.losses.arcface import ArcFaceLoss
from study.losses.base import LossModule
from study.losses.circle import CirclePairLoss
from study.losses.contrastive import ContrastiveLoss
from study.losses.cosface import CosFaceLoss
from study.losses.proxy_anchor import ProxyAnchorLoss
from study.losses.proxy_nca import ProxyNcaLoss
from study.losses.soft_triple import SoftTripleLoss
from study.losses.softmax import NormalizedSoftmaxLoss
from study.losses.triplet import TripletLoss

if TYPE_CHECKING:
    from tests.study.losses.conftest import PairBatch

LABELS = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def agree(ours: LossModule, theirs: Any, scale: float | None = None) -> None:
    """Both give one loss and one gradient in the embeddings, of which some lie beyond every margin."""
    embeddings = draw(8, 6, seed=1).requires_grad_()
    own = ours(embeddings, LABELS, scale).loss
    other = theirs(embeddings, LABELS)
    torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(grad(own, embeddings)[0], grad(other, embeddings)[0], rtol=1e-5, atol=1e-7)


def given(theirs: Any, name: str, value: Tensor) -> Any:
    setattr(theirs, name, torch.nn.Parameter(value.clone()))
    return theirs


def test_cosine_softmax() -> None:
    weight = draw(5, 6, seed=2)
    agree(
        NormalizedSoftmaxLoss(weight, None),
        given(pml.NormalizedSoftmaxLoss(5, 6, temperature=1 / 12), "W", weight.T),
        12,
    )


def test_soft_triple_without_its_regularizer() -> None:
    weight = draw(3, 5, 6, seed=2)
    ours = SoftTripleLoss(weight, None, gamma=0.2, delta=0.05, tau=0.0, hard=False)
    theirs = pml.SoftTripleLoss(5, 6, centers_per_class=3, la=15, gamma=0.2, margin=0.05)
    agree(ours, given(theirs, "fc", weight.transpose(0, 1).flatten(0, 1).T), 15)


@pytest.mark.parametrize("scale", [5, 64])
def test_arcface_guarded_with_its_margin_in_degrees(scale: float) -> None:
    weight = draw(5, 6, seed=2)
    theirs = pml.ArcFaceLoss(5, 6, margin=math.degrees(0.5), scale=scale)
    agree(ArcFaceLoss(weight, None, margin_rad=0.5, guarded=True), given(theirs, "W", weight.T), scale)


@pytest.mark.parametrize("scale", [5, 64])
def test_cosface(scale: float) -> None:
    weight = draw(5, 6, seed=2)
    theirs = pml.CosFaceLoss(5, 6, margin=0.35, scale=scale)
    agree(CosFaceLoss(weight, None, margin=0.35), given(theirs, "W", weight.T), scale)


@pytest.mark.parametrize(("m", "gamma"), [(0.4, 80), (0.25, 4)])
def test_circle_over_pairs(m: float, gamma: float) -> None:
    # Classes 3 and 4 have one image each: their anchors are left out here, and are a loss of 0 over there.
    embeddings = draw(8, 6, seed=1)
    ours = CirclePairLoss(m=m, gamma=gamma, weighting=True, whole_batch=False)(embeddings, LABELS, None).loss
    theirs = pml.CircleLoss(m=m, gamma=gamma, reducer=MeanReducer())(embeddings, LABELS)
    torch.testing.assert_close(ours * 6 / 8, theirs, rtol=1e-9, atol=0)


def test_proxy_anchor() -> None:
    weight = draw(7, 6, seed=2)  # two classes have no image in the batch
    theirs = pml.ProxyAnchorLoss(7, 6, margin=0.1, alpha=32)
    agree(ProxyAnchorLoss(weight, alpha=32, delta=0.1), given(theirs, "proxies", weight))


def test_proxy_nca_with_target() -> None:
    weight = draw(5, 6, seed=2)
    theirs = pml.ProxyNCALoss(5, 6, softmax_scale=9)
    agree(ProxyNcaLoss(weight, sigma=9, with_target=True), given(theirs, "proxies", weight))


def test_contrastive_is_the_mean_of_its_pair_losses() -> None:
    embeddings = draw(8, 6, seed=1)
    found = pml.ContrastiveLoss(reducer=DoNothingReducer())(embeddings, LABELS)
    each_pair_twice = found["pos_loss"]["losses"].sum() + found["neg_loss"]["losses"].sum()
    ours = ContrastiveLoss(margin=1.0, form="thesis")(embeddings, LABELS, None).loss
    torch.testing.assert_close(ours, each_pair_twice / (8 * 7), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("margin", "separate_means", "default"), [(1, 1.4705935882, 1.67627611233), (0.5, 1.31920038595, 1.48206835159)]
)
def test_contrastive_averages_over_all_pairs_and_the_oracle_over_each_kind(
    pair_batch: PairBatch, margin: float, separate_means: float, default: float
) -> None:
    embeddings, labels = pair_batch.embeddings, pair_batch.labels
    ours = ContrastiveLoss(margin=margin, form="thesis")(embeddings, labels, None).loss.item()
    means = pml.ContrastiveLoss(neg_margin=margin, reducer=MeanReducer())(embeddings, labels).item()
    assert means == pytest.approx(separate_means, rel=1e-9)
    assert pml.ContrastiveLoss(neg_margin=margin)(embeddings, labels).item() == pytest.approx(default, rel=1e-9)
    within = (0.4**0.5 + 3.6**0.5) / 2  # distances of (1, 0) to (.8, .6), and of (.6, .8) to (0, -1)
    assert ours == pytest.approx((2 * within + 4 * (separate_means - within)) / 6, rel=1e-9)


@pytest.mark.parametrize("margin", [0.05, 0.5])
@pytest.mark.parametrize("squared", [False, True])
def test_triplet_over_all_triplets(margin: float, squared: bool) -> None:
    theirs = pml.TripletMarginLoss(margin=margin, distance=LpDistance(power=2 if squared else 1), reducer=MeanReducer())
    agree(
        TripletLoss(margin=margin, distance="squared" if squared else "euclidean", mining="all", average="all"), theirs
    )


@pytest.mark.parametrize("margin", [0.05, 0.5])
def test_triplet_over_active_triplets_is_the_oracles_default(margin: float) -> None:
    ours = TripletLoss(margin=margin, distance="euclidean", mining="all", average="nonzero")
    agree(ours, pml.TripletMarginLoss(margin=margin))


def test_the_oracle_measures_cosines_as_we_do() -> None:
    embeddings, weight = draw(8, 6, seed=1), draw(5, 6, seed=2)
    torch.testing.assert_close(
        NormalizedSoftmaxLoss(weight, None).similarities(embeddings), CosineSimilarity()(embeddings, weight)
    )
