from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import grad, gradcheck

from study.losses.proxies import cosines, unit, with_margin, xavier


def test_unit_vectors_have_length_one_and_the_zero_vector_stays(generator: torch.Generator) -> None:
    vectors = torch.cat([torch.randn(5, 3, generator=generator), torch.zeros(1, 3)])
    assert unit(vectors).norm(dim=-1).tolist() == pytest.approx([1, 1, 1, 1, 1, 0], abs=1e-6)


def test_the_gradient_of_unit_is_finite_at_zero_and_orthogonal_elsewhere() -> None:
    zero, vector = torch.zeros(1, 3, requires_grad=True), torch.tensor([[3.0, 4.0]], requires_grad=True)
    (at_zero,) = grad(unit(zero).sum(), zero)
    (at_vector,) = grad(unit(vector)[0, 0], vector)
    assert at_zero.isfinite().all()
    assert at_vector[0].tolist() == pytest.approx([0.64 / 5, -0.48 / 5], abs=1e-7)


def test_cosines_do_not_depend_on_length(generator: torch.Generator) -> None:
    embeddings = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    proxies = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    expected = torch.nn.functional.cosine_similarity(embeddings[:, None], proxies[None], dim=-1)
    torch.testing.assert_close(cosines(7 * embeddings, 0.1 * proxies), expected)
    assert gradcheck(cosines, (embeddings.requires_grad_(), proxies.requires_grad_()))


def test_cosines_refuse_two_dimensions() -> None:
    with pytest.raises(ValueError, match="D=3, proxies D=2"):
        cosines(torch.ones(1, 3), torch.ones(1, 2))


def test_the_margin_is_taken_from_the_target_only() -> None:
    similarities = torch.tensor([[0.5, 0.2], [0.1, 0.9]], dtype=torch.float64)
    assert with_margin(similarities, torch.tensor([0, 1]), 0.1).tolist() == [[0.4, 0.2], [0.1, pytest.approx(0.8)]]


def test_xavier_fills_its_bound(generator: torch.Generator) -> None:
    proxies = xavier(100, 64, generator)
    bound = math.sqrt(6 / 164)
    assert proxies.shape == (100, 64)
    assert 0.99 * bound < proxies.abs().max() <= bound
    assert proxies.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
