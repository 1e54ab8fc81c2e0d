"""Photos to batches: our cache of decoded photos against torchvision's ImageFolder with a DataLoader.

    python -m benchmarks.input [--images 1000] [--rounds 5] [--data FOLDER]

All make batches of 32 squares of 224 pixels by RandomResizedCrop and flips, float32 in [0, 1], in an order drawn anew.
Without --data the photos are made up: JPEG, 500 x 375 and 375 x 500 in turn, smooth color fields with noise; --data
names a folder of class folders.

- ingest: our first reading, once a data set: decode, resize the shorter side to 256, write the memory-mapped file.
- cache: an epoch's batches from that file.
- ImageFolder, N workers: decode and crop in each epoch, with N worker processes (0: in this one).

Every contender has one torch thread a process, as a trial has; rounds are interleaved. The first round warms up.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.machine import describe_machine
from search_spaces.datasets import ImageFolder, RandomResizedCrop, Split
from search_spaces.losses import NormalizedSoftmax
from search_spaces.schedules import ConstantScale
from search_spaces.trial_config import Measure, TrialConfig
from study.data.build import load_trial_data
from study.data.photos import Photos

SIDE, BATCH, CLASSES = 224, 32, 20
WORKERS = (0, 2)


def write_photos(folder: Path, count: int) -> None:
    """`count` made-up JPEG photos in CLASSES class folders."""
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = ((500, 375), (375, 500))[number % 2]
        field = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(field, dtype=np.int16) + rng.normal(0, 8, (height, width, 3)).astype(np.int16)
        path = folder / f"class_{number % CLASSES:02}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=90)


def from_cache(folder: Path, cache_dir: Path) -> tuple[Callable[[int], Iterator[Tensor]], float, int]:
    """An epoch's batches from our cache, the seconds that filling it took, and the number of photos."""
    classes = sum(path.is_dir() for path in folder.iterdir())
    trial = TrialConfig(
        dataset=ImageFolder(folder=folder.name, side=SIDE),
        split=Split(train_classes=classes - 1, val_classes=1, test_classes=0),
        loss=NormalizedSoftmax(scale=ConstantScale(value=20)),
        augment=RandomResizedCrop(),
        measure=Measure(test=False),
        epochs=1,
    )
    began = time.perf_counter()
    data = load_trial_data(trial, folder.parent, cache_dir)
    seconds = time.perf_counter() - began
    file = data.train.images
    assert isinstance(file, Photos)
    photos = Photos(file.file, np.arange(len(file.file.labels)), SIDE)

    def epoch(number: int) -> Iterator[Tensor]:
        draws = torch.Generator().manual_seed(number)
        batches = list(torch.split(torch.randperm(len(photos), generator=draws), BATCH))
        boxes = photos.boxes(torch.cat(batches), RandomResizedCrop(), draws)
        for place, batch in enumerate(batches):
            start = place * BATCH
            yield photos.squares(batch, boxes[start : start + len(batch)], torch.device("cpu"))

    return epoch, seconds, len(photos)


def from_files(folder: Path, workers: int) -> Callable[[int], Iterator[Tensor]]:
    """An epoch's batches as one writes it with torchvision."""
    from torchvision import datasets
    from torchvision.transforms import v2

    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomResizedCrop(SIDE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    loader = torch.utils.data.DataLoader(
        datasets.ImageFolder(folder, transform),
        batch_size=BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda number: (images for images, _ in loader)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print the table and, as the last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="how many to make up")
    parser.add_argument("--rounds", type=int, default=5, help="epochs timed per contender, after one to warm up")
    parser.add_argument("--data", type=Path, help="a folder of class folders, in place of made-up photos")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = options.data or Path(place) / "photos"
        if options.data is None:
            write_photos(folder, options.images)
        cached, ingest_s, count = from_cache(folder, Path(place) / "cache")
        contenders = {"cache": cached} | {f"ImageFolder, {n} workers": from_files(folder, n) for n in WORKERS}
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(options.rounds + 1):
            for name, epoch in contenders.items():
                began = time.perf_counter()
                seen = sum(len(images) for images in epoch(number))
                seconds[name].append(time.perf_counter() - began)
                assert seen == count
    table = Table(title=f"Batches of {SIDE} x {SIDE}, images per second ({count} photos, {options.rounds} rounds)")
    for heading in ("contender", "median", "fastest", "slowest", "cache is"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    rates = {name: count / statistics.median(times[1:]) for name, times in seconds.items()}
    table.add_row("ingest, once", f"{count / ingest_s:.0f}", "", "", "")
    for name, times in seconds.items():
        spread = (f"{rates[name]:.0f}", f"{count / min(times[1:]):.0f}", f"{count / max(times[1:]):.0f}")
        table.add_row(name, *spread, f"{rates['cache'] / rates[name]:.2f} x")
    console = Console(width=100)
    console.print(table)
    console.print(describe_machine())
    result = {
        "ingest_images_per_s": round(count / ingest_s, 1),
        "cache_images_per_s": round(rates["cache"], 1),
        "loader_images_per_s": round(max(rates[name] for name in rates if name != "cache"), 1),
    }
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
