"""A finished network as one file that needs neither its study nor its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from search_spaces.trial_config import TrialConfig
from study.training.models import build_model

WEIGHTS_FORMAT = 1


def export_weights(state: dict[str, Any], target: Path, trial: TrialConfig, image_shape: tuple[int, int]) -> None:
    """Write the network of a trainer's state as `target`, for load_network.

    Args: image_shape: channels and side of the images that the network takes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "format": WEIGHTS_FORMAT,
            "trial": trial.model_dump_json(by_alias=True),
            "image_shape": image_shape,
            "network": state["model"],
            "loss": state["loss"],
        },
        target,
    )


def load_network(path: str | Path) -> nn.Module:
    """The network in an exported file, in evaluation mode: images (B, channels, side, side) in [0, 1] to (B, D).

    Raises: ValueError for a file of another format.
    """
    saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    if saved.get("format") != WEIGHTS_FORMAT:
        raise ValueError(f"{path}: has format {saved.get('format')}, this version reads {WEIGHTS_FORMAT}")
    trial = TrialConfig.model_validate_json(saved["trial"])
    channels, side = saved["image_shape"]
    network = build_model(trial.model, channels, side, torch.Generator(), pretrained=False)
    network.load_state_dict(saved["network"])
    return network.eval()
