"""The thesis's own curve of Recall@1 against a constant scale (Sato 2021, table 4.1), as printed."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis import theory, thesis_data
from analysis.figures import style

NAMES = {"cub200": "CUB-200-2011", "cars196": "Cars-196"}
CLASSES = {"cub200": 100, "cars196": 98}


def points() -> pd.DataFrame:
    """dataset, scale, recall (a fraction): the printed values."""
    table = thesis_data.load("4.1")
    frame = table.loc[table["metric"] == "test_recall_at_1", ["dataset", "start", "value"]]
    return frame.rename(columns={"start": "scale", "value": "recall"}).reset_index(drop=True)


def draw(frame: pd.DataFrame) -> go.Figure:
    """One line a data set."""
    figure = go.Figure()
    for place, (dataset, part) in enumerate(frame.groupby("dataset", sort=False)):
        figure.add_trace(
            go.Scatter(
                x=part["scale"],
                y=100 * part["recall"],
                mode="lines+markers",
                name=NAMES.get(str(dataset), str(dataset)),
                line={"color": style.category_color(place + 2), "width": 2},
                marker={"size": 8, "symbol": ("square", "triangle-up")[place % 2]},
                hovertemplate="s = %{x:g}: %{y:.2f}% (printed)",
            )
        )
    scale = float(theory.adacos_fixed(CLASSES["cub200"]))
    low, high = 100 * frame["recall"].min(), 100 * frame["recall"].max()
    figure.add_trace(
        go.Scatter(
            x=[scale, scale],
            y=[low - 2, high + 2],
            mode="lines",
            name=f"AdaCos fixed, √2 ln(C−1) = {scale:.3g}",
            line={"color": style.INK, "width": 2},
            hoverinfo="name",
        )
    )
    style.finish(figure, "Softmax scale s (log axis)", "Test Recall@1 (%)", height=460)
    style.set_log_axis("x", figure, list(frame["scale"]))
    return figure


def caption(frame: pd.DataFrame) -> str:
    """What to see."""
    best = frame.loc[frame.groupby("dataset")["recall"].idxmax()].set_index("dataset")["scale"]
    told = ", ".join(
        f"{best[dataset]:g} on {NAMES[dataset]} (AdaCos {float(theory.adacos_fixed(float(classes))):.2f})"
        for dataset, classes in CLASSES.items()
    )
    return (
        "What the thesis printed (Sato 2021, table 4.1): Recall@1 of test classes after 100 epochs with a constant "
        f"scale, one run each, so no interval. Its best scale is {told}."
    )
