"""Recall@1 against Circle's gamma and AM-Softmax's scale on one axis: which of the two asks for less tuning?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import against, style
from analysis.intervals import mean_interval, paired_interval
from analysis.summary import judged
from search_spaces.losses import Circle, CosFace
from search_spaces.schedules import ConstantScale

if TYPE_CHECKING:
    from analysis.load import Study

CIRCLE, AM_SOFTMAX = "Circle, gamma", "AM-Softmax, scale s"


def points(study: Study) -> pd.DataFrame:
    """One row per completed trial of either loss and split; columns as figures.against.

    x: gamma, or a constant scale s. group: the loss, with its margin where one loss has several.
    """
    rows: list[dict[str, Any]] = []
    trials = judged(study.trials)
    for trial in trials[trials["status"] == "complete"].to_dict("records"):
        match study.trial_configs[trial["number"]].loss:
            case Circle() as loss:
                rows += against.split_rows(trial, {"x": loss.gamma, "group": CIRCLE, "other": _circle_words(loss)})
            case CosFace(scale=ConstantScale(value=scale)) as loss:
                rows += against.split_rows(trial, {"x": scale, "group": AM_SOFTMAX, "other": f"margin {loss.margin:g}"})
            case _:
                pass
    frame = pd.DataFrame(rows, columns=[*against.COLUMNS, "other"])
    several = frame.groupby("group")["other"].transform("nunique") > 1
    frame["group"] = frame["group"].where(~several, frame["group"] + ", " + frame["other"])
    return frame[against.COLUMNS]


def _circle_words(loss: Circle) -> str:
    return f"{loss.level} level, m={loss.m:g}{'' if loss.weighting else ', not weighted'}"


def applies(frame: pd.DataFrame) -> bool:
    """Whether both losses were tried at three values or more."""
    tried = frame.groupby("group")["x"].nunique()
    return all((tried[tried.index.str.startswith(name)] >= 3).any() for name in (CIRCLE, AM_SOFTMAX))


def draw(frame: pd.DataFrame) -> go.Figure:
    """A curve per loss and split on one logarithmic axis."""
    figure = go.Figure()
    against.add_curves(figure, frame, "gamma or s", log=True)
    style.finish(figure, "gamma of Circle, scale s of AM-Softmax (log axis)", "Recall@1 (%)", height=460)
    style.set_log_axis("x", figure, frame["x"].tolist())
    return figure


def steadiness(frame: pd.DataFrame) -> str:
    """How far Recall@1 spreads over the values that both losses tried, in a sentence; '' where that cannot be said.

    The spread of a seed is its highest minus its lowest Recall over the common values; means over seeds, and the
    difference paired by seed. On validation classes where they were held out.
    """
    split = "validation" if (frame["split"] == "validation").any() else "test"
    part = frame[(frame["split"] == split) & frame["group"].isin([CIRCLE, AM_SOFTMAX])]
    table = part.pivot_table(index=["group", "seed"], columns="x", values="recall").dropna(axis=1)
    if table.shape[1] < 3 or len(table.index.unique("group")) < 2:
        return ""
    spread = 100 * (table.max(axis=1) - table.min(axis=1))
    circle, softmax = spread[CIRCLE], spread[AM_SOFTMAX]
    values = table.columns.to_numpy(dtype=np.float64)
    text = (
        f"Over {len(values)} values from {values.min():g} to {values.max():g}, Recall@1 on {split} classes spreads by "
        f"{mean_interval(circle).mean:.1f} points with Circle's gamma and by {mean_interval(softmax).mean:.1f} with "
        "AM-Softmax's scale (highest minus lowest within a seed, mean over seeds)"
    )
    common = circle.index.intersection(softmax.index)
    if len(common) < 2:
        return f"{text}; one seed cannot tell whether that differs."
    found = paired_interval(circle, softmax)
    assert found.low is not None
    assert found.high is not None
    verdict = "Circle is steadier" if found.high < 0 else "AM-Softmax is steadier" if found.low > 0 else "undecided"
    return (
        f"{text}; the difference is {found.mean:+.1f} points (95% interval {found.low:+.1f} to {found.high:+.1f}, "
        f"{found.n} seeds paired): {verdict}."
    )


def caption(frame: pd.DataFrame) -> str:
    """What to see, and which interval is shown."""
    return (
        "Recall@1 at the last epoch of Circle against gamma and of AM-Softmax (CosFace) against its scale, on one "
        f"axis: both multiply a similarity, and the flatter curve needs less tuning. {against.seeds_words(frame, 'x')}"
    )
