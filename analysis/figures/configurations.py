"""Configurations in one column of dots, best first: for whatever a study varies."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style
from analysis.summary import short_name

SHOWN = 60


def points(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per completed trial that is no search proposal, and split: configuration, split, seed, recall, number."""
    judged = trials[(trials["phase"] != "search") & (trials["status"] == "complete")]
    columns = ["configuration", "split", "seed", "recall", "number"]
    parts = []
    chosen = judged[judged["objective"] == "val_recall_at_1"]
    for split, rows, column in (("validation", chosen, "value"), ("test", judged, "test_value")):
        part = rows[["configuration", "seed", "number"]].assign(split=split, recall=rows[column])
        parts.append(part[part["recall"].notna()])
    return pd.concat(parts, ignore_index=True)[columns]


def draw(frame: pd.DataFrame) -> go.Figure:
    """Best mean on top (validation's where there is one); a dot a seed, a bar for the mean's 95% t interval."""
    from analysis.intervals import mean_interval

    figure = go.Figure()
    splits = [split for split in ("validation", "test") if (frame["split"] == split).any()]
    order = frame[frame["split"] == splits[0]].groupby("configuration")["recall"].mean().sort_values()
    names = list(order.index[-SHOWN:])
    for split in splits:
        part = frame[(frame["split"] == split) & frame["configuration"].isin(names)]
        color, symbol = (style.BLUE, "circle") if split == "validation" else (style.VERMILION, "diamond")
        shift = 0.14 if split == "validation" else -0.14
        places = {name: place for place, name in enumerate(names)}
        intervals = {name: mean_interval(rows["recall"].to_numpy()) for name, rows in part.groupby("configuration")}
        figure.add_trace(
            go.Scatter(
                x=100 * part["recall"],
                y=[places[name] + shift for name in part["configuration"]],
                mode="markers",
                marker={"size": 5, "color": style.faded(color, 0.5), "symbol": f"{symbol}-open"},
                legendgroup=split,
                showlegend=False,
                customdata=part[["configuration", "seed"]].map(style.plain),
                hovertemplate="%{customdata[0]}, seed %{customdata[1]}: %{x:.1f}%<extra></extra>",
            )
        )
        drawn = [name for name in names if name in intervals]
        figure.add_trace(
            go.Scatter(
                x=[100 * intervals[name].mean for name in drawn],
                y=[places[name] + shift for name in drawn],
                mode="markers",
                name=split,
                legendgroup=split,
                marker={"size": 9, "color": color, "symbol": symbol},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    # Cut to what Recall can be: with two seeds a t interval is often wider than that.
                    "array": [_reach(_cut(intervals[name].high), intervals[name].mean) for name in drawn],
                    "arrayminus": [_reach(intervals[name].mean, _cut(intervals[name].low)) for name in drawn],
                    "color": color,
                    "thickness": 1.2,
                    "width": 3,
                },
                customdata=[style.plain(name) for name in drawn],
                hovertemplate="%{customdata}: mean %{x:.1f}%<extra></extra>",
            )
        )
    style.finish(figure, "Recall@1 (%)", "", height=max(260, 110 + 30 * len(names)))
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[style.plain(name if len(name) <= 34 else f"{name[:32]}…") for name in map(short_name, names)],
        range=[-0.7, len(names) - 0.3],
    )
    figure.update_layout(legend={"y": -0.12 if len(names) > 8 else -0.25})
    return figure


def _cut(share: float | None) -> float | None:
    return None if share is None else min(1.0, max(0.0, share))


def _reach(high: float | None, low: float | None) -> float:
    return 0.0 if high is None or low is None else 100 * (high - low)


def caption(frame: pd.DataFrame) -> str:
    """What to see, and which interval is shown."""
    total = frame["configuration"].nunique()
    text = (
        "Recall@1 at the last epoch, best mean on top. Small marks are seeds; large marks their mean with its 95% t "
        "interval over seeds."
    )
    return text if total <= SHOWN else f"{text} The best {SHOWN} of {total}; the CSV has all."
