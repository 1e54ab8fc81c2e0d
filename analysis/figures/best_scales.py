"""The best constant scale against the number of training classes, or the embedding dimension, beside closed forms."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import best_scales, theory
from analysis.figures import style

Axis = Literal["classes", "dim"]
COLUMNS = ["group", "epochs_done", "classes", "dim", "best", "low", "high", "seeds", "estimated"]
_NAMES: dict[Axis, str] = {"classes": "Training classes C (log axis)", "dim": "Embedding dimension D (log axis)"}


def points(frame: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """One row per setting that belongs to a group in which only `axis` differs. frame: runs.curves.

    Settings are grouped at equal epochs (each class's images are seen equally often) and, over classes, at equal steps
    (epochs in inverse proportion to the classes). best, low, high: by validation classes, or by test classes where none
    were held out; an estimate with its 95% interval (estimated), or the highest mean and the ends of the set of scales
    not worse than the best.
    """
    found = list(best_scales.measured(frame))
    chosen = {row.metric for row in found}
    metric = best_scales.METRICS[0] if best_scales.METRICS[0] in chosen else best_scales.METRICS[1]
    rows = []
    for row in found:
        if row.metric != metric or row.setting.classes < 3:
            continue
        setting, interval = row.setting, row.interval
        other_axis = f", D={setting.dim}" if axis == "classes" else f", C={setting.classes}"
        name = f"{setting.dataset}, {setting.loss_kind}{other_axis}"
        name += f", {setting.other}" if setting.other else ""
        values = {
            "epochs_done": row.epochs_done,
            "classes": setting.classes,
            "dim": setting.dim,
            "best": interval.mean,
            "low": interval.low,
            "high": interval.high,
            "seeds": interval.n,
            "estimated": row.estimate is not None,
        }
        rows.append({"group": f"{name}: {row.epochs_done} epochs each", **values})
        if axis == "classes":
            images = row.epochs_done * setting.classes
            rows.append({"group": f"{name}: equal steps ({images} epochs x classes)", **values})
    table = pd.DataFrame(rows, columns=COLUMNS)
    varied = table.groupby("group")[axis].transform("nunique")
    return table[varied > 1].sort_values(["group", axis], ignore_index=True)


def draw(frame: pd.DataFrame, axis: Axis) -> go.Figure:
    """A line a group, with its intervals; the closed forms as lines without marks."""
    figure = go.Figure()
    common = _common_setting(frame)
    for place, (group, part) in enumerate(frame.groupby("group", sort=False)):
        color = style.category_color(place)
        low, high = part["low"].fillna(part["best"]), part["high"].fillna(part["best"])
        figure.add_trace(
            go.Scatter(
                x=part[axis],
                y=part["best"],
                error_y={"type": "data", "array": high - part["best"], "arrayminus": part["best"] - low},
                mode="lines+markers",
                name=str(group).removeprefix(f"{common}: "),
                line={"color": color, "width": 2, "dash": style.category_dash(place)},
                marker={"size": 9, "color": color},
                customdata=np.stack([low, high], axis=1),
                hovertemplate="%{x}: s = %{y:.3g} (%{customdata[0]:.3g} to %{customdata[1]:.3g})",
            )
        )
    for name, values in _closed_forms(frame, axis).items():
        figure.add_trace(
            go.Scatter(
                x=values.index,
                y=values,
                mode="lines",
                name=name,
                line={"color": style.INK, "width": 2, "dash": "solid" if "AdaCos fixed" in name else "dot"},
                hovertemplate="%{x:.0f}: s = %{y:.3g}",
            )
        )
    style.finish(figure, _NAMES[axis], "Best softmax scale s (log axis)", height=480)
    style.set_log_axis("x", figure, list(frame[axis]))
    style.set_log_axis("y", figure, [*frame["best"], *frame["low"].dropna(), *frame["high"].dropna()])
    return figure


def _common_setting(frame: pd.DataFrame) -> str:
    """The setting that all groups share, which the caption names once; '' if they differ."""
    settings = {str(group).rpartition(": ")[0] for group in frame["group"]}
    return settings.pop() if len(settings) == 1 else ""


def _closed_forms(frame: pd.DataFrame, axis: Axis) -> dict[str, pd.Series]:
    """Predicted scales by value of `axis`."""
    if axis == "dim":
        ends = [float(frame["dim"].min()), float(frame["dim"].max())]
        return {
            f"AdaCos fixed, √2 ln(C−1), C={classes}": pd.Series([float(theory.adacos_fixed(float(classes)))] * 2, ends)
            for classes in sorted(frame["classes"].unique())
        }
    classes = np.geomspace(frame["classes"].min(), frame["classes"].max(), 41)
    return {
        "AdaCos fixed, √2 ln(C−1)": pd.Series(np.asarray(theory.adacos_fixed(classes)), classes),
        "AdaCos at perfect fit, ln(C−1)": pd.Series(np.asarray(theory.adacos_end(classes)), classes),
    }


def caption(frame: pd.DataFrame, axis: Axis) -> str:
    """What to see, and which interval."""
    estimated = frame["estimated"].all()
    shown = (
        "Marks are estimates over log s with their 95% interval over seeds"
        if estimated
        else "Marks are the scales with the highest mean; bars span the set of scales not worse than the best (95%, "
        "paired over seeds), or the 95% interval where five seeds and scales allow an estimate"
    )
    if setting := _common_setting(frame):
        shown = f"{setting}. {shown}"
    if axis == "dim":
        return f"{shown}. AdaCos's closed form does not know D: its line is flat."
    return (
        f"{shown}. Equal epochs show each class's images equally often, so more classes train longer; equal steps "
        "train all for as many batches. The closed forms rise with the logarithm of C."
    )
