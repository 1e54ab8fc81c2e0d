"""Figure 3.2: the decision boundary of two classes in the plane against the temperature T = 1/s."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style

SCALES = (1.0, 3.0, 10.0, 50.0)
# Three proxies a class, placed by us: the data of the original picture are not printed.
PROXIES = {
    "A": ((-1.2, 0.5), (0.2, 0.9), (1.1, -0.7)),
    "B": ((-0.6, -0.8), (0.5, -0.1), (1.3, 0.8)),
}
CAPTION = (
    "Figure 3.2, by formula: where two classes of three proxies each (marks) are equally probable under the softmax of "
    "s times the similarity. At a low scale (high temperature T = 1/s) the boundary is smooth, at a high one it bends "
    "around each proxy. Similarity is -|x - w|²/2, which for unit vectors is the cosine less 1. The original's data "
    "are not printed, so the places of the proxies are ours. No run, no interval."
)


def points(scales: Sequence[float] = SCALES, steps: int = 81) -> pd.DataFrame:
    """Probability of class A on a grid: s, x, y, probability."""
    line = np.linspace(-2, 2, steps)
    x, y = np.meshgrid(line, line)
    place = np.stack([x, y], axis=-1)
    parts = []
    for scale in scales:
        scores = [_log_sum(scale, place, np.array(PROXIES[name])) for name in ("A", "B")]
        probability = 1 / (1 + np.exp(scores[1] - scores[0]))
        parts.append(pd.DataFrame({"s": scale, "x": x.ravel(), "y": y.ravel(), "probability": probability.ravel()}))
    return pd.concat(parts, ignore_index=True)


def _log_sum(scale: float, place: np.ndarray, proxies: np.ndarray) -> np.ndarray:
    """ln sum_k exp(-s |x - w_k|^2 / 2), shifted so that no exponential overflows."""
    logits = -scale * ((place[..., None, :] - proxies) ** 2).sum(axis=-1) / 2
    top = logits.max(axis=-1, keepdims=True)
    result: np.ndarray = (top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True)))[..., 0]
    return result


def draw(frame: pd.DataFrame) -> go.Figure:
    """The line P = 1/2 of each scale, and the proxies."""
    figure = go.Figure()
    scales = list(dict.fromkeys(frame["s"]))
    for scale, color in zip(scales, style.sequence_colors(scales, log=True), strict=True):
        part = frame[frame["s"] == scale]
        grid = part.pivot(index="y", columns="x", values="probability")
        figure.add_trace(
            go.Contour(
                x=grid.columns.to_numpy(),
                y=grid.index.to_numpy(),
                z=np.round(grid.to_numpy(), 4),
                contours={"start": 0.5, "end": 0.5, "size": 0.1, "coloring": "none"},
                line={"color": color, "width": 2.5},
                showscale=False,
                hoverinfo="skip",
                name=f"s = {scale:g} (T = {1 / scale:.3g})",
                showlegend=True,
            )
        )
    for (name, places), color, symbol in zip(
        PROXIES.items(), (style.BLUE, style.VERMILION), ("circle", "diamond"), strict=True
    ):
        figure.add_trace(
            go.Scatter(
                x=[place[0] for place in places],
                y=[place[1] for place in places],
                mode="markers",
                name=f"proxies of class {name}",
                marker={"size": 12, "color": color, "symbol": symbol},
            )
        )
    style.finish(figure, "First coordinate (no unit)", "Second coordinate (no unit)", height=460)
    return figure
