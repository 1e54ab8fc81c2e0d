"""Circle loss (Sun et al. 2020) beside triplet and AM-Softmax: gradients and decision boundaries, by formula.

One pair: s_p the cosine within a class (to raise), s_n the cosine between classes (to lower).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style

Array = np.ndarray[Any, np.dtype[np.float64]]
LOSSES = ("triplet", "AM-Softmax", "Circle")
MARGIN, CIRCLE_M, GAMMA = 0.25, 0.25, 16.0
# A is the point both reviews name (s_n = s_p = .8); the coordinates of B and C stand only in the paper's picture.
POINT_A = (0.8, 0.8)
CAPTION_GRADIENTS = (
    f"Size of the gradient on s_p (left) and s_n (right) over both similarities, divided by gamma = {GAMMA:g} where "
    f"there is one (margin {MARGIN:g}; Circle's m = {CIRCLE_M:g}). Triplet and AM-Softmax pull on both with one "
    "strength wherever they pull; Circle pulls on what is far from its goal: at A (s_p = s_n = .8) hard on s_n, softly "
    "on s_p. By formula: no run, no interval."
)
CAPTION_BOUNDARY = (
    "Decision boundaries: triplet and AM-Softmax accept any point of a straight line s_p - s_n = m; Circle's boundary "
    f"is a quarter circle around (s_n, s_p) = (0, 1) with radius √2 m (m = {CIRCLE_M:g}; a blog prints radius m). "
    "No run, no interval."
)


def gradients(loss: str, s_p: Array, s_n: Array, gamma: float = GAMMA) -> tuple[Array, Array]:
    """(dL/ds_p, dL/ds_n) of one pair. Circle's weights are constants for the gradient (losses' convention, and Sun's).

    Source: Sun et al. 2020, Eqs. (1), (4), (6). Raises: ValueError for an unknown loss.
    """
    if loss == "triplet":
        active = (s_n - s_p + MARGIN > 0).astype(np.float64)
        return -active, active
    if loss == "AM-Softmax":
        share = _sigmoid(gamma * (s_n - s_p + MARGIN))
        return -gamma * share, gamma * share
    if loss == "Circle":
        a_p = np.maximum(0.0, 1 + CIRCLE_M - s_p)
        a_n = np.maximum(0.0, s_n + CIRCLE_M)
        share = _sigmoid(gamma * (a_n * (s_n - CIRCLE_M) - a_p * (s_p - 1 + CIRCLE_M)))
        return -gamma * a_p * share, gamma * a_n * share
    raise ValueError(f"no loss {loss!r}; there are {', '.join(LOSSES)}")


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))  # never overflows


def points(loss: str, steps: int = 41) -> pd.DataFrame:
    """s_n, s_p, and both gradients' sizes divided by gamma (triplet has none): on_s_p, on_s_n."""
    line = np.linspace(0, 1, steps)
    s_n, s_p = np.meshgrid(line, line)
    on_p, on_n = gradients(loss, s_p, s_n)
    unit = 1.0 if loss == "triplet" else GAMMA
    columns = {"s_n": s_n, "s_p": s_p, "on_s_p": np.abs(on_p) / unit, "on_s_n": np.abs(on_n) / unit}
    return pd.DataFrame({name: values.ravel() for name, values in columns.items()}).assign(loss=loss)


def draw(frame: pd.DataFrame, on: str) -> go.Figure:
    """A map of one gradient's size. on: 'on_s_p' or 'on_s_n'."""
    grid = frame.pivot(index="s_p", columns="s_n", values=on)
    figure = go.Figure(
        go.Heatmap(
            x=grid.columns.to_numpy(),
            y=grid.index.to_numpy(),
            z=grid.to_numpy().round(4),
            zmin=0,
            zmax=1.25,
            colorscale="Cividis",
            colorbar={"thickness": 10, "len": 0.9, "tickfont": {"size": 10}},
            hovertemplate="s_n %{x:.2f}, s_p %{y:.2f}: %{z:.3f}<extra></extra>",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[POINT_A[1]],
            y=[POINT_A[0]],
            mode="markers+text",
            text=["A"],
            textposition="bottom center",
            textfont={"color": "white"},
            marker={"color": "white", "size": 9, "line": {"color": style.INK, "width": 1}},
            hoverinfo="skip",
        )
    )
    return style.finish(figure, "s_n, similarity between classes", "s_p, similarity within", height=320, legend=False)


def boundary_points() -> pd.DataFrame:
    """curve, s_n, s_p along each decision boundary inside the unit square."""
    line = np.linspace(0, 1 - MARGIN, 50)
    angle = np.linspace(0, math.pi / 2, 60)
    radius = math.sqrt(2) * CIRCLE_M
    straight = pd.DataFrame({"curve": "triplet, AM-Softmax: s_p - s_n = m", "s_n": line, "s_p": line + MARGIN})
    circle = {"s_n": radius * np.sin(angle), "s_p": 1 - radius * np.cos(angle)}
    return pd.concat([straight, pd.DataFrame(circle).assign(curve="Circle: radius √2 m")], ignore_index=True)


def draw_boundary(frame: pd.DataFrame) -> go.Figure:
    """Both boundaries, and the optimum."""
    figure = go.Figure()
    for place, name in enumerate(dict.fromkeys(frame["curve"])):
        part = frame[frame["curve"] == name]
        line = {"color": style.category_color(place), "width": 2.5}
        figure.add_trace(go.Scatter(x=part["s_n"], y=part["s_p"], mode="lines", name=str(name), line=line))
    figure.add_trace(
        go.Scatter(
            x=[0],
            y=[1],
            mode="markers",
            name="optimum (0, 1)",
            marker={"symbol": "star", "size": 13, "color": style.GREEN},
            cliponaxis=False,
        )
    )
    style.finish(figure, "s_n, similarity between classes", "s_p, similarity within a class", height=420)
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(range=[0, 1])
    return figure
