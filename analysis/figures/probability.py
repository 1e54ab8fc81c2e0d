"""Figures 3.3 and 3.4: probability of the own class against the angle to its proxy, without and with a margin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import theory
from analysis.figures import style

CLASSES = (2000, 20000)
SCALES = (10.0, 15.0, 20.0, 30.0, 64.0)
MARGINS = (
    ("no margin", "none", 0.0),
    ("ArcFace, m = 0.5 rad", "arcface", 0.5),
    ("CosFace, m = 0.35", "cosface", 0.35),
    ("SoftTriple, δ = 0.01", "cosface", 0.01),
)
CAPTION_33 = (
    "Figure 3.3, by formula: P = 1/(1 + (C-1) exp(-s cos θ)), the other cosines taken as 0. A large scale calls images "
    "at wide angles sure (hard positives stop learning), a small one leaves even θ = 0 unsure. AdaCos's fixed scale "
    "(thick) puts P = 1/2 at 45°. The original's scales are not printed; these are ours. No run, no interval."
)
CAPTION_34 = (
    "Figure 3.4, by formula: a margin moves the curve to smaller angles without changing the scale, so a large scale "
    "with a margin asks for the same angle as a small one without. No run, no interval."
)


def points(classes: int, scales: Sequence[float] = SCALES) -> pd.DataFrame:
    """Figure 3.3's curves for C classes: classes, curve (name), s, theta_deg, probability."""
    theta = np.linspace(0, 90, 181)
    fixed = float(theory.adacos_fixed(float(classes)))
    parts = []
    for name, scale in [*((f"s = {scale:g}", scale) for scale in scales), (f"AdaCos fixed, s = {fixed:.4g}", fixed)]:
        values = theory.probability(theta, scale, float(classes))
        parts.append(
            pd.DataFrame({"classes": classes, "curve": name, "s": scale, "theta_deg": theta, "probability": values})
        )
    return pd.concat(parts, ignore_index=True)


def margin_points(classes: int, scale: float) -> pd.DataFrame:
    """Figure 3.4's curves at one scale: classes, curve (name), s, margin, theta_deg, probability."""
    theta = np.linspace(0, 90, 181)
    parts = []
    for name, kind, margin in MARGINS:
        if kind == "arcface":
            values = theory.arcface_probability(theta, scale, float(classes), margin)
        else:
            values = theory.cosface_probability(theta, scale, float(classes), margin)
        columns = {"classes": classes, "curve": name, "s": scale, "margin": margin, "theta_deg": theta}
        parts.append(pd.DataFrame({**columns, "probability": values}))
    return pd.concat(parts, ignore_index=True)


def draw(frame: pd.DataFrame) -> go.Figure:
    """A line a curve; AdaCos's, where there is one, thick and black."""
    figure = go.Figure()
    names = list(dict.fromkeys(frame["curve"]))
    plain = [name for name in names if not name.startswith("AdaCos")]
    by_scale = frame["s"].nunique() > 1
    scales = [float(frame.loc[frame["curve"] == name, "s"].iloc[0]) for name in plain]
    if by_scale:
        colors = style.sequence_colors(scales, log=True)
    else:
        colors = [style.category_color(place) for place in range(len(plain))]
    for name, color in [*zip(plain, colors, strict=True), *((name, style.INK) for name in names if name not in plain)]:
        part = frame[frame["curve"] == name]
        figure.add_trace(
            go.Scatter(
                x=part["theta_deg"],
                y=100 * part["probability"].round(5),
                mode="lines",
                name=name,
                line={"color": color, "width": 3.5 if name not in plain else 2},
                hovertemplate="%{x:.1f}°: %{y:.1f}%",
            )
        )
    figure.add_hline(y=50, line={"color": "#8a8f98", "width": 1, "dash": "dot"})
    style.finish(figure, "Angle θ to the own proxy (degrees)", "Probability of the own class (%)", height=400)
    figure.update_xaxes(range=[0, 90], tickvals=[0, 15, 30, 45, 60, 75, 90])
    figure.update_yaxes(range=[-2, 102])
    return figure
