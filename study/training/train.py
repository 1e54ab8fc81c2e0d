"""Train one trial, epoch by epoch, to the same bits whether or not it was interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.datasets import Distort
from search_spaces.losses import AdaCos, adacos_fixed_scale, schedule_of
from search_spaces.optimizers import lr_factor
from search_spaces.schedules import scale_at
from search_spaces.trial_config import Measure, TrialConfig
from study.data.ahead import ahead
from study.data.augment import distort
from study.data.batches import epoch_batches
from study.data.build import TrialData
from study.data.draws import generator
from study.data.photos import Photos
from study.losses.base import Diverged, LossOutput
from study.losses.build import build_loss
from study.records import EpochResult
from study.training.measure import Arrays, Measurer
from study.training.models import build_model
from study.training.optimizers import build_optimizer, set_lr
from study.training.process import autocast, prepare_process

STATE_FORMAT = 1
# Distorted together: a tenth of the calls that single batches need, yet the working set stays in the cache.
_DISTORT_IMAGES = 256
# torch's default, 65536, overflows in the first steps of these losses, and an overflow skips its step.
_FLOAT16_LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Measured:
    """An epoch's result, and arrays that are too large for a line of the ledger.

    arrays: <part>_class_hits, <part>_class_images (classes,) int64 at the trial's last epoch; the histograms and
    embeddings that TrialConfig.measure names.
    """

    result: EpochResult
    arrays: Arrays = field(default_factory=dict)


class Trainer:
    """A trial in training.

    The seed decides the network's first weights, the loss's, the order of the images and their distortion, each by its
    own stream: trials that differ in loss or optimizer only start from one network and see the same images.
    """

    def __init__(self, trial: TrialConfig, seed: int, data: TrialData) -> None:
        prepare_process(trial.compute)
        self.trial = trial
        self.seed = seed
        self.epochs_done = 0
        self._device = torch.device(trial.compute.device)
        self._labels = data.train.labels  # stay on the CPU, where the order of the images is drawn
        self._data = TrialData(
            train=data.train.to(self._device),
            val=None if data.val is None else data.val.to(self._device),
            test=None if data.test is None else data.test.to(self._device),
        )
        channels, side = data.train.shape
        classes = len(data.train.names)
        self.model = build_model(trial.model, channels, side, generator(seed, "model")).to(self._device)
        self.loss = build_loss(trial.loss, classes, trial.model.embedding_dim, generator(seed, "loss")).to(self._device)
        self._forward: Callable[[Tensor], Tensor] = torch.compile(self.model) if trial.compute.compile else self.model
        self._optimizer = build_optimizer(trial.optimizer, self.model, self.loss)
        self._scaler = torch.amp.GradScaler(
            self._device.type, init_scale=_FLOAT16_LOSS_SCALE, enabled=trial.compute.precision == "float16"
        )
        self._measurer = Measurer(trial, self._data, self.model, self.loss)

    def run_epoch(self) -> Measured:
        """Train one epoch and measure.

        Raises: Diverged if a loss, a metric or an embedding is not finite, naming it and the zero-based epoch, and the
        batch if it is a loss. The trainer is of no use after that.
        """
        if self.epochs_done >= self.trial.epochs:
            raise ValueError(f"the trial has trained all its {self.trial.epochs} epochs")
        epoch = self.epochs_done
        started = time.perf_counter()
        self._measurer.before_epoch()
        metrics = self._train_epoch(epoch)
        self.epochs_done += 1
        trained = time.perf_counter()
        return self._measured(metrics, started, trained)

    def untrained(self) -> Measured:
        """What the network is worth before it trains: epochs_done 0, and only what can be measured then.

        Raises: ValueError after the first epoch; Diverged.
        """
        if self.epochs_done:
            raise ValueError(f"the network has trained {self.epochs_done} epochs")
        scale = self._scale(0)
        now = time.perf_counter()
        return self._measured({} if scale is None else {"scale": scale}, now, now)

    def arrays(self) -> Arrays:
        """The arrays that this trial keeps of the network as it is: for an epoch that another trial has trained."""
        return self._measurer.measure(self.epochs_done, None)[1]

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
        self._measurer.forget()
        self.epochs_done = state["epochs_done"]

    def _scale(self, epoch: int) -> float | None:
        """The scale with which zero-based `epoch` begins; None for a loss without one."""
        loss = self.trial.loss
        if isinstance(loss, AdaCos):
            return adacos_fixed_scale(len(self._data.train.names))
        schedule = schedule_of(loss)
        return None if schedule is None else scale_at(schedule, epoch)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        optimizer = self.trial.optimizer
        if epoch in optimizer.fresh_epochs:
            self._optimizer = build_optimizer(optimizer, self.model, self.loss)
        scale = self._scale(epoch)
        factor = lr_factor(optimizer.lr_schedule, epoch, scale)
        rates = {"lr": optimizer.lr * factor, "proxy_lr": optimizer.proxy_lr * factor}
        set_lr(self._optimizer, **rates)
        self.model.blocks.requires_grad_(epoch >= optimizer.lr_schedule.warmup_epochs)
        self.model.train()
        self.loss.train()
        # Stochastic depth in some large networks draws from the global generator, on whichever device.
        torch.manual_seed(generator(self.seed, "network", epoch).initial_seed())
        running = _Running()
        for batch, (images, labels) in enumerate(self._batches(epoch)):
            try:
                self._step(images, labels, scale, running)
            except Diverged as error:
                raise Diverged(f"epoch {epoch}, batch {batch}: {error}") from error
        metrics = running.metrics(epoch) | rates
        if scale is not None:
            metrics["scale"] = scale
        return metrics | self.loss.epoch_metrics()

    def _batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's images (B, channels, side, side), distorted, and labels (B,)."""
        trial, train = self.trial, self._data.train
        order = generator(self.seed, "order", epoch)
        batches = epoch_batches(self._labels, trial.batches, trial.images_per_class, order)
        if isinstance(train.images, Photos):
            yield from self._photo_batches(epoch, batches, train.images)
            return
        draws = generator(self.seed, "augment", epoch, device=self._device.type)
        together = max(1, _DISTORT_IMAGES // trial.batches.size)
        for first in range(0, len(batches), together):
            chunk = batches[first : first + together]
            indices = torch.cat(chunk).to(self._device)
            images = train.images[indices]
            if isinstance(trial.augment, Distort):
                images = distort(images, trial.augment, draws)
            sizes = [len(batch) for batch in chunk]
            yield from zip(torch.split(images, sizes), torch.split(train.labels[indices], sizes), strict=True)

    def _photo_batches(self, epoch: int, batches: list[Tensor], photos: Photos) -> Iterator[tuple[Tensor, Tensor]]:
        """As _batches: each place in the epoch's order has its own draws, so it is no matter who cuts when."""
        augment = self.trial.augment
        assert not isinstance(augment, Distort)
        boxes = photos.boxes(torch.cat(batches), augment, generator(self.seed, "augment", epoch))
        ends = np.cumsum([len(batch) for batch in batches])

        def squares() -> Iterator[tuple[Tensor, Tensor]]:
            for batch, end in zip(batches, ends.tolist(), strict=True):
                images = photos.squares(batch, boxes[end - len(batch) : end], self._device)
                yield images, self._data.train.labels[batch.to(self._device)]

        # On a GPU the processor cuts the next batch meanwhile. On a CPU it would take the threads that train.
        return ahead(squares()) if self._device.type == "cuda" else squares()

    def _step(self, images: Tensor, labels: Tensor, scale: float | None, running: _Running) -> None:
        with autocast(self.trial.compute):
            embeddings = self._forward(images)
        embeddings = embeddings.float()
        output = self.loss(embeddings, labels, scale)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self._scaler.scale(output.loss))
        if self.trial.measure.diagnostics:
            self._scaler.unscale_(self._optimizer)
            running.gradient_norms.append(_gradient_norm(self.model))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        with torch.no_grad():
            self.loss.after_step(embeddings.detach(), labels)
        running.add(output, labels)

    def _measured(self, metrics: dict[str, float], started: float, trained: float) -> Measured:
        epoch = self.epochs_done - 1
        try:
            measured, arrays = self._measurer.measure(self.epochs_done, metrics.get("scale_last", metrics.get("scale")))
        except Diverged as error:
            raise Diverged(f"epoch {epoch}: {error}") from error
        metrics = metrics | measured
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise Diverged(f"epoch {epoch}: {name} is {value}")
        result = EpochResult(
            epochs_done=self.epochs_done,
            metrics=metrics,
            train_s=trained - started,
            eval_s=time.perf_counter() - trained,
        )
        return Measured(result, arrays)


class _Running:
    """What an epoch's batches gave, kept as tensors: reading a number in each step would wait for the device."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.losses: list[Tensor] = []
        self.parts: dict[str, list[Tensor]] = {}
        self.hits: list[Tensor] = []
        self.gradient_norms: list[Tensor] = []

    def add(self, output: LossOutput, labels: Tensor) -> None:
        self.sizes.append(len(labels))
        self.losses.append(output.loss.detach())
        for name, part in output.parts.items():
            self.parts.setdefault(name, []).append(part)
        if output.similarities is not None:
            self.hits.append((output.similarities.argmax(dim=1) == labels).sum())

    def metrics(self, epoch: int) -> dict[str, float]:
        """Means over the epoch's images; grad_norm over its steps.

        Raises: Diverged naming the first batch whose loss is not finite.
        """
        losses = _numbers(self.losses)
        if len(bad := np.flatnonzero(~np.isfinite(losses))):
            raise Diverged(f"epoch {epoch}, batch {bad[0]}: the loss is {losses[bad[0]]}")
        means = {"loss": float(np.average(losses, weights=self.sizes))}
        for name, values in self.parts.items():
            means[f"loss_{name}"] = float(np.average(_numbers(values), weights=self.sizes))
        if self.hits:
            means["train_accuracy_running"] = float(_numbers(self.hits).sum() / sum(self.sizes))
        if self.gradient_norms:
            norms = _numbers(self.gradient_norms)
            # float16's loss scaling overflows now and then by design, and skips that step.
            finite = norms[np.isfinite(norms)]
            means["grad_norm"] = float(finite.mean()) if len(finite) else math.inf
        return means


def _numbers(values: list[Tensor]) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers: np.ndarray[Any, np.dtype[np.float64]] = torch.stack(values).double().cpu().numpy()
    return numbers


def _gradient_norm(module: nn.Module) -> Tensor:
    """Euclidean norm of all gradients of `module`, as a scalar tensor."""
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients)


def _cloned(value: Any) -> Any:
    """`value`, a tree of dicts, lists and leaves, with its tensors copied to the CPU, in their memory format."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _cloned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cloned(item) for item in value]
    return value


def wants_untrained(measure: Measure) -> bool:
    """Whether the untrained network is measured too."""
    return measure.diagnostics or 0 in measure.histogram_epochs or 0 in measure.embedding_epochs


def train(trial: TrialConfig, seed: int, data: TrialData, state: dict[str, Any] | None = None) -> Iterator[Measured]:
    """What each epoch measured, from the beginning (with the untrained network, if asked for) or from a `state()` on.

    Raises: Diverged in place of the epoch that cannot be reported; ValueError if `state` does not fit.
    """
    trainer = Trainer(trial, seed, data)
    if state is not None:
        trainer.load_state(state)
    elif wants_untrained(trial.measure):
        yield trainer.untrained()
    while trainer.epochs_done < trial.epochs:
        yield trainer.run_epoch()
