"""Figure 3.5: the softmax of one vector times s = 1, 2, 5, 10."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import theory
from analysis.figures import style

VECTOR = (0.1, 0.2, 0.3, 0.4)
SCALES = (1.0, 2.0, 5.0, 10.0)
CAPTION = (
    "Figure 3.5, by formula: softmax(s z) of z = (.1, .2, .3, .4) nears the maximum as s grows; n is the effective "
    "number of classes, exp(entropy). The thesis prints no vector; this one is from a review of Circle loss. No run, "
    "no interval."
)


def points() -> pd.DataFrame:
    """s, entry (1 to 4), z, share (a fraction), effective_classes."""
    rows = []
    for scale in SCALES:
        shares = theory.softmax(scale, np.array(VECTOR))
        n = theory.effective_classes(shares)
        rows += [
            {"s": scale, "entry": place, "z": z, "share": float(share), "effective_classes": n}
            for place, (z, share) in enumerate(zip(VECTOR, shares, strict=True), start=1)
        ]
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame) -> go.Figure:
    """Bars side by side, a color a scale."""
    figure = go.Figure()
    scales = list(dict.fromkeys(frame["s"]))
    for scale, color in zip(scales, style.sequence_colors(scales, log=True), strict=True):
        part = frame[frame["s"] == scale]
        figure.add_trace(
            go.Bar(
                x=[f"z = {z:g}" for z in part["z"]],
                y=100 * part["share"],
                name=f"s = {scale:g} (n = {part['effective_classes'].iloc[0]:.2f})",
                marker={"color": color},
                hovertemplate="%{x}: %{y:.1f}%",
            )
        )
    style.finish(figure, "Entry of the vector", "Softmax output (%)", height=400)
    figure.update_layout(barmode="group", bargap=0.25)
    return figure
