"""Center loss (Wen et al. 2016): one worked step of a center, by formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style

SAMPLES = ((2.0, 1.0), (3.0, 3.0), (1.0, 4.0), (4.0, 2.0))
CENTER = (0.0, 0.0)
ALPHA = 0.5
CAPTION_STEP = (
    "One step of a center, worked: four images of its class; the sum of (c - x) is divided by 1 + 4 = 5, not by 4, and "
    f"α = {ALPHA:g} of that is subtracted. So a class without images in the batch divides by 1 and stays, and a step "
    "never reaches the mean. By formula: no run, no interval."
)


def step(center: np.ndarray, samples: np.ndarray, alpha: float) -> np.ndarray:
    """The center after one update: c - alpha sum(c - x) / (1 + n). Source: Wen et al. 2016, Eq. (4).

    Args: center (D,); samples (n, D), the embeddings of its class in the batch, n >= 0.
    """
    moved: np.ndarray = center - alpha * (center - samples).sum(axis=0) / (1 + len(samples))
    return moved


def step_points() -> pd.DataFrame:
    """what (sample, center before, center after, mean of the samples), x, y."""
    samples = np.array(SAMPLES)
    after = step(np.array(CENTER), samples, ALPHA)
    rows = [("sample", *sample) for sample in SAMPLES]
    rows += [("mean of the samples", *samples.mean(axis=0)), ("center before", *CENTER), ("center after", *after)]
    return pd.DataFrame(rows, columns=["what", "x", "y"])


def draw_step(frame: pd.DataFrame) -> go.Figure:
    """Samples, their mean, and the center's step."""
    figure = go.Figure()
    looks = {
        "sample": (style.BLUE, "circle", 9),
        "mean of the samples": (style.BLUE, "cross", 12),
        "center before": ("#9aa3ad", "square", 12),
        "center after": (style.VERMILION, "square", 12),
    }
    for what, (color, symbol, size) in looks.items():
        part = frame[frame["what"] == what]
        marker = {"color": color, "symbol": symbol, "size": size}
        figure.add_trace(go.Scatter(x=part["x"], y=part["y"], mode="markers", name=what, marker=marker))
    before, after = (frame[frame["what"] == f"center {when}"].iloc[0] for when in ("before", "after"))
    figure.add_annotation(
        x=after["x"],
        y=after["y"],
        ax=before["x"],
        ay=before["y"],
        xref="x",
        yref="y",
        axref="x",
        ayref="y",
        text="",
        showarrow=True,
        arrowhead=3,
        arrowwidth=2,
        arrowcolor=style.VERMILION,
    )
    style.finish(figure, "First coordinate (no unit)", "Second coordinate (no unit)", height=400)
    figure.update_xaxes(range=[-0.5, 4.6])
    figure.update_yaxes(range=[-0.5, 4.6])
    return figure
