"""Torch optimizers with one parameter group for the network and one for the loss's own parameters."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import nn

from search_spaces.optimizers import Adam, AdamW, OptimizerConfig, Sgd


def build_optimizer(config: OptimizerConfig, network: nn.Module, loss: nn.Module) -> torch.optim.Optimizer:
    """The optimizer for the parameters of both; `set_lr` gives the rates. A loss without parameters has no group.

    Fused implementations: one call a step in place of several per parameter.
    """
    groups = [{"params": list(network.parameters()), "name": "network"}]
    if proxies := list(loss.parameters()):
        groups.append({"params": proxies, "name": "proxies"})
    match config:
        case Adam():
            return torch.optim.Adam(groups, lr=config.lr, eps=config.eps, weight_decay=config.weight_decay, fused=True)
        case AdamW():
            return torch.optim.AdamW(groups, lr=config.lr, eps=config.eps, weight_decay=config.weight_decay, fused=True)
        case Sgd():
            return torch.optim.SGD(
                groups,
                lr=config.lr,
                momentum=config.momentum,
                nesterov=config.nesterov,
                weight_decay=config.weight_decay,
                # torch's fused SGD cannot take a step in which some parameters have momentum and others, after a
                # warm-up without gradients, have none yet
                foreach=True,
            )
        case _:
            assert_never(config)


def set_lr(optimizer: torch.optim.Optimizer, lr: float, proxy_lr: float) -> None:
    """Set the rates of the two groups: the same every time an epoch starts, whatever happened before."""
    for group in optimizer.param_groups:
        group["lr"] = proxy_lr if group["name"] == "proxies" else lr
