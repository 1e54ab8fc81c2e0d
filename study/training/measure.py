"""What is measured of a network between epochs, on clean images: Recall@K, accuracy, and the diagnostics asked for."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from search_spaces.trial_config import TrialConfig
from study.data.build import LabeledImages, TrialData
from study.losses.base import Diverged, LossModule
from study.training import diagnostics
from study.training.metrics import recall_at_k, recall_on_device
from study.training.process import autocast

# Embedded together, and compared with proxies together: enough to fill the kernels, little enough to stay in the cache.
_EMBED_IMAGES = 128
_COMPARE_IMAGES = 1024
_TRAIN_EMBEDDINGS_KEPT = 2000

Arrays = dict[str, npt.NDArray[Any]]


class Measurer:
    """Measures one trial's network and loss; data: on the network's device."""

    def __init__(self, trial: TrialConfig, data: TrialData, model: nn.Module, loss: LossModule) -> None:
        self._trial = trial
        self._model = model
        self._loss = loss
        self._train = data.train
        self._held_out = {name: part for name, part in (("val", data.val), ("test", data.test)) if part is not None}
        self._watched = next(iter(self._held_out))
        self._last_proxies: Tensor | None = None
        self._last_embeddings: Tensor | None = None

    def before_epoch(self) -> None:
        """Remember proxies and embeddings as they are, if their movement is asked for."""
        if not self._trial.measure.diagnostics:
            return
        self._last_proxies = self._loss.proxies()
        if self._last_embeddings is None:
            self._last_embeddings = self._embed(self._held_out[self._watched], self._watched)

    def forget(self) -> None:
        """Drop what was remembered: the weights have been replaced."""
        self._last_proxies = self._last_embeddings = None

    def measure(self, epochs_done: int, scale: float | None) -> tuple[dict[str, float], Arrays]:
        """Metrics, and arrays where this epoch keeps some.

        Args: epochs_done: 0 for the untrained network; scale: softmax scale at the end of the epoch, None if the loss
        has none.
        Raises: Diverged naming what is not finite.
        """
        self._model.eval()
        self._loss.eval()
        wanted = self._trial.measure
        metrics: dict[str, float] = {}
        arrays: Arrays = {}
        embedded = {name: self._embed(part, name) for name, part in self._held_out.items()}
        for name, part in self._held_out.items():
            if part.labels.is_cuda:
                recall = recall_on_device(embedded[name], part.labels, wanted.recall_at)
            else:
                recall = recall_at_k(embedded[name].numpy(), part.labels.numpy(), wanted.recall_at)
            metrics |= {f"{name}_recall_at_{k}": recall.at[k] for k in wanted.recall_at}
            if epochs_done == self._trial.epochs:
                arrays |= {f"{name}_class_hits": recall.class_hits, f"{name}_class_images": recall.class_images}
        keeps_embeddings = epochs_done in wanted.embedding_epochs
        if wanted.train_accuracy or wanted.diagnostics or keeps_embeddings:
            train_embeddings = self._embed(self._train, "training")
            similarities = self._similarities(train_embeddings)
            if wanted.train_accuracy and similarities is not None:
                hits = (similarities.argmax(dim=1) == self._train.labels).sum()
                metrics["train_accuracy"] = int(hits) / len(self._train.labels)
            if wanted.diagnostics:
                metrics |= self._diagnose(train_embeddings, similarities, scale, embedded[self._watched])
            if keeps_embeddings:
                arrays |= self._kept(train_embeddings, embedded[self._watched])
        proxies = self._loss.proxies()
        if epochs_done in wanted.histogram_epochs and proxies is not None:
            arrays |= diagnostics.proxy_histograms(proxies)
        return metrics, arrays

    def _embed(self, part: LabeledImages, name: str) -> Tensor:
        """Embeddings (N, D) float32.

        Raises: Diverged if one is not finite.
        """
        self._model.eval()
        with torch.inference_mode(), autocast(self._trial.compute):
            chunks = [self._model(images).float() for images in part.clean(_EMBED_IMAGES)]
        embeddings = torch.cat(chunks)
        if not bool(embeddings.isfinite().all()):
            raise Diverged(f"an embedding of a {name} image is not finite")
        return embeddings

    def _similarities(self, embeddings: Tensor) -> Tensor | None:
        """(N, C) on all training images, or None for a pair loss."""
        chunks = []
        for chunk in torch.split(embeddings, _COMPARE_IMAGES):
            similarities = self._loss.similarities(chunk)
            if similarities is None:
                return None
            chunks.append(similarities)
        return torch.cat(chunks)

    def _diagnose(
        self, train_embeddings: Tensor, similarities: Tensor | None, scale: float | None, watched: Tensor
    ) -> dict[str, float]:
        labels = self._train.labels
        proxies = self._loss.proxies()
        metrics = diagnostics.pair_metrics(train_embeddings, labels)
        if similarities is not None:
            if proxies is not None:
                metrics |= diagnostics.angle_metrics(similarities, labels)
            else:
                scale = 1.0  # plain logits: the classifier's own lengths do what a scale does
            if scale is not None:
                metrics |= diagnostics.probability_metrics(similarities, labels, scale)
        if proxies is not None:
            metrics |= diagnostics.proxy_metrics(proxies)
            if self._last_proxies is not None:
                metrics["proxy_move_degrees"] = diagnostics.move_degrees(self._last_proxies, proxies)
        if self._last_embeddings is not None:
            metrics["embedding_move_degrees"] = diagnostics.move_degrees(self._last_embeddings, watched)
        self._last_embeddings = watched
        return metrics

    def _kept(self, train_embeddings: Tensor, watched: Tensor) -> Arrays:
        """Embeddings and labels of held-out images and of some training images, and the loss's own tensors."""
        name = self._watched
        arrays: Arrays = {
            f"{name}_embeddings": watched.cpu().numpy(),
            f"{name}_labels": self._held_out[name].labels.cpu().numpy(),
        }
        step = -(-len(train_embeddings) // _TRAIN_EMBEDDINGS_KEPT)
        arrays["train_embeddings"] = train_embeddings[::step].cpu().numpy()
        arrays["train_labels"] = self._train.labels[::step].cpu().numpy()
        if (proxies := self._loss.proxies()) is not None:
            arrays["proxies"] = proxies.cpu().numpy()
        # Centers, and the weights and biases of a plain classifier, by the names that the loss gives them.
        return arrays | {f"loss_{key}": value.detach().cpu().numpy() for key, value in self._loss.state_dict().items()}
