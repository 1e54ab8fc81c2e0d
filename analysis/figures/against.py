"""Recall@1 against one number that a study varies (gamma, a learning rate, C, D): seeds, mean, interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style
from analysis.intervals import mean_interval
from analysis.summary import judged
from search_spaces.study_config import label_of, short_name

if TYPE_CHECKING:
    from analysis.load import Study

COLUMNS = ["x", "group", "split", "seed", "recall", "number"]
_NAMES = {
    "loss.gamma": "gamma",
    "loss.alpha": "alpha (Proxy Anchor's scale)",
    "split.train_classes": "Training classes C",
    "model.embedding_dim": "Embedding dimension D",
    "optimizer.lr": "Learning rate",
    "optimizer.eps": "Adam's eps",
    "epochs": "Epochs",
}


def numeric_paths(study: Study) -> list[str]:
    """The varied paths that hold at least three different numbers (and no truth values)."""
    found = []
    for path in study.varied:
        values = [value for value in judged(study.trials)[path].dropna().tolist() if not isinstance(value, bool)]
        numbers = {value for value in values if isinstance(value, int | float)}
        if len(numbers) >= 3:
            found.append(path)
    return found


def points(study: Study, path: str) -> pd.DataFrame:
    """One row per completed trial and split (validation, test).

    x: the value at `path`. group: what else differs, in words. recall: Recall@1 at the last epoch, a fraction.
    """
    rows: list[dict[str, Any]] = []
    trials = judged(study.trials)
    for trial in trials[trials["status"] == "complete"].to_dict("records"):
        x = trial[path]
        if isinstance(x, bool) or not isinstance(x, int | float) or np.isnan(x):
            continue
        values = study.record.trials[trial["number"]].trial.values
        group = ", ".join(label_of(other, trial[other]) for other in values if other != path)
        rows += split_rows(trial, {"x": float(x), "group": group})
    return pd.DataFrame(rows, columns=COLUMNS)


def applies(frame: pd.DataFrame) -> bool:
    """Whether `frame` holds a curve: two values or more in one group."""
    return bool((frame.groupby(["group", "split"])["x"].nunique() >= 2).any())


def split_rows(trial: dict[Any, Any], common: dict[str, Any]) -> list[dict[str, Any]]:
    """`common` with the trial's Recall@1 on validation and on test classes, where it was measured."""
    common = {**common, "seed": trial["seed"], "number": trial["number"]}
    rows = []
    if trial["objective"] == "val_recall_at_1" and not np.isnan(trial["value"]):
        rows.append({**common, "split": "validation", "recall": trial["value"]})
    if not np.isnan(trial["test_value"]):
        rows.append({**common, "split": "test", "recall": trial["test_value"]})
    return rows


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with its 95% t interval: group, split, x, mean, low, high, n (NaN ends for one seed)."""
    rows = []
    recall = frame["recall"].to_numpy(dtype=np.float64)
    grouped: dict[Any, Any] = frame.groupby(["group", "split", "x"]).indices
    for (group, split, x), places in sorted(grouped.items()):
        mean = mean_interval(recall[places])
        low, high = (np.nan if end is None else end for end in (mean.low, mean.high))
        named = {"group": group, "split": split, "x": x}
        rows.append({**named, "mean": mean.mean, "low": low, "high": high, "n": mean.n})
    return pd.DataFrame(rows, columns=["group", "split", "x", "mean", "low", "high", "n"])


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with its `means` beside each row: what the figure's CSV holds."""
    return frame.merge(means(frame), on=["group", "split", "x"], how="left")


def draw(frame: pd.DataFrame, path: str) -> go.Figure:
    """A curve per group and split; a logarithmic axis where the values span a factor of ten."""
    figure = go.Figure()
    log = bool((frame["x"] > 0).all()) and frame["x"].max() >= 10 * frame["x"].min()
    add_curves(figure, frame, "x", log)
    name = _NAMES.get(path, short_name(path))
    style.finish(figure, f"{name} (log axis)" if log else name, "Recall@1 (%)", height=440)
    if log:
        style.set_log_axis("x", figure, frame["x"].tolist())
    return figure


def add_curves(figure: go.Figure, frame: pd.DataFrame, name: str, log: bool) -> None:
    """Mean, interval and seeds of each group and split. name: what the x value is called when pointed at."""
    curves = means(frame)
    groups = list(dict.fromkeys(frame["group"]))
    # A little to the side of the mean, so that neither hides the other.
    span = float(frame["x"].max() - frame["x"].min()) if len(frame) else 0.0
    for place, group in enumerate(groups):
        for split in ("validation", "test"):
            dots = frame[(frame["group"] == group) & (frame["split"] == split)]
            line = curves[(curves["group"] == group) & (curves["split"] == split)]
            if line.empty:
                continue
            side = 1 if split == "test" else -1
            beside = dots["x"] * (1 + 0.02 * side) if log else dots["x"] + 0.006 * span * side
            if len(groups) == 1:
                color = style.BLUE if split == "validation" else style.VERMILION
            else:
                color = style.category_color(place)
            label = style.plain(f"{group}, {split}" if group else split)
            _add_curve(figure, dots, beside, line, color, label, name)
    if _cut(frame, curves):
        figure.update_yaxes(range=_window(frame))


def _window(frame: pd.DataFrame) -> tuple[float, float]:
    """Percent from below the lowest to above the highest seed: with two seeds a band would flatten every curve."""
    low, high = 100 * frame["recall"].min(), 100 * frame["recall"].max()
    room = max(2.0, 0.5 * (high - low))
    return float(low - room), float(high + room)


def _cut(frame: pd.DataFrame, curves: pd.DataFrame) -> bool:
    """Whether a band leaves the window."""
    if curves["low"].isna().all():
        return False
    low, high = _window(frame)
    return bool(100 * max(0, curves["low"].min()) < low or 100 * min(1, curves["high"].max()) > high)


def _add_curve(
    figure: go.Figure, dots: pd.DataFrame, beside: pd.Series, line: pd.DataFrame, color: str, label: str, name: str
) -> None:
    test = bool((line["split"] == "test").all())
    banded = line[line["low"].notna()]
    if len(banded) > 1:
        # A t interval of two or three seeds is wider than Recall can be; the band stays within what is possible.
        low, high = banded["low"].clip(lower=0), banded["high"].clip(upper=1)
        figure.add_trace(style.band(banded["x"], 100 * low, 100 * high, color, legendgroup=label))
    figure.add_trace(
        go.Scatter(
            x=line["x"],
            y=100 * line["mean"],
            mode="lines+markers",
            name=label,
            legendgroup=label,
            line={"color": color, "width": 2, "dash": "dash" if test else "solid"},
            marker={"size": 8, "symbol": "diamond" if test else "circle"},
            customdata=np.stack([100 * line["low"], 100 * line["high"], line["n"]], axis=-1),
            hovertemplate=(
                f"{name} = %{{x:.4g}}: %{{y:.1f}}%<br>95% t interval %{{customdata[0]:.1f}} to "
                "%{customdata[1]:.1f}%, %{customdata[2]} seeds"
            ),
        )
    )
    figure.add_trace(
        go.Scatter(
            x=beside,
            y=100 * dots["recall"],
            mode="markers",
            legendgroup=label,
            showlegend=False,
            name=label,
            marker={"size": 5, "color": style.faded(color, 0.55), "symbol": "diamond-open" if test else "circle-open"},
            customdata=dots[["x", "seed"]],
            hovertemplate=f"{name} = %{{customdata[0]:.4g}}, seed %{{customdata[1]}}: %{{y:.1f}}%",
        )
    )


def caption(frame: pd.DataFrame, path: str) -> str:
    """What to see, and which interval is shown."""
    return f"Recall@1 at the last epoch against {_NAMES.get(path, short_name(path))}. {seeds_words(frame, 'x')}"


def seeds_words(frame: pd.DataFrame, x: str) -> str:
    """How seeds, mean and interval are drawn."""
    counts = frame.groupby(["group", "split", x])["seed"].nunique()
    if len(counts) and counts.max() > 1:
        words = (
            "Small marks are seeds, joined marks their mean; the band is the 95% t interval of the mean over seeds "
            "(other seeds, not other classes)"
        )
        cut = _cut(frame, means(frame.rename(columns={x: "x"})))
        return f"{words}, cut where it leaves the picture." if cut else f"{words}."
    return "One seed each, so no interval can be drawn."
