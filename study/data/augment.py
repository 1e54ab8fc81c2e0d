"""Random distortion of many images at once: affine and elastic warp, contrast, a smooth background, pixel noise."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.datasets import Distort

_ELASTIC_POINTS = 5
_BACKGROUND_POINTS = 4


def distort(images: Tensor, config: Distort, generator: torch.Generator) -> Tensor:
    """Distorted copies of `images`, each by its own draws.

    Args: images (N, 1, H, W) float32 in [0, 1], ink 1 on background 0; generator: on the device of the images. What an
    image gets depends on its place in the call, and on N.
    Returns: (N, 1, H, W) float32 in [0, 1].
    """
    n, _, height, width = images.shape
    ink = F.grid_sample(
        images, _warp_grid(n, height, width, config, generator, images.device), mode="bilinear", align_corners=False
    )
    if config.contrast_low < 1:
        ink *= _uniform(n, config.contrast_low, 1.0, generator, images.device).view(n, 1, 1, 1)
    if config.background:
        # One amplitude an image, so that nearly clean ones occur too: that is what evaluation shows.
        field = _smooth(
            torch.rand(n, _BACKGROUND_POINTS, _BACKGROUND_POINTS, generator=generator, device=images.device),
            height,
            width,
        )
        field *= _uniform(n, 0.0, config.background, generator, images.device).view(n, 1, 1)
        ink = torch.maximum(ink, field.unsqueeze(1))
    if config.noise:
        ink += torch.randn(images.shape, generator=generator, device=images.device).mul_(config.noise)
    return ink.clamp_(0.0, 1.0)


def _warp_grid(
    n: int, height: int, width: int, config: Distort, generator: torch.Generator, device: torch.device
) -> Tensor:
    """(N, H, W, 2): where each output pixel is sampled, in grid_sample's coordinates (-1 to 1 across the image)."""
    angle = _uniform(n, -1.0, 1.0, generator, device) * math.radians(config.rotation_degrees)
    zoom = 1.0 + config.scale * _uniform(n, -1.0, 1.0, generator, device)
    shear = config.shear * _uniform(n, -1.0, 1.0, generator, device)
    shift = 2.0 * config.shift * _uniform(2 * n, -1.0, 1.0, generator, device).view(n, 2)  # the image is 2 wide
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    # Rotation and zoom times [[1, shear], [0, 1]].
    rows = torch.stack([cos, cos * shear - sin, shift[:, 0], sin, sin * shear + cos, shift[:, 1]], dim=1)
    # One product for all images; x and y lie in two planes, which grid_sample reads faster than pairs.
    grid = (rows.view(2 * n, 3) @ _coordinates(height, width, device)).view(n, 2, height, width)
    if config.elastic:
        points = torch.randn(2 * n, _ELASTIC_POINTS, _ELASTIC_POINTS, generator=generator, device=device)
        grid += _smooth(points.mul_(config.elastic), height, width).view(n, 2, height, width)
    return grid.permute(0, 2, 3, 1)


def _uniform(n: int, low: float, high: float, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(n, generator=generator, device=device).mul_(high - low).add_(low)


@lru_cache(maxsize=8)
def _coordinates(height: int, width: int, device: torch.device) -> Tensor:
    """(3, H W): x, y of each pixel's center, and 1."""
    y = (torch.arange(height, device=device) * 2 + 1) / height - 1
    x = (torch.arange(width, device=device) * 2 + 1) / width - 1
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y, torch.ones_like(grid_x)]).view(3, height * width)


def _smooth(points: Tensor, height: int, width: int) -> Tensor:
    """(M, p, p) values to (M, H, W), bicubic between them: two matrix products, cheaper than F.interpolate."""
    rows, columns = _bicubic(points.shape[1], height, points.device), _bicubic(points.shape[2], width, points.device)
    return rows @ (points @ columns.T)


@lru_cache(maxsize=16)
def _bicubic(points: int, size: int, device: torch.device) -> Tensor:
    """(size, points): the linear map of F.interpolate's bicubic mode along one axis."""
    columns = torch.eye(points, device=device).view(1, points, points, 1)
    return F.interpolate(columns, size=(size, 1), mode="bicubic", align_corners=True)[0, :, :, 0].T.contiguous()
