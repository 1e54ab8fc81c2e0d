"""Networks that map images to embeddings."""

from __future__ import annotations

from collections import OrderedDict
from typing import assert_never

import torch
from torch import Tensor, nn

from search_spaces.models import EfficientnetLite0, ModelConfig, SmallResnet, Timm, Torchvision
from search_spaces.models import SmallCnn as SmallCnnConfig
from study.training.backbones import Backbone, build_backbone
from study.training.embed import Embed


class SmallCnn(nn.Module):
    """Convolution blocks, then one linear layer to the embedding.

    blocks: the convolutional part; embed: the linear layer, which a warm-up trains alone.
    """

    def __init__(self, config: SmallCnnConfig, in_channels: int, side: int) -> None:
        super().__init__()
        blocks = []
        for index, out_channels in enumerate(config.channels):
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
        self.embed = Embed(in_channels * side * side, config.embedding_dim, config.normalize)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, in_channels, side, side)."""
        embeddings: Tensor = self.embed(self.blocks(images).flatten(1))
        return embeddings


class ResidualBlock(nn.Module):
    """Two convolutions 3 x 3 with batch norm, added to what came in (He et al. 2016); a 1 x 1 where shapes differ."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.skip = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, S, S) to (B, out_channels, S / stride, S / stride)."""
        inner = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.skip(x))


class SmallResNet(nn.Module):
    """Stages of residual blocks, the mean over what is left, one linear layer to the embedding."""

    def __init__(self, config: SmallResnet, in_channels: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for out_channels in config.channels:
            for index in range(config.blocks):
                stages.append(ResidualBlock(in_channels, out_channels, stride=1 if index else 2))
                in_channels = out_channels
        self.blocks = nn.Sequential(*stages)
        self.embed = Embed(in_channels, config.embedding_dim, config.normalize)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, in_channels, side, side)."""
        embeddings: Tensor = self.embed(self.blocks(images).mean(dim=(2, 3)))
        return embeddings


Network = SmallCnn | SmallResNet | Backbone


def build_model(
    config: ModelConfig, in_channels: int, side: int, generator: torch.Generator, pretrained: bool = True
) -> Network:
    """The network for square images of `side` pixels, in channels-last memory format, on the CPU.

    All initial weights are drawn from `generator`, in the order of the layers: convolutions He-normal (fan in), the
    linear layer Xavier-uniform, biases 0; those of other packages as these draw them. torch's global generator decides
    nothing.
    Args: pretrained: False does not load the first weights that `config` names, for a network whose weights are about
    to be replaced.
    Raises: WeightsError if a package or its weights cannot be had.
    """
    model: SmallCnn | SmallResNet
    match config:
        case SmallCnnConfig():
            model = SmallCnn(config, in_channels, side)
        case SmallResnet():
            model = SmallResNet(config, in_channels)
        case Torchvision() | Timm() | EfficientnetLite0():
            return build_backbone(config, side, generator, pretrained).to(memory_format=torch.channels_last)
        case _:
            assert_never(config)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
    return model.to(memory_format=torch.channels_last)
