"""Networks that map images to embeddings."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from search_spaces.models import ModelConfig


class SmallCnn(nn.Module):
    """Convolution blocks, then one linear layer to the embedding, which is not normalized.

    blocks: the convolutional part; embed: the linear layer, which a warm-up trains alone.
    """

    def __init__(self, channels: tuple[int, ...], embedding_dim: int, in_channels: int, side: int) -> None:
        super().__init__()
        blocks = []
        for index, out_channels in enumerate(channels):
            layers: list[tuple[str, nn.Module]] = [
                # No bias: batch norm would subtract it again.
                ("conv", nn.Conv2d(in_channels, out_channels, 3, stride=1 if index else 2, padding=1, bias=False)),
                ("norm", nn.BatchNorm2d(out_channels)),
            ]
            if index:
                layers.append(("pool", nn.MaxPool2d(2, ceil_mode=True)))
            # After pooling, as it commutes with the maximum: the same values and gradients from a quarter of the work.
            layers.append(("relu", nn.ReLU(inplace=True)))
            blocks.append(nn.Sequential(OrderedDict(layers)))
            in_channels, side = out_channels, (side + 1) // 2
        self.blocks = nn.Sequential(*blocks)
        self.embed = nn.Linear(in_channels * side * side, embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, in_channels, side, side)."""
        embeddings: Tensor = self.embed(self.blocks(images).flatten(1))
        return embeddings


def build_model(config: ModelConfig, in_channels: int, side: int, generator: torch.Generator) -> SmallCnn:
    """The network for square images of `side` pixels, in channels-last memory format, on the CPU.

    All initial weights are drawn from `generator`, in the order of the layers: convolutions He-normal (fan in), the
    linear layer Xavier-uniform, biases 0. torch's global generator decides nothing.
    """
    model = SmallCnn(config.channels, config.embedding_dim, in_channels, side)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    return model.to(memory_format=torch.channels_last)
