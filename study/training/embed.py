"""The layer that every network ends with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Embed(nn.Linear):
    """Features (B, F) to embeddings (B, D), of length 1 if `normalize`."""

    def __init__(self, features: int, dim: int, normalize: bool) -> None:
        super().__init__(features, dim)
        self.normalize = normalize

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, D)."""
        embeddings = super().forward(features)
        return F.normalize(embeddings.float()) if self.normalize else embeddings
