"""Means over an epoch, kept as tensors so that no step waits for a number."""

from __future__ import annotations

from torch import Tensor


class RunningMean:
    """Sum and count of what one epoch's training steps added."""

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._count: Tensor | None = None

    def add(self, total: Tensor, count: Tensor) -> None:
        """Add scalars: the sum of `count` values."""
        # Double precision: an epoch adds millions of values, and float32 would lose the small ones.
        total, count = total.detach().double(), count.detach().double()
        self._total = total if self._total is None else self._total + total
        self._count = count if self._count is None else self._count + count

    def take(self) -> float | None:
        """The mean since the last call, then forget it; None if nothing was added."""
        total, count = self._total, self._count
        self._total = self._count = None
        if total is None or count is None or count.item() == 0:
            return None
        return (total / count).item()
