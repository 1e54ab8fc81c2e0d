"""Train one trial, epoch by epoch, to the same bits whether or not it was interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from search_spaces.datasets import Distort
from search_spaces.losses import AdaCos, adacos_fixed_scale, schedule_of
from search_spaces.optimizers import lr_factor
from search_spaces.schedules import scale_at
from search_spaces.trial_config import TrialConfig
from study.data.augment import distort
from study.data.batches import epoch_batches
from study.data.build import LabeledImages, TrialData
from study.data.draws import generator
from study.losses.base import Diverged, LossOutput
from study.losses.build import build_loss
from study.records import EpochResult
from study.training.metrics import recall_at_k
from study.training.models import build_model
from study.training.optimizers import build_optimizer, set_lr

STATE_FORMAT = 1
_AUTOCAST = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Images distorted together, and embedded together: few calls, yet the working set stays in the cache.
_DISTORT_IMAGES = 256
_EMBED_IMAGES = 128

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Measured:
    """An epoch's result, and arrays too large for its line in the ledger."""

    result: EpochResult
    arrays: Arrays = field(default_factory=dict)


class _Running:
    """What an epoch's batches gave, kept as tensors: reading a number in each step would wait for the device."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.losses: list[Tensor] = []
        self.parts: dict[str, list[Tensor]] = {}
        self.hits: list[Tensor] = []

    def add(self, output: LossOutput, labels: Tensor) -> None:
        self.sizes.append(len(labels))
        self.losses.append(output.loss.detach())
        for name, part in output.parts.items():
            self.parts.setdefault(name, []).append(part)
        if output.similarities is not None:
            self.hits.append((output.similarities.argmax(dim=1) == labels).sum())

    def metrics(self, epoch: int) -> dict[str, float]:
        """Means over the epoch's images.

        Raises: Diverged naming the first batch whose loss is not finite.
        """
        sizes = np.array(self.sizes, dtype=np.float64)
        losses = torch.stack(self.losses).double().cpu().numpy()
        if len(bad := np.flatnonzero(~np.isfinite(losses))):
            raise Diverged(f"epoch {epoch}, batch {bad[0]}: the loss is {losses[bad[0]]}")
        means = {"loss": float(losses @ sizes / sizes.sum())}
        for name, values in self.parts.items():
            means[f"loss_{name}"] = float(torch.stack(values).double().cpu().numpy() @ sizes / sizes.sum())
        if self.hits:
            means["train_accuracy_running"] = int(torch.stack(self.hits).sum()) / int(sizes.sum())
        return means


class Trainer:
    """A trial in training.

    The seed decides the network's first weights, the loss's, the order of the images and their distortion, each by its
    own stream: trials that differ in loss or optimizer only start from one network and see the same images.
    """

    def __init__(self, trial: TrialConfig, seed: int, data: TrialData) -> None:
        torch.set_num_threads(trial.compute.threads)
        faiss.omp_set_num_threads(trial.compute.threads)
        self.trial = trial
        self.seed = seed
        self.epochs_done = 0
        self._device = torch.device(trial.compute.device)
        self._train_data = _on_device(data.train, self._device)
        self._cpu_labels = data.train.labels
        self._measured_data = {
            name: _on_device(part, self._device) for name, part in (("val", data.val), ("test", data.test)) if part
        }
        _, channels, side, _ = data.train.images.shape
        self.model = build_model(trial.model, channels, side, generator(seed, "model")).to(self._device)
        self.loss = build_loss(
            trial.loss, len(data.train.names), trial.model.embedding_dim, generator(seed, "loss")
        ).to(self._device)
        self._optimizer = build_optimizer(trial.optimizer, self.model, self.loss)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=trial.compute.precision == "float16")

    def run_epoch(self) -> Measured:
        """Train one epoch and measure.

        Raises: Diverged, before anything is reported, if a loss, an embedding or a metric is not finite.
        """
        if self.epochs_done >= self.trial.epochs:
            raise ValueError(f"the trial has trained all its {self.trial.epochs} epochs")
        epoch = self.epochs_done
        started = time.perf_counter()
        metrics = self._train_epoch(epoch)
        self.epochs_done += 1
        trained = time.perf_counter()
        measured, arrays = self._measure()
        metrics |= measured
        _check(metrics, epoch)
        ended = time.perf_counter()
        result = EpochResult(
            epochs_done=self.epochs_done, metrics=metrics, train_s=trained - started, eval_s=ended - trained
        )
        return Measured(result, arrays)

    def state(self) -> dict[str, Any]:
        """All that training goes on from, as copies; torch.save keeps it, torch.load(weights_only=True) reads it."""
        return {
            "format": STATE_FORMAT,
            "seed": self.seed,
            "epochs_done": self.epochs_done,
            "model": _cloned(self.model.state_dict()),
            "loss": _cloned(self.loss.state_dict()),
            "optimizer": _cloned(self._optimizer.state_dict()),
            "scaler": self._scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over a `state()`; from here on everything is as if training had never been interrupted.

        Raises: ValueError if the state is of another format or seed, or is further than the trial goes; RuntimeError
        if its shapes are not this trial's.
        """
        if state["format"] != STATE_FORMAT:
            raise ValueError(f"the state has format {state['format']}, this version reads {STATE_FORMAT}")
        if state["seed"] != self.seed:
            raise ValueError(f"the state is of seed {state['seed']}, the trial of seed {self.seed}")
        if state["epochs_done"] > self.trial.epochs:
            raise ValueError(f"the state has {state['epochs_done']} epochs, the trial trains {self.trial.epochs}")
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.epochs_done = state["epochs_done"]

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        trial = self.trial
        schedule = schedule_of(trial.loss)
        scale = None if schedule is None else scale_at(schedule, epoch)
        factor = lr_factor(trial.optimizer.lr_schedule, epoch, scale)
        lr, proxy_lr = trial.optimizer.lr * factor, trial.optimizer.proxy_lr * factor
        set_lr(self._optimizer, lr, proxy_lr)
        self.model.blocks.requires_grad_(epoch >= trial.optimizer.lr_schedule.warmup_epochs)
        self.model.train()
        self.loss.train()
        running = _Running()
        for batch, (images, labels) in enumerate(self._batches(epoch)):
            try:
                running.add(self._step(images, labels, scale), labels)
            except Diverged as error:
                raise Diverged(f"epoch {epoch}, batch {batch}: {error}") from error
        metrics = running.metrics(epoch)
        metrics |= {"lr": lr, "proxy_lr": proxy_lr}
        if scale is not None:
            metrics["scale"] = scale
        elif isinstance(trial.loss, AdaCos) and trial.loss.mode == "fixed":
            metrics["scale"] = adacos_fixed_scale(len(self._train_data.names))
        return metrics | self.loss.epoch_metrics()

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's distorted images (B, 1, H, W) and labels (B,)."""
        images, labels = self._train_data.images, self._train_data.labels
        batches = epoch_batches(
            self._cpu_labels, self.trial.batches, self.trial.images_per_class, generator(self.seed, "order", epoch)
        )
        draws = generator(self.seed, "augment", epoch, device=self._device.type)
        together = max(1, _DISTORT_IMAGES // self.trial.batches.size)
        for first in range(0, len(batches), together):
            chunk = batches[first : first + together]
            indices = torch.cat(chunk).to(self._device)
            chunk_images = images[indices]
            if isinstance(self.trial.augment, Distort):
                chunk_images = distort(chunk_images, self.trial.augment, draws)
            sizes = [len(batch) for batch in chunk]
            yield from zip(torch.split(chunk_images, sizes), torch.split(labels[indices], sizes), strict=True)

    def _step(self, images: Tensor, labels: Tensor, scale: float | None) -> LossOutput:
        with self._autocast():
            embeddings = self.model(images)
        embeddings = embeddings.float()
        output: LossOutput = self.loss(embeddings, labels, scale)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(output.loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        with torch.no_grad():
            self.loss.after_step(embeddings.detach(), labels)
        return output

    def _autocast(self) -> torch.autocast:
        precision = self.trial.compute.precision
        return torch.autocast(self._device.type, _AUTOCAST[precision], enabled=precision != "float32")

    def _embed(self, images: Tensor) -> Tensor:
        """Embeddings (N, D) float32 of clean images, in evaluation mode."""
        self.model.eval()
        with torch.inference_mode(), self._autocast():
            return torch.cat([self.model(chunk).float() for chunk in torch.split(images, _EMBED_IMAGES)])

    def _measure(self) -> tuple[dict[str, float], Arrays]:
        metrics: dict[str, float] = {}
        arrays: Arrays = {}
        ks = self.trial.measure.recall_at
        for name, part in self._measured_data.items():
            embeddings = self._embed(part.images)
            if not bool(embeddings.isfinite().all()):
                raise Diverged(f"epoch {self.epochs_done - 1}: an embedding of a {name} image is not finite")
            recall = recall_at_k(embeddings.cpu().numpy(), part.labels.cpu().numpy(), ks)
            metrics |= {f"{name}_recall_at_{k}": recall.at[k] for k in ks}
            if self.epochs_done == self.trial.epochs:
                arrays |= {f"{name}_class_hits": recall.class_hits, f"{name}_class_images": recall.class_images}
        return metrics, arrays


def _cloned(value: Any) -> Any:
    """`value`, a tree of dicts, lists and leaves, with its tensors copied as they lie in memory."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _cloned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cloned(item) for item in value]
    return value


def _on_device(part: LabeledImages, device: torch.device) -> LabeledImages:
    return LabeledImages(part.images.to(device), part.labels.to(device), part.names)


def _check(metrics: dict[str, float], epoch: int) -> None:
    for name, value in metrics.items():
        if not np.isfinite(value):
            raise Diverged(f"epoch {epoch}: {name} is {value}")


def train(trial: TrialConfig, seed: int, data: TrialData, state: dict[str, Any] | None = None) -> Iterator[Measured]:
    """One Measured per epoch that is still to train, from the beginning or from `state`."""
    trainer = Trainer(trial, seed, data)
    if state is not None:
        trainer.load_state(state)
    while trainer.epochs_done < trial.epochs:
        yield trainer.run_epoch()
