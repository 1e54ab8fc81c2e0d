import pytest
import torch
import torch.nn.functional as F

from search_spaces.models import SmallCnn
from study.data.draws import generator
from study.training.models import build_model


def test_weights_come_from_the_generator_and_from_nothing_else() -> None:
    torch.manual_seed(1)
    first = build_model(SmallCnn(), 1, 32, generator(0)).state_dict()
    torch.manual_seed(2)
    second = build_model(SmallCnn(), 1, 32, generator(0)).state_dict()
    other = build_model(SmallCnn(), 1, 32, generator(1)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in first:
        if name.endswith(("conv.weight", "embed.weight")):
            assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("channels", [(4,), (4, 8, 8), (4, 8, 8, 16, 16)])
@pytest.mark.parametrize("embedding_dim", [2, 64])
def test_embeddings_have_the_dimension_asked_for(channels: tuple[int, ...], embedding_dim: int) -> None:
    model = build_model(SmallCnn(channels=channels, embedding_dim=embedding_dim), 1, 32, generator(0))
    assert model(torch.rand(3, 1, 32, 32)).shape == (3, embedding_dim)


def test_the_network_is_convolution_batch_norm_relu_pool_as_written() -> None:
    """Pooling before ReLU, as the network does it, gives the same values and the same gradients."""
    model = build_model(SmallCnn(channels=(4, 8, 8)), 1, 32, generator(0))
    images = torch.rand(5, 1, 32, 32, generator=generator(1))

    def as_written() -> torch.Tensor:
        x = images
        for index in range(3):
            weight = model.get_parameter(f"blocks.{index}.conv.weight")
            x = F.conv2d(x, weight, stride=1 if index else 2, padding=1)
            gain, bias = (model.get_parameter(f"blocks.{index}.norm.{name}") for name in ("weight", "bias"))
            x = F.relu(F.batch_norm(x, None, None, gain, bias, training=True))
            if index:
                x = F.max_pool2d(x, 2)
        return F.linear(x.flatten(1), model.embed.weight, model.embed.bias)

    weights = list(model.parameters())
    expected = torch.autograd.grad(as_written().square().sum(), weights)
    found = torch.autograd.grad(model(images).square().sum(), weights)
    torch.testing.assert_close(model(images), as_written())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_weights_lie_channels_last() -> None:
    model = build_model(SmallCnn(), 1, 32, generator(0))
    weight = model.get_parameter("blocks.2.conv.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
