"""Decoded photos of many sizes in one memory-mapped file, and the squares that are cut from them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.datasets import NoAugment, RandomCrop, RandomResizedCrop
from study.data.arrays import whole_file
from study.data.crops import center_boxes, cut, draw_boxes

_END = b"photos 1"  # behind everything else: a file that was cut short does not end so


@dataclass(frozen=True)
class PhotoFile:
    """A whole dataset in class order.

    pixels: all photos one after the other, (bytes,) uint8, memory-mapped, each (H, W, 3) from its offset on. offsets,
    heights, widths, labels: (N,) int64, labels rising from 0. names: one per class.
    """

    pixels: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    heights: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Photos:
    """Some photos of a file, by index, and the side of the square that is cut from each."""

    file: PhotoFile
    indices: npt.NDArray[np.int64]
    side: int

    def __len__(self) -> int:
        return len(self.indices)

    def photo(self, place: int) -> Tensor:
        """The photo at `place` as (3, H, W) uint8, RGB: a view of the file."""
        index = self.indices[place]
        height, width = int(self.file.heights[index]), int(self.file.widths[index])
        start = int(self.file.offsets[index])
        pixels = self.file.pixels[start : start + height * width * 3].reshape(height, width, 3)
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def boxes(
        self, places: Tensor, config: RandomResizedCrop | RandomCrop | NoAugment, generator: torch.Generator
    ) -> npt.NDArray[np.int64]:
        """What to cut from the photos at `places`, drawn for all of an epoch at once: see `draw_boxes`."""
        own = self.indices[places.numpy()]
        heights, widths = self.file.heights[own], self.file.widths[own]
        if isinstance(config, NoAugment):
            return center_boxes(heights, widths, self.side)
        return draw_boxes(heights, widths, self.side, config, generator)

    def squares(self, places: Tensor, boxes: npt.NDArray[np.int64], device: torch.device) -> Tensor:
        """(B, 3, side, side) float32 in [0, 1] on `device`: the boxes cut from the photos at `places`.

        On a GPU the bytes go through pinned memory and become floats there.
        """
        photos = (self.photo(place) for place in places.tolist())
        cuda = device.type == "cuda"
        pixels = cut(photos, boxes, self.side, pin=cuda)
        return pixels.to(device, non_blocking=cuda).to(torch.float32).div_(255.0)

    def clean(self, size: int, device: torch.device) -> Iterator[Tensor]:
        """All photos in order, `size` at once, each its central square."""
        for places in torch.split(torch.arange(len(self)), size):
            own = self.indices[places.numpy()]
            boxes = center_boxes(self.file.heights[own], self.file.widths[own], self.side)
            yield self.squares(places, boxes, device)


def read_photos(path: Path) -> PhotoFile | None:
    """The photos in `path`; None where there is no whole file of this format."""
    try:
        with path.open("rb") as file:
            file.seek(-len(_END) - 8, os.SEEK_END)
            length, end = int.from_bytes(file.read(8), "little"), file.read()
            if end != _END:
                return None
            index_start = file.seek(-len(_END) - 8 - length, os.SEEK_END)
            with np.load(io.BytesIO(file.read(length)), allow_pickle=False) as index:
                heights, widths, labels, names = (index[name] for name in ("heights", "widths", "labels", "names"))
                offsets = index["offsets"]
        # Copy on write: torch warns of memory that it must not write to, though nobody does.
        pixels = np.memmap(path, np.uint8, mode="c", shape=(index_start,))
        found = PhotoFile(pixels, offsets, heights, widths, labels, tuple(str(name) for name in names))
    except Exception:  # numpy's reader raises whatever broken bytes lead to
        return None
    return found


def write_photos(
    path: Path,
    photos: Iterator[tuple[int, npt.NDArray[np.uint8]]],
    labels: npt.NDArray[np.int64],
    names: tuple[str, ...],
    check: Callable[[int, int], None],
) -> None:
    """Write all `photos` to `path`, which stands whole and durable or not at all.

    Args: photos: (index, (H, W, 3)), every index of `labels` once, in any order; check: called with photos and bytes
    written after each, may raise.
    Raises: OSError; what `photos` and `check` raise; ValueError if photos are missing.
    """
    offsets, heights, widths = (np.full(len(labels), -1, dtype=np.int64) for _ in range(3))
    with whole_file(path) as file:
        for count, (index, pixels) in enumerate(photos, start=1):
            offsets[index] = file.tell()
            heights[index], widths[index] = pixels.shape[:2]
            file.write(pixels.tobytes())
            check(count, file.tell())
        if (offsets < 0).any():
            raise ValueError(f"no pixels for photo {int(np.flatnonzero(offsets < 0)[0])}")
        index_bytes = io.BytesIO()
        np.savez(index_bytes, offsets=offsets, heights=heights, widths=widths, labels=labels, names=np.array(names))
        file.write(index_bytes.getvalue() + len(index_bytes.getvalue()).to_bytes(8, "little") + _END)
