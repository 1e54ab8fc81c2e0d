"""Parallel coordinates of a search: a line a completed proposal, across its parameters and its value.

Drawn as plain lines: plotly's own parcoords needs WebGL and shader compilation, which neither print nor a strict
content policy allow, and its tick labels came out cut in plotly 7.1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style
from search_spaces.study_config import short_name

BINS = 8  # colors; a trace a line would slow the page
CAPTION = (
    "Parallel coordinates: each line is one completed proposal, lightest and thickest where validation Recall@1 is "
    "highest. Where light lines meet on an axis, that parameter matters. One seed each, so no interval."
)


def points(tried: pd.DataFrame) -> pd.DataFrame:
    """The completed proposals of search.points: number, configuration, value (a fraction), and their parameters."""
    complete = tried[(tried["status"] == "complete") & tried["value"].notna()]
    frame = complete.drop(columns=["status", "best"]).dropna(axis=1, how="all")
    return frame.sort_values("value", ignore_index=True)


def draw(frame: pd.DataFrame) -> go.Figure:
    """Parameters from left to right, the value last; each axis runs from its smallest (below) to its largest value."""
    names = [name for name in frame.columns if name not in ("number", "configuration", "value")]
    axes = [_axis(frame[name]) for name in names] + [_axis(100 * frame["value"])]
    heights = np.stack([positions for positions, _ in axes], axis=1)
    figure = go.Figure()
    bins = np.minimum(BINS - 1, np.arange(len(frame)) * BINS // max(1, len(frame)))
    colors = style.sequence_colors([float(place) for place in range(BINS)], log=False)
    for place in range(BINS):
        rows = np.flatnonzero(bins == place)
        x: list[float | None] = []
        y: list[float | None] = []
        told: list[str] = []
        for row in rows:
            label = f"trial {frame['number'][row]}: {100 * frame['value'][row]:.1f}%"
            label += f"<br>{style.plain(frame['configuration'][row])}"
            for column in range(len(axes)):
                # A parameter that this proposal does not have leaves a gap in its line.
                x.append(column)
                y.append(None if math.isnan(heights[row, column]) else float(heights[row, column]))
                told.append(label)
            x.append(None)
            y.append(None)
            told.append("")
        line = {"color": style.faded(colors[place], 0.75), "width": 1 + 1.5 * place / BINS}
        figure.add_trace(
            go.Scatter(
                x=x,
                y=y,
                text=told,
                mode="lines+markers",
                marker={"size": 4},
                line=line,
                hovertemplate="%{text}<extra></extra>",
            )
        )
    style.finish(figure, "", "", height=430, legend=False)
    for column, (_, ticks) in enumerate(axes):
        figure.add_shape(type="line", x0=column, x1=column, y0=0, y1=1, line={"color": "#8a8f98", "width": 1})
        for height, text in ticks:
            figure.add_annotation(
                x=column,
                y=height,
                text=style.plain(text),
                showarrow=False,
                xanchor="left",
                xshift=4,
                font={"size": 11},
                bgcolor="rgba(255,255,255,0.8)",
            )
    labels = [style.plain(short_name(name)) for name in names] + ["Recall@1<br>(%)"]
    figure.update_xaxes(
        tickvals=list(range(len(axes))),
        ticktext=labels,
        ticklabeloverflow="allow",
        showgrid=False,
        range=[-0.15, len(axes) - 0.65],
        ticks="",
    )
    figure.update_yaxes(visible=False, range=[-0.05, 1.05])
    return figure


def _axis(values: pd.Series) -> tuple[np.ndarray[Any, np.dtype[np.float64]], list[tuple[float, str]]]:
    """Heights in [0, 1] of `values` (NaN where there is none), and (height, text) of the axis's ticks."""
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        names = sorted({str(value) for value in values.dropna()})
        places = {name: place / max(1, len(names) - 1) for place, name in enumerate(names)}
        heights = [places[str(value)] if pd.notna(value) else math.nan for value in values]
        return np.array(heights), [(height, name) for name, height in places.items()]
    numbers = values.to_numpy(dtype=np.float64)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    if low == high:
        return np.where(np.isnan(numbers), np.nan, 0.5), [(0.5, f"{low:.4g}")]
    log = low > 0 and high >= 10 * low
    moved = np.log(numbers) if log else numbers
    start, end = (math.log(low), math.log(high)) if log else (low, high)
    middle = math.exp((start + end) / 2) if log else (start + end) / 2
    ticks = [(0.0, f"{low:.3g}"), (0.5, f"{middle:.3g}"), (1.0, f"{high:.3g}")]
    return (moved - start) / (end - start), ticks
