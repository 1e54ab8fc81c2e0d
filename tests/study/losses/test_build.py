"""One table over all losses: what each must do, whatever its formula is."""

from __future__ import annotations

import io
import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad

from search_spaces.losses import (
    AdaCos,
    ArcFace,
    Center,
    Circle,
    Contrastive,
    CosFace,
    LossConfig,
    NormalizedSoftmax,
    ProxyAnchor,
    ProxyNca,
    Softmax,
    SoftTriple,
    Triplet,
)
from search_spaces.schedules import ConstantScale, LearnedScale
from study.losses.base import LossModule, LossOutput
from study.losses.build import build_loss

CLASSES, DIM, SCALE = 5, 6, 12.0
CONSTANT, LEARNED = ConstantScale(value=SCALE), LearnedScale()

TABLE: dict[str, LossConfig] = {
    "softmax": Softmax(),
    "normalized_softmax": NormalizedSoftmax(scale=CONSTANT),
    "normalized_softmax, learned scale": NormalizedSoftmax(scale=LEARNED),
    "adacos, fixed": AdaCos(mode="fixed"),
    "adacos, dynamic": AdaCos(mode="dynamic"),
    "soft_triple": SoftTriple(scale=CONSTANT, proxies_per_class=3),
    "soft_triple, kaiming": SoftTriple(scale=CONSTANT, proxies_per_class=3, proxy_init="kaiming"),
    "soft_triple, hard": SoftTriple(scale=CONSTANT, proxies_per_class=3, hard=True),
    "soft_triple, one proxy": SoftTriple(scale=CONSTANT, proxies_per_class=1),
    "soft_triple, learned scale": SoftTriple(scale=LEARNED, proxies_per_class=3),
    "arcface": ArcFace(scale=CONSTANT),
    "arcface, plain": ArcFace(scale=CONSTANT, guarded=False),
    "arcface, learned scale": ArcFace(scale=LEARNED),
    "cosface": CosFace(scale=CONSTANT),
    "cosface, learned scale": CosFace(scale=LEARNED),
    "circle, pair": Circle(),
    "circle, batch": Circle(level="batch"),
    "circle, class": Circle(level="class", m=0.25, gamma=256),
    "circle, pair, unweighted": Circle(weighting=False),
    "circle, class, unweighted": Circle(level="class", weighting=False),
    "center": Center(),
    "center, zeros": Center(center_init="zeros"),
    "center, normal": Center(center_init="normal"),
    "proxy_anchor": ProxyAnchor(),
    "proxy_nca": ProxyNca(),
    "proxy_nca, with target": ProxyNca(sigma=9, with_target=True),
    "contrastive": Contrastive(),
    "contrastive, thesis": Contrastive(form="thesis"),
    "triplet": Triplet(),
    "triplet, squared": Triplet(distance="squared"),
    "triplet, semi-hard": Triplet(mining="semi_hard", margin=0.5),
    "triplet, hard, nonzero": Triplet(mining="hard", average="nonzero"),
}
every_loss = pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in TABLE.items()])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(config: LossConfig, seed: int = 0) -> LossModule:
    return build_loss(config, CLASSES, DIM, seeded(seed))


def scale_for(config: LossConfig) -> float | None:
    return SCALE if getattr(config, "scale", None) == CONSTANT else None


def a_batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Ten embeddings, two for each class, not far from an axis of their own."""
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    embeddings = torch.eye(DIM)[labels] + 0.5 * torch.randn(10, DIM, generator=seeded(seed))
    return 2 * embeddings, labels


def run(loss: LossModule, config: LossConfig, embeddings: Tensor, labels: Tensor) -> LossOutput:
    output: LossOutput = loss(embeddings, labels, scale_for(config))
    return output


def trained(config: LossConfig, steps: int) -> LossModule:
    loss = built(config)
    for step in range(steps):
        embeddings, labels = a_batch(step)
        value = run(loss, config, embeddings, labels).loss
        parameters = list(loss.parameters())
        if parameters:
            with torch.no_grad():
                for parameter, gradient in zip(parameters, grad(value, parameters), strict=True):
                    parameter.sub_(0.1 * gradient)
        loss.after_step(embeddings, labels)
    return loss


def test_the_table_holds_every_loss() -> None:
    union, _ = get_args(LossConfig)
    assert {type(config) for config in TABLE.values()} == set(get_args(union))


@every_loss
def test_a_loss_is_a_finite_scalar_with_detached_extras(config: LossConfig) -> None:
    embeddings, labels = a_batch()
    output = run(built(config), config, embeddings.requires_grad_(), labels)
    assert output.loss.shape == ()
    assert output.loss.isfinite()
    assert not any(part.requires_grad for part in output.parts.values())
    if output.parts:
        torch.testing.assert_close(torch.stack(list(output.parts.values())).sum(), output.loss.detach())
    if output.similarities is not None:
        assert output.similarities.shape == (10, CLASSES)
        assert not output.similarities.requires_grad


@every_loss
def test_gradients_reach_what_learns_and_nothing_else(config: LossConfig) -> None:
    loss = built(config)
    embeddings, labels = a_batch()
    embeddings.requires_grad_()
    learning = {"embeddings": embeddings, **dict(loss.named_parameters())}
    gradients = grad(run(loss, config, embeddings, labels).loss, list(learning.values()))
    for name, gradient in zip(learning, gradients, strict=True):
        assert gradient.isfinite().all(), name
        assert gradient.any(), name
    assert not any(buffer.requires_grad for buffer in loss.buffers())
    expected = set()
    if isinstance(config, Softmax | Center):
        expected = {"weight", "bias"}
    elif not (isinstance(config, Contrastive | Triplet) or (isinstance(config, Circle) and config.level != "class")):
        expected = {"weight"} | ({"trained_scale.value"} if getattr(config, "scale", None) == LEARNED else set())
    assert set(learning) - {"embeddings"} == expected


@every_loss
def test_batch_order_is_no_matter(config: LossConfig) -> None:
    order = torch.tensor([3, 9, 0, 5, 7, 1, 8, 2, 6, 4])
    embeddings, labels = (part.double() if part.is_floating_point() else part for part in a_batch())
    embeddings.requires_grad_()
    found = []
    for arrangement in (torch.arange(10), order):
        loss = built(config).double()
        value = run(loss, config, embeddings[arrangement], labels[arrangement]).loss
        found.append([value, *grad(value, [embeddings, *loss.parameters()])])
        loss.after_step(embeddings[arrangement].detach(), labels[arrangement])
        found[-1] += [tensor for tensor in loss.state_dict().values() if tensor.is_floating_point()]
        found[-1] += [torch.tensor(metric) for metric in loss.epoch_metrics().values()]
    for before, after in zip(*found, strict=True):
        torch.testing.assert_close(before, after, rtol=1e-9, atol=1e-12)


def degenerate(name: str) -> tuple[Tensor, Tensor]:
    embeddings, labels = a_batch()
    match name:
        case "one class":
            return embeddings, torch.zeros_like(labels)
        case "one image of each class":
            return embeddings[:5], labels[:5]
        case "one image":
            return embeddings[:1], labels[:1]
        case "all embeddings equal":
            return embeddings[:1].expand(10, -1).contiguous(), labels
        case "all embeddings zero":
            return torch.zeros_like(embeddings), labels
        case "opposite embeddings":
            return torch.cat([embeddings[:5], -embeddings[:5]]), labels
        case "huge embeddings":
            return 1e6 * embeddings, labels
        case _:
            raise AssertionError(name)


@every_loss
@pytest.mark.parametrize(
    "name",
    [
        "one class",
        "one image of each class",
        "one image",
        "all embeddings equal",
        "all embeddings zero",
        "opposite embeddings",
        "huge embeddings",
    ],
)
def test_a_degenerate_batch_does_no_harm(config: LossConfig, name: str) -> None:
    loss = built(config)
    embeddings, labels = degenerate(name)
    embeddings.requires_grad_()
    if isinstance(config, Circle) and config.level != "class" and name.startswith("one "):
        with pytest.raises(ValueError, match="draw batches of 2 or more classes"):
            run(loss, config, embeddings, labels)
        return
    value = run(loss, config, embeddings, labels).loss
    assert value.isfinite()
    for gradient in grad(value, [embeddings, *loss.parameters()]):
        assert gradient.isfinite().all()
    loss.after_step(embeddings.detach(), labels)
    assert all(tensor.isfinite().all() for tensor in loss.state_dict().values())
    assert all(math.isfinite(metric) for metric in loss.epoch_metrics().values())


@every_loss
def test_state_survives_saving_and_loading(config: LossConfig) -> None:
    loss, loaded = trained(config, steps=3), built(config, seed=1)
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    embeddings, labels = a_batch(7)
    for module in (loss, loaded):
        module.epoch_metrics()  # the epoch's means are reported, not saved
    assert torch.equal(run(loss, config, embeddings, labels).loss, run(loaded, config, embeddings, labels).loss)
    assert loss.epoch_metrics() == loaded.epoch_metrics()


@every_loss
def test_one_seed_gives_one_set_of_bits_and_no_draw_from_elsewhere(config: LossConfig) -> None:
    elsewhere = torch.get_rng_state()
    first, same, other = (list(trained_from(config, seed).values()) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), elsewhere)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    if "weight" in trained_from(config, 0):
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def trained_from(config: LossConfig, seed: int) -> dict[str, Tensor]:
    state: dict[str, Tensor] = built(config, seed).state_dict()
    return state


@every_loss
def test_evaluation_sees_the_similarities_of_training(config: LossConfig) -> None:
    loss = built(config)
    embeddings, labels = a_batch()
    output = run(loss, config, embeddings.requires_grad_(), labels)
    similarities = loss.similarities(embeddings)
    if output.similarities is None:
        assert similarities is None
    else:
        assert similarities is not None
        assert not similarities.requires_grad
        torch.testing.assert_close(similarities, output.similarities)


@every_loss
def test_proxies_are_unit_vectors_of_each_class(config: LossConfig) -> None:
    proxies = built(config).proxies()
    if not hasattr(built(config), "weight") or isinstance(config, Softmax | Center):
        assert proxies is None
        return
    assert proxies is not None
    assert proxies.shape == (CLASSES, getattr(config, "proxies_per_class", 1), DIM)
    assert not proxies.requires_grad
    torch.testing.assert_close(proxies.norm(dim=-1), torch.ones(proxies.shape[:2]))
    # The own proxies of a class are what its samples are most similar to.
    similarities = built(config).similarities(proxies[:, 0])
    assert similarities is not None
    assert similarities.argmax(1).tolist() == list(range(CLASSES))


@every_loss
def test_evaluation_mode_changes_no_state_and_no_metric(config: LossConfig) -> None:
    loss = trained(config, steps=2)
    loss.epoch_metrics()
    quiet = loss.epoch_metrics()
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    run(loss.eval(), config, *a_batch(9))
    assert all(torch.equal(before[name], tensor) for name, tensor in loss.state_dict().items())
    assert loss.epoch_metrics() == quiet


@every_loss
def test_training_on_the_embeddings_lowers_the_loss(config: LossConfig) -> None:
    loss = built(config)
    embeddings, labels = a_batch()
    learning = [nn.Parameter(embeddings), *loss.parameters()]
    optimizer = torch.optim.Adam(learning, lr=0.05)
    values = []
    for _ in range(25):
        value = run(loss, config, learning[0], labels).loss
        values.append(value.item())
        for parameter, gradient in zip(learning, grad(value, learning), strict=True):
            parameter.grad = gradient
        optimizer.step()
        loss.after_step(learning[0].detach(), labels)
    assert values[-1] < 0.7 * values[0]


TRIPLET_HARD = Triplet(mining="hard", margin=0.5)
CHANGED: list[tuple[LossConfig, LossConfig]] = [
    (AdaCos(mode="fixed"), AdaCos(mode="dynamic")),
    (SoftTriple(scale=CONSTANT), SoftTriple(scale=CONSTANT, gamma=0.2)),
    (SoftTriple(scale=CONSTANT), SoftTriple(scale=CONSTANT, delta=0.02)),
    (SoftTriple(scale=CONSTANT), SoftTriple(scale=CONSTANT, tau=0.3)),
    (SoftTriple(scale=CONSTANT), SoftTriple(scale=CONSTANT, proxies_per_class=9)),
    (SoftTriple(scale=CONSTANT), SoftTriple(scale=CONSTANT, hard=True)),
    (SoftTriple(scale=CONSTANT), SoftTriple(scale=CONSTANT, proxy_init="kaiming")),
    (ArcFace(scale=CONSTANT), ArcFace(scale=CONSTANT, margin_rad=0.4)),
    (ArcFace(scale=CONSTANT, margin_rad=1.5), ArcFace(scale=CONSTANT, margin_rad=1.5, guarded=False)),
    (CosFace(scale=CONSTANT), CosFace(scale=CONSTANT, margin=0.3)),
    (CosFace(scale=LEARNED), CosFace(scale=LearnedScale(initial=9.0))),
    *[(Circle(level=level), Circle(level=level, m=0.3)) for level in ("pair", "batch", "class")],
    *[(Circle(level=level), Circle(level=level, gamma=70)) for level in ("pair", "batch", "class")],
    *[(Circle(level=level), Circle(level=level, weighting=False)) for level in ("pair", "batch", "class")],
    (Circle(level="pair"), Circle(level="batch")),
    (Center(), Center(lambda_=0.004)),
    (Center(), Center(alpha=0.4)),
    (Center(), Center(center_init="zeros")),
    (ProxyAnchor(), ProxyAnchor(alpha=31)),
    (ProxyAnchor(), ProxyAnchor(delta=0.2)),
    (ProxyNca(), ProxyNca(sigma=2)),
    (ProxyNca(), ProxyNca(with_target=True)),
    (Contrastive(), Contrastive(margin=0.9)),
    (Contrastive(), Contrastive(form="thesis")),
    (Triplet(), Triplet(margin=0.3)),
    (Triplet(), Triplet(distance="squared")),
    (Triplet(), Triplet(average="nonzero")),
    (TRIPLET_HARD, TRIPLET_HARD.replace(mining="all")),
    (TRIPLET_HARD, TRIPLET_HARD.replace(mining="semi_hard")),
]


@pytest.mark.parametrize(("config", "changed"), CHANGED)
def test_every_field_of_a_configuration_reaches_the_loss(config: LossConfig, changed: LossConfig) -> None:
    values = []
    for version in (config, changed):
        loss = built(version)
        embeddings, labels = a_batch()
        run(loss, version, embeddings, labels)
        loss.after_step(embeddings, labels)
        values.append(
            run(loss, version, embeddings, labels).loss.item()
        )  # once more, as Center's alpha acts in between
    assert values[0] != values[1]


STRESSED: dict[str, LossConfig] = {
    "normalized_softmax": NormalizedSoftmax(scale=ConstantScale(value=64)),
    "soft_triple": SoftTriple(scale=ConstantScale(value=64), delta=0.5),
    "arcface": ArcFace(scale=ConstantScale(value=64), margin_rad=1.0),
    "arcface, plain": ArcFace(scale=ConstantScale(value=64), margin_rad=1.0, guarded=False),
    "cosface": CosFace(scale=ConstantScale(value=64), margin=0.9),
    "circle, pair": Circle(gamma=256),
    "circle, batch": Circle(level="batch", gamma=256),
    "circle, class": Circle(level="class", gamma=256),
    "circle, unweighted": Circle(level="class", gamma=256, weighting=False),
    "proxy_anchor": ProxyAnchor(alpha=256),
    "proxy_nca": ProxyNca(sigma=128),
    "proxy_nca, with target": ProxyNca(sigma=128, with_target=True),
}


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in STRESSED.items()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_scales_and_margins_stay_finite(config: LossConfig, dtype: torch.dtype) -> None:
    loss = built(config).to(dtype)
    # Every image sits on another class's proxy, or on the axis of one, so that the logits are as bad as they get.
    proxies = loss.proxies()
    directions = torch.eye(DIM)[:CLASSES] if proxies is None else proxies[:, 0]
    embeddings = torch.cat([directions, -directions]).to(dtype).detach().requires_grad_()
    labels = torch.tensor([1, 2, 3, 4, 0, 0, 1, 2, 3, 4])
    value = loss(embeddings, labels, 64.0).loss
    assert value.item() > 10
    for gradient in grad(value, [embeddings, *loss.parameters()]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("config", "classes"), [(Softmax(), 1), (AdaCos(mode="fixed"), 2), (AdaCos(mode="dynamic"), 2)]
)
def test_too_few_classes_are_refused(config: LossConfig, classes: int) -> None:
    with pytest.raises(ValueError, match=r"at least [23] training classes, got [12]"):
        build_loss(config, classes, DIM, seeded(0))
