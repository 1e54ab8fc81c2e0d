"""From a loss's configuration to its module."""

from __future__ import annotations

from typing import assert_never

import torch

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
    adacos_fixed_scale,
)
from search_spaces.schedules import LearnedScale, ScaleSchedule
from study.losses.adacos import AdaCosDynamicLoss, AdaCosFixedLoss
from study.losses.arcface import ArcFaceLoss
from study.losses.base import LossModule
from study.losses.center import CenterLoss, initial_centers
from study.losses.circle import CircleClassLoss, CirclePairLoss
from study.losses.contrastive import ContrastiveLoss
from study.losses.cosface import CosFaceLoss
from study.losses.proxies import xavier
from study.losses.proxy_anchor import ProxyAnchorLoss, kaiming_normal
from study.losses.proxy_nca import ProxyNcaLoss
from study.losses.scale import TrainedScale
from study.losses.soft_triple import SoftTripleLoss, kaiming_proxies, xavier_proxies
from study.losses.softmax import NormalizedSoftmaxLoss, SoftmaxLoss
from study.losses.triplet import TripletLoss


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
        case ArcFace():
            return ArcFaceLoss(
                xavier(classes, embedding_dim, generator),
                trained_scale(config.scale),
                margin_rad=config.margin_rad,
                guarded=config.guarded,
            )
        case CosFace():
            weight = xavier(classes, embedding_dim, generator)
            return CosFaceLoss(weight, trained_scale(config.scale), margin=config.margin)
        case Circle(level="class"):
            weight = xavier(classes, embedding_dim, generator)
            return CircleClassLoss(weight, m=config.m, gamma=config.gamma, weighting=config.weighting)
        case Circle():
            whole_batch = config.level == "batch"
            return CirclePairLoss(m=config.m, gamma=config.gamma, weighting=config.weighting, whole_batch=whole_batch)
        case Center():
            weight = xavier(classes, embedding_dim, generator)
            centers = initial_centers(config.center_init, classes, embedding_dim, generator)
            return CenterLoss(weight, centers, lambda_=config.lambda_, alpha=config.alpha)
        case ProxyAnchor():
            weight = kaiming_normal(classes, embedding_dim, generator)
            return ProxyAnchorLoss(weight, alpha=config.alpha, delta=config.delta)
        case ProxyNca():
            weight = xavier(classes, embedding_dim, generator)
            return ProxyNcaLoss(weight, sigma=config.sigma, with_target=config.with_target)
        case Contrastive():
            return ContrastiveLoss(margin=config.margin, form=config.form)
        case Triplet():
            return TripletLoss(
                margin=config.margin, distance=config.distance, mining=config.mining, average=config.average
            )
        case _:
            assert_never(config)


def trained_scale(schedule: ScaleSchedule) -> TrainedScale | None:
    """The scale as a parameter if `schedule` says `learned`, else None."""
    return TrainedScale(schedule.initial, schedule.floor) if isinstance(schedule, LearnedScale) else None
