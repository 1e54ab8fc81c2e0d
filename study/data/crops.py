"""Which part of a photo the network sees: drawn for many photos at once, then cut out by torchvision."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import assert_never

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.datasets import RandomCrop, RandomResizedCrop

Sizes = npt.NDArray[np.int64]
Boxes = npt.NDArray[np.int64]
"""(N, 5): top, left, height, width in pixels, and whether to flip (0 or 1)."""

_TRIES = 10


def center_boxes(heights: Sizes, widths: Sizes, side: int) -> Boxes:
    """The central squares of photos no smaller than `side`, where torchvision's center_crop takes them."""
    whole = np.full(len(heights), side)
    boxes = [np.round((heights - side) / 2), np.round((widths - side) / 2), whole, whole, np.zeros(len(heights))]
    return np.stack(boxes, axis=1).astype(np.int64)


def draw_boxes(
    heights: Sizes, widths: Sizes, side: int, config: RandomResizedCrop | RandomCrop, generator: torch.Generator
) -> Boxes:
    """One random box per photo, each by its own draws. Photos are no smaller than `side`.

    Source: torchvision's RandomResizedCrop and RandomCrop, which draw from the global generator, a photo at a time.
    """
    draws = torch.rand(len(heights), 3, generator=generator, dtype=torch.float64).numpy()
    match config:
        case RandomCrop():
            box_heights = box_widths = np.full(len(heights), side)
            found = np.ones(len(heights), dtype=np.bool_)
        case RandomResizedCrop():
            box_heights, box_widths, found = _rectangles(heights, widths, config, generator)
        case _:
            assert_never(config)
    free_rows, free_columns = heights - box_heights, widths - box_widths
    top = np.where(found, np.floor(draws[:, 0] * (free_rows + 1)), free_rows // 2)
    left = np.where(found, np.floor(draws[:, 1] * (free_columns + 1)), free_columns // 2)
    return np.stack([top, left, box_heights, box_widths, draws[:, 2] < config.flip], axis=1).astype(np.int64)


def _rectangles(
    heights: Sizes, widths: Sizes, config: RandomResizedCrop, generator: torch.Generator
) -> tuple[Sizes, Sizes, npt.NDArray[np.bool_]]:
    """Heights and widths, and whether one of the tries fitted; else the largest allowed rectangle of the middle."""
    draws = torch.rand(len(heights), _TRIES, 2, generator=generator, dtype=torch.float64).numpy()
    low, high = config.area
    areas = (low + (high - low) * draws[:, :, 0]) * (heights * widths)[:, None]
    log_low, log_high = math.log(config.aspect[0]), math.log(config.aspect[1])
    aspects = np.exp(log_low + (log_high - log_low) * draws[:, :, 1])
    tried_widths, tried_heights = np.round(np.sqrt(areas * aspects)), np.round(np.sqrt(areas / aspects))
    fits = (tried_widths > 0) & (tried_widths <= widths[:, None])
    fits &= (tried_heights > 0) & (tried_heights <= heights[:, None])
    found, rows, first = fits.any(axis=1), np.arange(len(heights)), fits.argmax(axis=1)
    own = widths / heights
    wide, narrow = own > config.aspect[1], own < config.aspect[0]
    last_heights = np.where(narrow, np.round(widths / config.aspect[0]), heights)
    last_widths = np.where(wide, np.round(heights * config.aspect[1]), widths)
    box_heights = np.where(found, tried_heights[rows, first], last_heights).astype(np.int64)
    box_widths = np.where(found, tried_widths[rows, first], last_widths).astype(np.int64)
    return box_heights, box_widths, found


def cut(photos: Iterable[Tensor], boxes: Boxes, side: int, pin: bool = False) -> Tensor:
    """The boxes out of `photos`, each (3, H, W) uint8, resized where they are no squares of `side`.

    Returns: (B, 3, side, side) uint8, channels last; pin: in memory that a GPU can copy by itself.
    """
    from torchvision.transforms.v2 import functional  # takes seconds to import, and only photos need it

    squares = torch.empty((len(boxes), side, side, 3), dtype=torch.uint8, pin_memory=pin).permute(0, 3, 1, 2)
    for place, (photo, box) in enumerate(zip(photos, boxes.tolist(), strict=True)):
        top, left, height, width, _ = box
        part = photo[:, top : top + height, left : left + width]
        # Antialiased, as Pillow does it; on uint8 by the same integer arithmetic.
        squares[place] = part if (height, width) == (side, side) else functional.resize(part, [side, side])
    flip = torch.from_numpy(boxes[:, 4] == 1)
    if flip.any():
        squares[flip] = functional.horizontal_flip(squares[flip])
    return squares
