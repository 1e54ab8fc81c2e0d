"""Small batches whose losses were worked out by hand, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class ProxyBatch:
    """Three embeddings and three proxies in the plane, with labels near their proxies and far from them."""

    embeddings: Tensor
    proxies: Tensor
    easy: Tensor
    hard: Tensor

    @property
    def cosines(self) -> Tensor:
        return self.embeddings @ self.proxies.T

    def labels(self, name: str) -> Tensor:
        return {"easy": self.easy, "hard": self.hard}[name]


@dataclass(frozen=True)
class PairBatch:
    """Four embeddings of two classes in the plane."""

    embeddings: Tensor
    labels: Tensor


@pytest.fixture
def proxy_batch() -> ProxyBatch:
    return ProxyBatch(
        embeddings=torch.tensor([[0.6, 0.8], [0.8, -0.6], [-1, 0]], dtype=torch.float64),
        proxies=torch.tensor([[1, 0], [0, 1], [-1, 0]], dtype=torch.float64),
        easy=torch.tensor([1, 0, 2]),
        hard=torch.tensor([0, 1, 0]),
    )


@pytest.fixture
def pair_batch() -> PairBatch:
    return PairBatch(
        embeddings=torch.tensor([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, -1]], dtype=torch.float64),
        labels=torch.tensor([0, 0, 1, 1]),
    )


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A second thread only waits for tensors this small, and triples the time on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
