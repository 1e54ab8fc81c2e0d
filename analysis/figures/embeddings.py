"""Embeddings of one trial over training, in two dimensions (D = 2 as they are, else their two main directions)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style

if TYPE_CHECKING:
    from analysis.load import Study

SHOWN_EPOCHS, SHOWN_CONFIGURATIONS, SHOWN_IMAGES = 4, 6, 1500
COLUMNS = ["configuration", "number", "seed", "epochs_done", "label", "x", "y", "what"]


def points(study: Study) -> pd.DataFrame:
    """Training embeddings of the first seed of each configuration that kept them, at up to four epochs.

    Columns: configuration, number, seed, epochs_done, label (class), x, y, what ('image', or 'center' for Center loss).
    For D > 2, x and y are the coordinates along the two main directions of that epoch's embeddings (PCA).
    Raises: LedgerError for an array file that is gone or damaged.
    """
    from study.ledger.read import load_arrays

    parts = []
    files = study.arrays.merge(study.trials[["number", "configuration", "seed"]], on="number")
    files = files[files["file"].map(lambda file: "train_embeddings" in file.names).astype(bool)]
    for place, (_, trial) in enumerate(files.groupby("configuration", sort=False)):
        if place >= SHOWN_CONFIGURATIONS:
            break
        own = trial[trial["number"] == trial["number"].min()].sort_values("epochs_done")
        chosen = np.unique(np.linspace(0, len(own) - 1, SHOWN_EPOCHS).round().astype(int))
        for row in own.iloc[chosen].to_dict("records"):
            arrays = load_arrays(study.folder, row["file"])
            named = {name: row[name] for name in ("configuration", "number", "seed", "epochs_done")}
            embeddings, labels = arrays["train_embeddings"], arrays["train_labels"]
            step = -(-len(embeddings) // SHOWN_IMAGES)
            place_of, axes = _plane(embeddings.astype(np.float64))
            shown = place_of[::step]
            columns = {**named, "label": labels[::step], "x": shown[:, 0], "y": shown[:, 1], "what": "image"}
            parts.append(pd.DataFrame(columns))
            if "loss_centers" in arrays:
                centers = axes(arrays["loss_centers"].astype(np.float64))
                columns = {**named, "label": np.arange(len(centers)), "x": centers[:, 0], "y": centers[:, 1]}
                parts.append(pd.DataFrame(columns).assign(what="center"))
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _plane(embeddings: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Any]:
    """`embeddings` in two dimensions, and the function that puts others into the same plane."""
    if embeddings.shape[1] == 2:
        return embeddings, lambda others: others
    mean = embeddings.mean(axis=0)
    _, directions = np.linalg.eigh((embeddings - mean).T @ (embeddings - mean))  # D x D: faster than an SVD of N x D
    axes = directions[:, [-1, -2]]
    # An eigenvector's sign is arbitrary; fixed, so that pictures of one ledger are the same everywhere.
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1, 1)
    return (embeddings - mean) @ axes, lambda others: (others - mean) @ axes


def draw(frame: pd.DataFrame) -> go.Figure:
    """One configuration at one epoch: a color a class, centers as crosses."""
    figure = go.Figure()
    images = frame[frame["what"] == "image"]
    few = images["label"].nunique() <= 12
    marker: dict[str, Any] = {"size": 3, "color": images["label"], "colorscale": "Turbo" if few else style.SEQUENCE}
    figure.add_trace(
        go.Scatter(
            x=images["x"].round(4),
            y=images["y"].round(4),
            mode="markers",
            marker=marker,
            customdata=images["label"],
            hovertemplate="class %{customdata}<extra></extra>",
        )
    )
    centers = frame[frame["what"] == "center"]
    if len(centers):
        figure.add_trace(
            go.Scatter(
                x=centers["x"],
                y=centers["y"],
                mode="markers",
                marker={"symbol": "x", "size": 9, "color": style.INK},
                customdata=centers["label"],
                hovertemplate="center of class %{customdata}<extra></extra>",
            )
        )
    return style.finish(figure, "First direction", "Second direction", height=270, legend=False)


def caption(frame: pd.DataFrame, dim: int) -> str:
    """What to see."""
    seed = frame["seed"].iloc[0]
    how = "as they are (D = 2)" if dim == 2 else f"along their two main directions (PCA of that epoch, D = {dim})"
    centers = "; crosses: centers" if (frame["what"] == "center").any() else ""
    return (
        f"Training embeddings {how}, seed {seed}, a color a class{centers}. One trial each, coordinates without unit, "
        "no interval."
    )
