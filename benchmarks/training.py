"""Training speed: our loop, its bare forward and backward passes, and the loop that one would write by hand.

    python -m benchmarks.training [--rounds 7] [--distortion affine|full] [--cache-dir DIR]

All train the glyph recipe: 100 classes of 12 images, 32 x 32, batches of 32, the small network, SoftTriple with K = 10.
Only training is timed, evaluation is not. Each contender has a process and one torch thread, since a study runs one
trial on each core; the rounds, an epoch each, are interleaved, so that other load on the machine meets all alike. CPU
seconds are those of the training process alone, without worker processes; other load moves them less than the clock.

- ours: Trainer's epoch: order, distortion, forward, backward, optimizer, running metrics.
- bare: forward and backward pass of the same network and loss on the same distorted batches, in our process.
- by hand: DataLoader (0 or 2 worker processes), torchvision v2 transforms per image, the same network as one writes it,
  pytorch-metric-learning's SoftTripleLoss with its regularizer, torch.optim.Adam, loss.item() in each step.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from search_spaces.datasets import Distort, Glyphs, Split
from search_spaces.losses import SoftTriple
from search_spaces.models import SmallCnn
from search_spaces.schedules import ConstantScale
from search_spaces.trial_config import TrialConfig
from study.data.build import TrialData, load_trial_data

SCALE, PROXIES, TAU = 10.0, 10, 0.2
DISTORTIONS = {"affine": Distort(), "full": Distort(elastic=0.06, noise=0.12)}
BY_HAND = {"by hand, 0 workers": 0, "by hand, 2 workers": 2}


def a_trial(distortion: str) -> TrialConfig:
    """The recipe; `full` adds elastic warps and noise, which torchvision's transforms know too."""
    return TrialConfig(
        dataset=Glyphs(),
        split=Split(train_classes=100, val_classes=50, test_classes=100),
        loss=SoftTriple(scale=ConstantScale(value=SCALE), proxies_per_class=PROXIES, tau=TAU),
        augment=DISTORTIONS[distortion],
        epochs=1000,
    )


def our_epochs(trial: TrialConfig, data: TrialData) -> dict[str, Callable[[int], None]]:
    """Our loop, and the bare passes on batches distorted before."""
    from study.training.train import Trainer

    trainer = Trainer(trial, 0, data)
    batches = list(trainer._batches(0))

    def bare(_: int) -> None:
        trainer.model.train()
        for images, labels in batches:
            trainer._optimizer.zero_grad(set_to_none=True)
            trainer.loss(trainer.model(images), labels, SCALE).loss.backward()

    def ours(epoch: int) -> None:
        trainer._train_epoch(epoch)

    return {"ours": ours, "bare forward and backward": bare}


class PerImage(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images in memory, each transformed when it is asked for."""

    def __init__(self, data: TrialData, transform: nn.Module) -> None:
        assert isinstance(data.train.images, Tensor)
        self._images, self._labels, self._transform = data.train.images, data.train.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._images[index]), self._labels[index]


def by_hand_epoch(trial: TrialConfig, data: TrialData, workers: int) -> Callable[[int], None]:
    """The loop that a user would write with the usual packages."""
    import math

    from pytorch_metric_learning.losses import SoftTripleLoss
    from pytorch_metric_learning.regularizers import SparseCentersRegularizer
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    assert isinstance(trial.augment, Distort)
    widths = trial.augment
    affine = v2.RandomAffine(
        widths.rotation_degrees,
        translate=(widths.shift, widths.shift),
        scale=(1 - widths.scale, 1 + widths.scale),
        shear=math.degrees(math.atan(widths.shear)),
        interpolation=v2.InterpolationMode.BILINEAR,
    )
    # Displacements of an sd of .06 half image widths, like ours: .577 / (2 sigma sqrt(pi)) * alpha / 32.
    more = [v2.ElasticTransform(alpha=47.0, sigma=4.0), v2.GaussianNoise(sigma=widths.noise)] if widths.elastic else []
    loader = torch.utils.data.DataLoader(
        PerImage(data, v2.Compose([affine, *more])),
        batch_size=trial.batches.size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    model, in_channels = nn.Sequential(), 1
    assert isinstance(trial.model, SmallCnn)
    for index, channels in enumerate(trial.model.channels):
        model.append(nn.Conv2d(in_channels, channels, 3, stride=1 if index else 2, padding=1, bias=False))
        model.append(nn.BatchNorm2d(channels))
        model.append(nn.ReLU())
        if index:
            model.append(nn.MaxPool2d(2))
        in_channels = channels
    model.append(nn.Flatten()).append(nn.LazyLinear(trial.model.embedding_dim))
    assert isinstance(data.train.images, Tensor)
    model(data.train.images[:2])
    loss_fn = SoftTripleLoss(
        num_classes=len(data.train.names),
        embedding_size=trial.model.embedding_dim,
        centers_per_class=PROXIES,
        la=SCALE,
        weight_regularizer=SparseCentersRegularizer(len(data.train.names), PROXIES),
        weight_reg_weight=TAU,
    )
    optimizer = torch.optim.Adam(
        [{"params": model.parameters(), "lr": 1e-3}, {"params": loss_fn.parameters(), "lr": 1e-2}]
    )

    def epoch(_: int) -> None:
        model.train()
        total = 0.0
        for images, labels in loader:
            loss = loss_fn(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        assert math.isfinite(total)

    return epoch


def serve(pipe: Connection, who: str, distortion: str, cache_dir: Path) -> None:
    """Train an epoch whenever a name of one arrives, and send back its wall-clock and CPU seconds; None ends it."""
    trial = a_trial(distortion)
    data = load_trial_data(trial, cache_dir, cache_dir)
    epochs = our_epochs(trial, data) if who == "ours" else {who: by_hand_epoch(trial, data, BY_HAND[who])}
    pipe.send(list(epochs))
    done = 0
    while (name := pipe.recv()) is not None:
        wall, cpu = time.perf_counter(), time.process_time()
        epochs[name](done)
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu))
        done += 1


def measure(rounds: int, distortion: str, cache_dir: Path) -> tuple[dict[str, list[tuple[float, float]]], int]:
    """Wall-clock and CPU seconds of every round, by contender, but the first (warm-up); and images an epoch."""
    images = len(load_trial_data(a_trial(distortion), cache_dir, cache_dir).train.labels)
    context = multiprocessing.get_context("spawn")
    contenders: dict[str, Connection] = {}
    processes = []
    for who in ("ours", *BY_HAND):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(theirs, who, distortion, cache_dir)))
        processes[-1].start()
        contenders |= dict.fromkeys(ours.recv(), ours)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, pipe in contenders.items():
            pipe.send(name)
            seconds[name].append(pipe.recv())
    for pipe in set(contenders.values()):
        pipe.send(None)
    for process in processes:
        process.join()
    return {name: times[1:] for name, times in seconds.items()}, images


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    from importlib.metadata import version

    names = ("torch", "torchvision", "pytorch-metric-learning", "numpy")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print the table and, as the last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="epochs timed per contender, after one to warm up")
    parser.add_argument("--distortion", choices=tuple(DISTORTIONS), default="affine")
    parser.add_argument("--cache-dir", type=Path, default=Path(tempfile.gettempdir()) / "scale-study-cache")
    options = parser.parse_args(arguments)
    seconds, images = measure(options.rounds, options.distortion, options.cache_dir)
    walls = {name: [wall for wall, _ in times] for name, times in seconds.items()}
    rates = {name: images / statistics.median(times) for name, times in walls.items()}
    cpu_rates = {name: images / statistics.median([cpu for _, cpu in times]) for name, times in seconds.items()}
    table = Table(title=f"Training, images per second ({options.distortion} distortion, {options.rounds} rounds)")
    for heading in ("contender", "median", "fastest", "slowest", "ours is", "per CPU s", "ours is"):
        table.add_column(heading, justify="left" if heading == "contender" else "right")
    for name, times in walls.items():
        spread = (f"{rates[name]:.0f}", f"{images / min(times):.0f}", f"{images / max(times):.0f}")
        ratios = (f"{rates['ours'] / rates[name]:.2f} x", f"{cpu_rates['ours'] / cpu_rates[name]:.2f} x")
        table.add_row(name, *spread, ratios[0], f"{cpu_rates[name]:.0f}", ratios[1])
    console = Console(width=100)
    console.print(table)
    console.print(f"{platform.machine()}, {multiprocessing.cpu_count()} cores; {versions()}")
    best = max(BY_HAND, key=lambda name: rates[name])
    result = {
        "images_per_s": round(rates["ours"], 1),
        "bare_images_per_s": round(rates["bare forward and backward"], 1),
        "loop_images_per_s": round(rates[best], 1),
        "loop": best,
        "distortion": options.distortion,
    }
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
