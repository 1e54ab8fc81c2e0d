"""From a loss's configuration to its module."""

from __future__ import annotations

import torch

from search_spaces.losses import AdaCos, LossConfig, NormalizedSoftmax, Softmax, SoftTriple, adacos_fixed_scale
from search_spaces.schedules import LearnedScale, ScaleSchedule
from study.losses.adacos import AdaCosDynamicLoss, AdaCosFixedLoss
from study.losses.base import LossModule
from study.losses.proxies import xavier
from study.losses.scale import TrainedScale
from study.losses.soft_triple import SoftTripleLoss, kaiming_proxies, xavier_proxies
from study.losses.softmax import NormalizedSoftmaxLoss, SoftmaxLoss


def build_loss(config: LossConfig, classes: int, embedding_dim: int, generator: torch.Generator) -> LossModule:
    """The loss that `config` names, for `classes` training classes and embeddings of `embedding_dim` dimensions.

    All initial values are drawn from `generator`, so one seed gives one set of bits. They are on the CPU, as the
    generator should be. Proxies and classifier weights are Xavier-uniform, save where a loss's authors do otherwise.
    Raises: ValueError if `classes` is below 2, or below 3 for AdaCos.
    """
    if classes < 2:
        raise ValueError(
            f"{config.kind} needs at least 2 training classes, got {classes}; there is nothing to tell apart"
        )
    match config:
        case Softmax():
            return SoftmaxLoss(xavier(classes, embedding_dim, generator))
        case NormalizedSoftmax():
            return NormalizedSoftmaxLoss(xavier(classes, embedding_dim, generator), trained_scale(config.scale))
        case AdaCos():
            fixed_scale = adacos_fixed_scale(classes)
            weight = xavier(classes, embedding_dim, generator)
            return (AdaCosFixedLoss if config.mode == "fixed" else AdaCosDynamicLoss)(weight, fixed_scale)
        case SoftTriple():
            draw = xavier_proxies if config.proxy_init == "xavier" else kaiming_proxies
            return SoftTripleLoss(
                draw(classes, config.proxies_per_class, embedding_dim, generator),
                trained_scale(config.scale),
                gamma=config.gamma,
                delta=config.delta,
                tau=config.tau,
                hard=config.hard,
            )
        case _:
            raise NotImplementedError(config.kind)


def trained_scale(schedule: ScaleSchedule) -> TrainedScale | None:
    """The scale as a parameter if `schedule` says `learned`, else None."""
    return TrainedScale(schedule.initial, schedule.floor) if isinstance(schedule, LearnedScale) else None
