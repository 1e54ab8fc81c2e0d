"""One configuration type per network, where its first weights come from, and how it wants its pixels."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from search_spaces.base import Count, Frozen, Positive

Channels = Annotated[tuple[Count, ...], Field(min_length=1, max_length=5)]


class Head(Frozen):
    """What every network ends with. embedding_dim: D. normalize: embeddings of length 1.

    Losses of cosines, and Recall@K, normalize anyway; softmax and center, which do not, then see the sphere too.
    """

    embedding_dim: Count = 64
    normalize: bool = False


class SmallCnn(Head):
    """Blocks of convolution 3 x 3, batch norm, ReLU; stride 2 in the first, max pooling after the others; linear to D.

    channels: output channels per block.
    """

    kind: Literal["small_cnn"] = "small_cnn"
    channels: Channels = (16, 32, 64, 128)


class SmallResnet(Head):
    """Residual blocks (He et al. 2016, two convolutions 3 x 3 each), the first of each stage halving the side.

    Mean over what is left, then linear to D. channels: per stage; blocks: per stage.
    """

    kind: Literal["small_resnet"] = "small_resnet"
    channels: Channels = (16, 32, 64, 128)
    blocks: Count = 1


class RandomWeights(Frozen):
    """The network's own initialization, drawn from the trial's seed."""

    kind: Literal["random"] = "random"


class ImagenetWeights(Frozen):
    """Weights trained on ImageNet, as the network's package offers them; downloaded where they are not there yet."""

    kind: Literal["imagenet"] = "imagenet"


class WeightsFile(Frozen):
    """A state_dict saved by torch. sha256: of the file, so that a study says which weights it began with."""

    kind: Literal["file"] = "file"
    path: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


WeightsConfig = Annotated[RandomWeights | ImagenetWeights | WeightsFile, Field(discriminator="kind")]
Triple = tuple[float, float, float]


class Pixels(Frozen):
    """What a large network's three channels hold: (white * x - mean) / std for x in [0, 1].

    order: of the channels; mean, std: per channel in that order. The defaults are those of ImageNet's weights in
    torchvision and timm; SoftTriple's authors have bgr, white 255, mean (104, 117, 128), std 1. A gray image fills all
    three channels.
    """

    order: Literal["rgb", "bgr"] = "rgb"
    white: Positive = 1.0
    mean: Triple = (0.485, 0.456, 0.406)
    std: Annotated[tuple[Positive, Positive, Positive], Field()] = (0.229, 0.224, 0.225)


class Backbone(Head):
    """Base of the large networks: everything before the classifier, then one linear layer to D.

    input_side: images of another side are resized to it on entry, None takes them as they are. freeze_batch_norm:
    running means and variances stay as they began, in training too; gains and biases still learn. Dropout in front of
    the classifier goes with it.
    """

    weights: WeightsConfig = RandomWeights()
    input_side: Annotated[int, Field(ge=16, le=1024)] | None = None
    freeze_batch_norm: bool = False


def _pixels_of(model: dict[str, Any]) -> Pixels:
    """What an architecture of torchvision was trained on, by what is known of the model so far."""
    half = (0.5, 0.5, 0.5)
    return Pixels(mean=half, std=half) if model.get("architecture") in ("googlenet", "inception_v3") else Pixels()


class Torchvision(Backbone):
    """A network of torchvision. googlenet is Inception v1 with batch norm, the nearest to SoftTriple's.

    pixels: googlenet's and inception_v3's weights were trained on RGB from -1 to 1, and that is what these two have by
    default. torchvision's own conversion of their input is off: `pixels` alone says what the network sees.
    """

    kind: Literal["torchvision"] = "torchvision"
    architecture: Literal[
        "googlenet", "inception_v3", "resnet18", "resnet50", "efficientnet_b0", "convnext_tiny", "vit_b_16"
    ]

    pixels: Pixels = Field(default_factory=_pixels_of)

    @model_validator(mode="after")
    def _patches(self) -> Self:
        if self.architecture == "vit_b_16" and (self.input_side is None or self.input_side % 16):
            raise ValueError("input_side: vit_b_16 cuts images into squares of 16; give a multiple, 224 for ImageNet's")
        if self.architecture == "vit_b_16" and isinstance(self.weights, ImagenetWeights) and self.input_side != 224:
            raise ValueError("input_side: vit_b_16's ImageNet weights are for 224 pixels; give 224")
        return self


class Timm(Backbone):
    """A network of the package timm, by its name there; needs the extra `timm`."""

    kind: Literal["timm"] = "timm"
    architecture: Annotated[str, Field(min_length=1)]
    pixels: Pixels = Pixels()


class EfficientnetLite0(Backbone):
    """EfficientNet-Lite0, whose ImageNet weights come with a Python package; needs the extra `pretrained`."""

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    pixels: Pixels = Pixels()


ModelConfig = Annotated[
    SmallCnn | SmallResnet | Torchvision | Timm | EfficientnetLite0,
    Field(discriminator="kind"),
]
