"""An exported network gives the embeddings of the trained one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from search_spaces.load import parse_study
from study.data.build import image_shape, load_trial_data
from study.training.train import Trainer
from study.training.weights import export_weights, load_network


def test_an_exported_network_gives_the_same_embeddings(tmp_path: Path) -> None:
    trial = parse_study(
        {
            "trial": {
                "dataset": {"kind": "digits", "images_per_class": 4},
                "split": {"order": "label", "train_classes": 5, "val_classes": 2, "test_classes": 3},
                "model": {"kind": "small_cnn", "channels": [4, 8], "embedding_dim": 6},
                "loss": {"kind": "center"},
                "epochs": 1,
            }
        },
        "a",
        "a",
    ).trial
    data = load_trial_data(trial, tmp_path, tmp_path)
    trainer = Trainer(trial, 0, data)
    trainer.run_epoch()
    export_weights(trainer.state(), tmp_path / "network.pt", trial, image_shape(trial.dataset))
    network = load_network(tmp_path / "network.pt")
    images = data.train.images[:4]
    assert tuple(images.shape[1:]) == (1, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), trainer.model.eval()(images))


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 0}, tmp_path / "old.pt")
    with pytest.raises(ValueError, match="has format 0, this version reads 1"):
        load_network(tmp_path / "old.pt")
