"""Quantities that theory predicts: angles, probabilities, the geometry of the proxies. Pure functions of tensors.

Means and variances are taken in float64. What a loss does not have (proxies, a scale) is left out.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

HISTOGRAM_BINS = 200  # equal bins on [-1, 1]
THETA_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_ROWS = 1024


def angle_metrics(similarities: Tensor, labels: Tensor) -> dict[str, float]:
    """Angles of embeddings to their own and to other classes.

    theta_q<nn>: quantiles, in degrees, of the angle to the own class (for several proxies a class, the angle whose
    cosine is the class's similarity S'). max_other_cosine: mean over images of the largest non-target cosine. mean_s_p,
    mean_s_n: mean cosine to the own class, and to the others.

    Args: similarities (N, C) cosines, C >= 2; labels (N,) int64 in [0, C).
    """
    target = labels[:, None]
    own = similarities.gather(1, target).flatten()
    largest_other = similarities.scatter(1, target, -math.inf).max(dim=1).values
    all_sum, own_sum = similarities.sum(dtype=torch.float64), own.sum(dtype=torch.float64)
    theta = np.degrees(np.arccos(own.double().clamp(-1, 1).cpu().numpy()))
    quantiles = np.quantile(theta, THETA_QUANTILES)
    return {
        f"theta_q{round(100 * q):02d}": float(value) for q, value in zip(THETA_QUANTILES, quantiles, strict=True)
    } | {
        "max_other_cosine": _mean(largest_other),
        "mean_s_p": _mean(own),
        "mean_s_n": float((all_sum - own_sum) / (similarities.numel() - len(own))),
    }


def probability_metrics(similarities: Tensor, labels: Tensor, scale: float) -> dict[str, float]:
    """P = softmax(scale * similarities), without margin, on clean images.

    effective_classes: mean of exp(entropy of P). mean_p_target: mean P of the own class. clean_ce: mean of -ln P of the
    own class, in nats.

    Args: similarities (N, C), cosines or plain logits (scale 1); labels (N,) int64 in [0, C).
    """
    log_p = F.log_softmax(scale * similarities, dim=1)
    log_target = log_p.gather(1, labels[:, None])
    entropy = torch.special.entr(log_p.exp()).sum(dim=1)
    return {
        "effective_classes": _mean(entropy.exp()),
        "mean_p_target": _mean(log_target.exp()),
        "clean_ce": -_mean(log_target),
    }


def pair_metrics(embeddings: Tensor, labels: Tensor) -> dict[str, float]:
    """pair_mean_s_p, pair_mean_s_n: mean cosine over all pairs of images of one class, and of two classes.

    By sums of unit vectors, not pair by pair. Left out where there is no such pair.

    Args: embeddings (N, D); labels (N,) int64 from 0.
    """
    unit = F.normalize(embeddings.double(), dim=1)
    sums = unit.new_zeros(int(labels.max()) + 1, unit.shape[1]).index_add_(0, labels, unit)
    counts = labels.bincount().double()
    within, total = sums.square().sum(), sums.sum(dim=0).square().sum()
    n, same = len(labels), float(counts.square().sum())
    metrics = {}
    if same > n:
        metrics["pair_mean_s_p"] = float((within - n) / (same - n))
    if n * n > same:
        metrics["pair_mean_s_n"] = float((total - within) / (n * n - same))
    return metrics


def move_degrees(before: Tensor, after: Tensor) -> float:
    """Median angle, in degrees, between vectors (..., D) before and after."""
    cosine = (F.normalize(before.double(), dim=-1) * F.normalize(after.double(), dim=-1)).sum(dim=-1)
    return float(np.median(np.degrees(np.arccos(cosine.clamp(-1, 1).cpu().numpy()))))


def proxy_metrics(proxies: Tensor) -> dict[str, float]:
    """Mean and variance of the proxies' cosines over pairs, by three definitions, and proxy_cos_max.

    proxy_cos_mean_<d>, proxy_cos_var_<d> for d: `all` pairs of the C K proxies; `between`: pairs of two classes;
    `class_mean`: pairs of the classes' mean directions. proxy_cos_max: the largest between classes.

    Args: proxies (C, K, D), unit, C >= 2.
    """
    metrics = {}
    for name, cosines in _pair_cosines(proxies).items():
        values = cosines.double()
        metrics[f"proxy_cos_mean_{name}"] = float(values.mean())
        metrics[f"proxy_cos_var_{name}"] = float(values.var(correction=0))
        if name == "between":
            metrics["proxy_cos_max"] = float(values.max())
    return metrics


def proxy_histograms(proxies: Tensor) -> dict[str, npt.NDArray[np.int64]]:
    """proxy_cos_hist_<d>: counts (200,) of the pairs' cosines in equal bins on [-1, 1], for proxy_metrics' three d."""
    return {
        f"proxy_cos_hist_{name}": np.histogram(cosines.clamp(-1, 1).cpu().numpy(), HISTOGRAM_BINS, (-1, 1))[0].astype(
            np.int64
        )
        for name, cosines in _pair_cosines(proxies).items()
    }


def _pair_cosines(proxies: Tensor) -> dict[str, Tensor]:
    classes, per_class, _ = proxies.shape
    flat = proxies.flatten(0, 1)
    owner = torch.arange(classes, device=proxies.device).repeat_interleave(per_class)
    every, between = [], []
    for start in range(0, len(flat), _ROWS):  # by rows: all pairs of 10,000 proxies at once would be 400 MB
        rows = slice(start, start + _ROWS)
        cosines = flat[rows] @ flat[start:].T
        upper = torch.ones_like(cosines, dtype=torch.bool).triu(1)
        every.append(cosines[upper])
        between.append(cosines[upper & (owner[rows, None] != owner[None, start:])])
    means = F.normalize(proxies.mean(dim=1), dim=1)
    upper = torch.ones(classes, classes, dtype=torch.bool, device=proxies.device).triu(1)
    return {"all": torch.cat(every), "between": torch.cat(between), "class_mean": (means @ means.T)[upper]}


def _mean(values: Tensor) -> float:
    return float(values.mean(dtype=torch.float64))
