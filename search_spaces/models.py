"""One configuration type per network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from search_spaces.base import Count, Frozen


class SmallCnn(Frozen):
    """Blocks of convolution 3 x 3, batch norm, ReLU; stride 2 in the first, max pooling after the others; linear to D.

    channels: output channels per block. embedding_dim: D.
    """

    kind: Literal["small_cnn"] = "small_cnn"
    channels: Annotated[tuple[Count, ...], Field(min_length=1, max_length=5)] = (16, 32, 64, 128)
    embedding_dim: Count = 64


ModelConfig = Annotated[SmallCnn, Field()]
