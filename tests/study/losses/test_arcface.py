from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch.autograd import grad, gradcheck

from study.losses.arcface import ArcFaceLoss, shifted_cosine

if TYPE_CHECKING:
    from tests.study.losses.conftest import ProxyBatch


@pytest.mark.parametrize(
    ("labels", "scale", "plain", "guarded"),
    [
        ("easy", 10, 0.667111291897, 0.667111291897),
        ("easy", 64, 3.95924015234, 3.95924015234),
        ("hard", 10, 14.149360522, 15.3564612111),
        ("hard", 64, 90.5528197047, 98.2782641295),
    ],
)
def test_loss_by_hand(proxy_batch: ProxyBatch, labels: str, scale: float, plain: float, guarded: float) -> None:
    for guard, expected in ((False, plain), (True, guarded)):
        loss = ArcFaceLoss(proxy_batch.proxies, None, margin_rad=0.5, guarded=guard)
        output = loss(proxy_batch.embeddings, proxy_batch.labels(labels), scale)
        assert output.loss.item() == pytest.approx(expected, rel=1e-11)
        torch.testing.assert_close(output.similarities, proxy_batch.cosines)


def test_target_cosines_by_hand() -> None:
    found = shifted_cosine(torch.tensor([0.8, 1.0], dtype=torch.float64), 0.5, guarded=True)
    assert found.tolist() == pytest.approx([0.41441072635, 0.87758256189], abs=1e-11)


@pytest.mark.parametrize("guarded", [False, True])
def test_equals_slow_loops_over_angles(guarded: bool, generator: torch.Generator) -> None:
    cosines = 2 * torch.rand(200, generator=generator, dtype=torch.float64) - 1
    expected = []
    for cos in cosines.tolist():
        theta = math.acos(cos)
        past = guarded and theta > math.pi - 0.5
        expected.append(cos - 0.5 * math.sin(0.5) if past else math.cos(theta + 0.5))
    assert shifted_cosine(cosines, 0.5, guarded).tolist() == pytest.approx(expected, abs=1e-12)


def test_only_the_guarded_cosine_falls_all_the_way() -> None:
    cosines = torch.linspace(1, -1, 1001, dtype=torch.float64)
    assert (shifted_cosine(cosines, 0.5, guarded=True).diff() < 0).all()
    assert (shifted_cosine(cosines, 0.5, guarded=False).diff() > 0).any()


def test_at_the_seam_the_guard_jumps_down_as_the_docstring_says() -> None:
    seam = torch.tensor([-math.cos(0.5) + 1e-9, -math.cos(0.5) - 1e-9], dtype=torch.float64)
    above, below = shifted_cosine(seam, 0.5, guarded=True).tolist()
    assert above - below == pytest.approx(math.cos(0.5) + 0.5 * math.sin(0.5) - 1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_is_finite_where_the_angle_has_none(dtype: torch.dtype) -> None:
    # A cosine rounded beyond 1, as normalized vectors give, is as good as 1.
    ends = torch.tensor([1, -1, 1 + 1e-7, -1 - 1e-7, 1 - 1e-7], dtype=dtype, requires_grad=True)
    found = shifted_cosine(ends, 0.5, guarded=False)
    assert found.isfinite().all()
    assert grad(found.sum(), ends)[0].isfinite().all()


@pytest.mark.parametrize("guarded", [False, True])
def test_passes_gradcheck_on_both_sides_of_the_seam(guarded: bool) -> None:
    cosines = torch.tensor([0.9, 0.1, -0.5, -0.95], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda cos: shifted_cosine(cos, 0.5, guarded), cosines)
