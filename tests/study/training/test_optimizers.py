import pytest
import torch
from torch import nn

from search_spaces.optimizers import Adam, AdamW, OptimizerConfig, Sgd
from study.training.optimizers import build_optimizer, set_lr

CONFIGS = [
    Adam(lr=0.1, proxy_lr=0.2, eps=0.01, weight_decay=0.1),
    AdamW(lr=0.1, proxy_lr=0.2, eps=0.01, weight_decay=0.1),
    Sgd(lr=0.1, proxy_lr=0.2, momentum=0.9, nesterov=True, weight_decay=0.1),
]


def plain(config: OptimizerConfig, groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    match config:
        case Adam():
            return torch.optim.Adam(groups, eps=config.eps, weight_decay=config.weight_decay, fused=False)
        case AdamW():
            return torch.optim.AdamW(groups, eps=config.eps, weight_decay=config.weight_decay, fused=False)
        case Sgd():
            return torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=config.weight_decay, fused=False)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_each_group_takes_torchs_own_steps_at_its_own_rate(config: OptimizerConfig) -> None:
    def modules() -> tuple[nn.Module, nn.Module]:
        torch.manual_seed(0)
        return nn.Linear(3, 4), nn.Linear(4, 5)

    network, loss = modules()
    optimizer = build_optimizer(config, network, loss)
    set_lr(optimizer, config.lr, config.proxy_lr)
    other_network, other_loss = modules()
    groups: list[dict[str, object]] = [
        {"params": list(other_network.parameters()), "lr": 0.1},
        {"params": list(other_loss.parameters()), "lr": 0.2},
    ]
    other = plain(config, groups)
    images = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        for one, two, step in ((network, loss, optimizer), (other_network, other_loss, other)):
            step.zero_grad()
            two(one(images)).square().sum().backward()
            step.step()
    for found, expected in zip(
        [*network.parameters(), *loss.parameters()],
        [*other_network.parameters(), *other_loss.parameters()],
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


def test_a_loss_without_parameters_has_no_group() -> None:
    optimizer = build_optimizer(Adam(), nn.Linear(2, 2), nn.Identity())
    set_lr(optimizer, 0.5, 0.7)
    assert [(group["name"], group["lr"]) for group in optimizer.param_groups] == [("network", 0.5)]
