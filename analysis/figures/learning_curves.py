"""A metric over epochs, per configuration: the mean over seeds, and each seed thin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style
from analysis.summary import short_name

if TYPE_CHECKING:
    from analysis.load import Study

SEED_POINTS = 10_000  # more epochs than this and the seeds' own lines are left out: the page must stay small
CSV_ROWS = 200_000
CONFIGURATIONS = 40  # more lines than this cannot be told apart


def points(study: Study, metric: str) -> pd.DataFrame:
    """One row per configuration, seed and epoch of the trials that are no search proposals.

    Columns: configuration, scale (constant s, or NaN), seed, epochs_done, value (the metric), number.
    """
    trials = study.trials[study.trials["phase"] != "search"]
    if metric not in study.epochs or trials.empty:
        return pd.DataFrame(columns=["configuration", "scale", "seed", "epochs_done", "value", "number"])
    scale = trials["scale_first"].where(trials["schedule_kind"] == "constant")
    # A million names as text would be most of the memory; as categories they are numbers.
    named = trials[["number", "seed"]].assign(scale=scale, configuration=trials["configuration"].astype("category"))
    epochs = study.epochs.loc[study.epochs["epochs_done"] > 0, ["number", "epochs_done", metric]].dropna()
    frame = epochs.rename(columns={metric: "value"}).merge(named, on="number")
    return frame[["configuration", "scale", "seed", "epochs_done", "value", "number"]]


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the seeds that reached each epoch: configuration, scale, epochs_done, value, n."""
    grouped = frame.groupby(["configuration", "epochs_done"], sort=False, observed=True)
    result = grouped.agg(value=("value", "mean"), n=("seed", "nunique"), scale=("scale", "first")).reset_index()
    return result.sort_values(["configuration", "epochs_done"], ignore_index=True)


def shown(frame: pd.DataFrame) -> list[str]:
    """The configurations that a figure can show: all, or the CONFIGURATIONS with the highest last value."""
    names = [str(name) for name in frame["configuration"].unique()]
    if len(names) <= CONFIGURATIONS:
        return names
    longest = frame.groupby("configuration", observed=True)["epochs_done"].transform("max")
    last = frame[frame["epochs_done"] == longest].groupby("configuration", observed=True)["value"].mean()
    best = set(last.nlargest(CONFIGURATIONS).index)
    return [name for name in names if name in best]


def draw(frame: pd.DataFrame, metric: str, seed_points: int = SEED_POINTS) -> go.Figure:
    """Mean lines; colors follow log s where every configuration has its own constant scale.

    seed_points: epochs beyond which no seed has a line of its own.
    """
    figure = go.Figure()
    names = shown(frame)
    frame = frame[frame["configuration"].isin(names)]
    factor = 100.0 if style.is_share(metric) else 1.0
    scales = frame.groupby("configuration", observed=True)["scale"].first()
    by_scale = len(names) > 1 and scales.notna().all() and scales.is_unique
    if by_scale:
        names = sorted(names, key=lambda name: float(scales[name]))
        colors = style.sequence_colors([float(scales[name]) for name in names], log=True)
        dashes = ["solid"] * len(names)
    else:
        colors = [style.category_color(place) for place in range(len(names))]
        dashes = [style.category_dash(place) for place in range(len(names))]
    lines = means(frame)
    with_seeds = len(frame) <= seed_points and frame.groupby("configuration", observed=True)["seed"].nunique().max() > 1
    for name, color, dash in zip(names, colors, dashes, strict=True):
        if with_seeds:
            figure.add_trace(_seeds(frame[frame["configuration"] == name], factor, color, name))
        line = lines[lines["configuration"] == name]
        figure.add_trace(
            go.Scatter(
                x=_smallest(line["epochs_done"]),
                y=(factor * line["value"]).to_numpy(dtype=np.float32),
                mode="lines",
                name=style.plain(short_name(name)),
                legendgroup=style.plain(name),
                line={"color": color, "width": 2, "dash": dash},
                hovertemplate="epoch %{x}: %{y:.4g}",
            )
        )
    style.finish(figure, "Epochs trained", style.metric_name(metric), height=400, legend=len(names) <= 24)
    return figure


def _seeds(part: pd.DataFrame, factor: float, color: str, name: str) -> go.Scatter:
    """All seeds of a configuration as one trace, broken between them: a trace each would slow the page."""
    ends = np.flatnonzero(part["number"].to_numpy()[1:] != part["number"].to_numpy()[:-1]) + 1
    return go.Scatter(
        # Single precision halves the page, and no screen shows more.
        x=np.insert(_smallest(part["epochs_done"]), ends, 0),
        y=np.insert((factor * part["value"]).to_numpy(dtype=np.float32), ends, np.nan),
        mode="lines",
        line={"color": style.faded(color, 0.25), "width": 1},
        legendgroup=style.plain(name),
        showlegend=False,
        hoverinfo="skip",
    )


def _smallest(epochs: pd.Series) -> np.ndarray[Any, Any]:
    return epochs.to_numpy(dtype=np.min_scalar_type(int(epochs.max())))


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """What the figure's CSV holds: every epoch of every trial, or the means where those would be too many rows."""
    return frame if len(frame) <= CSV_ROWS else means(frame)


def title(metric: str) -> str:
    """The figure's heading: the metric without its unit."""
    return style.metric_name(metric).split(" (")[0]


def caption(frame: pd.DataFrame, metric: str, seed_points: int = SEED_POINTS) -> str:
    """What to see, in the figure that `draw` gives for the same arguments."""
    name = style.metric_name(metric)
    total, drawn = frame["configuration"].nunique(), len(shown(frame))
    text = f"{name} over training; thick: mean over seeds, thin: each seed. No interval is shown."
    if len(frame) > seed_points:
        text = f"{name} over training; the mean over seeds (too many trials to draw each seed). No interval is shown."
    if drawn < total:
        text += f" The {drawn} configurations of {total} with the highest last value; the CSV has all."
    return text
