"""Recall@1 against the softmax scale s, with AdaCos's scale and the other closed forms as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import theory
from analysis.figures import style
from analysis.intervals import mean_interval
from search_spaces.study_config import label_of

if TYPE_CHECKING:
    from analysis.load import Study

COLUMNS = ["scale", "group", "split", "seed", "recall", "number", "own_scale"]
_SCALE_PATHS = ("loss.scale.value", "loss.scale")


def points(study: Study) -> pd.DataFrame:
    """One row per completed trial with a constant scale, and split (validation, test).

    scale: softmax scale s. group: what else differs, in words ('' where only the scale does). recall: Recall@1 at the
    last epoch, a fraction. own_scale: the loss sets s itself (AdaCos), so the row stands apart from the curve; for
    AdaCos's dynamic form s is that of the last epoch.
    """
    trials = study.trials
    judged = trials[(trials["phase"] != "search") & (trials["status"] == "complete")]
    others = [path for path in study.varied if path not in _SCALE_PATHS and not path.startswith("loss.scale.")]
    last_scale = study.last_epochs.get("scale", pd.Series(dtype=float))
    rows: list[dict[str, Any]] = []
    for trial in judged.to_dict("records"):
        own = trial["loss_kind"] == "adacos"
        if own:
            scale, group = last_scale.get(trial["number"], trial["scale_last"]), str(trial["configuration"])
        elif trial["schedule_kind"] == "constant":
            scale, group = trial["scale_first"], ", ".join(label_of(path, trial[path]) for path in others)
        else:
            continue
        common = {"scale": scale, "group": group, "seed": trial["seed"], "number": trial["number"], "own_scale": own}
        if trial["objective"] == "val_recall_at_1":
            rows.append({**common, "split": "validation", "recall": trial["value"]})
        if not np.isnan(trial["test_value"]):
            rows.append({**common, "split": "test", "recall": trial["test_value"]})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame[frame["scale"].notna() & frame["recall"].notna()].reset_index(drop=True)


def applies(frame: pd.DataFrame) -> bool:
    """Whether `frame` holds a curve: two scales or more in one group."""
    curves = frame[~frame["own_scale"]]
    return bool((curves.groupby(["group", "split"])["scale"].nunique() >= 2).any())


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with its 95 % t interval: group, split, scale, mean, low, high, n (NaN ends for one seed)."""
    rows = []
    for key, part in frame[~frame["own_scale"]].groupby(["group", "split", "scale"], sort=True):
        mean = mean_interval(part["recall"])
        low, high = (np.nan if end is None else end for end in (mean.low, mean.high))
        named = dict(zip(("group", "split", "scale"), key, strict=True))
        rows.append({**named, "mean": mean.mean, "low": low, "high": high, "n": mean.n})
    return pd.DataFrame(rows, columns=["group", "split", "scale", "mean", "low", "high", "n"])


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with its `means` beside each row: what the figure's CSV holds."""
    return frame.merge(means(frame), on=["group", "split", "scale"], how="left")


def theory_scales(classes: int) -> list[tuple[str, float]]:
    """Closed-form scales for C training classes, each with its name; theory.py says where they come from."""
    lines = [
        ("AdaCos fixed, √2 ln(C−1)", float(theory.adacos_fixed(classes))),
        ("AdaCos at perfect fit, ln(C−1)", float(theory.adacos_end(classes))),
        ("CosFace bound, P = .99", float(theory.cosface_scale(classes, 0.99))),
    ]
    if classes > 2:
        lines.append(("L2-softmax bound, P = .99", float(theory.l2_softmax_scale(classes, 0.99))))
    return lines


def draw(frame: pd.DataFrame, classes: int | None) -> go.Figure:
    """The curve. classes: C, for the closed-form lines (None: the trials differ in C, so there is no one line)."""
    figure = go.Figure()
    curves = means(frame)
    groups = list(dict.fromkeys(frame.loc[~frame["own_scale"], "group"]))
    for place, group in enumerate(groups):
        for split in ("validation", "test"):
            color = _color(place, split, len(groups))
            dots = frame[(frame["group"] == group) & (frame["split"] == split) & ~frame["own_scale"]]
            line = curves[(curves["group"] == group) & (curves["split"] == split)]
            if line.empty:
                continue
            name = style.plain(f"{group}, {split}" if group else split)
            _add_curve(figure, dots, line, color, name, split)
    own = frame[frame["own_scale"]]
    for place, group in enumerate(dict.fromkeys(own["group"])):
        for split in ("validation", "test"):
            dots = own[(own["group"] == group) & (own["split"] == split)]
            if dots.empty:
                continue
            figure.add_trace(
                go.Scatter(
                    x=dots["scale"],
                    y=100 * dots["recall"],
                    mode="markers",
                    name=style.plain(f"{group}, {split}"),
                    marker={
                        "symbol": "star" if split == "validation" else "star-open",
                        "size": 11,
                        "color": style.category_color(place + 3),
                    },
                    customdata=dots[["seed"]],
                    hovertemplate="s %{x:.3g}, %{y:.1f} %, seed %{customdata[0]}",
                )
            )
    style.finish(figure, "Softmax scale s (log axis)", "Recall@1 (%)", height=460)
    lines = theory_scales(classes) if classes is not None and classes > 2 else []
    _add_lines(figure, lines, frame)
    style.set_log_axis("x", figure, [*frame["scale"], *(scale for _, scale in lines)])
    return figure


def _add_curve(figure: go.Figure, dots: pd.DataFrame, line: pd.DataFrame, color: str, name: str, split: str) -> None:
    test = split == "test"
    banded = line[line["low"].notna()]
    if len(banded) > 1:
        # A t interval of two or three seeds is wider than Recall can be; the band stays within what is possible.
        low, high = banded["low"].clip(lower=0), banded["high"].clip(upper=1)
        figure.add_trace(style.band(banded["scale"], 100 * low, 100 * high, color, legendgroup=name))
    figure.add_trace(
        go.Scatter(
            x=line["scale"],
            y=100 * line["mean"],
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": color, "width": 2, "dash": "dash" if test else "solid"},
            marker={"size": 8, "symbol": "diamond" if test else "circle"},
            customdata=np.stack([100 * line["low"], 100 * line["high"], line["n"]], axis=-1),
            hovertemplate=(
                "s = %{x:g}: %{y:.1f} %<br>95 % t interval %{customdata[0]:.1f} to %{customdata[1]:.1f} %, "
                "%{customdata[2]} seeds"
            ),
        )
    )
    figure.add_trace(
        go.Scatter(
            # A little to the side of the mean, so that neither hides the other.
            x=dots["scale"] * (1.02 if test else 0.98),
            y=100 * dots["recall"],
            mode="markers",
            legendgroup=name,
            showlegend=False,
            name=name,
            marker={"size": 5, "color": style.faded(color, 0.55), "symbol": "diamond-open" if test else "circle-open"},
            customdata=dots[["scale", "seed"]],
            hovertemplate="s = %{customdata[0]:g}, seed %{customdata[1]}: %{y:.1f} %",
        )
    )


def _add_lines(figure: go.Figure, lines: list[tuple[str, float]], frame: pd.DataFrame) -> None:
    if frame.empty:
        return
    low, high = 100 * frame["recall"].min(), 100 * frame["recall"].max()
    pad = 0.06 * (high - low) or 1.0
    for place, (name, scale) in enumerate(lines):
        figure.add_trace(
            go.Scatter(
                x=[scale, scale],
                y=[low - pad, high + pad],
                mode="lines",
                name=f"{name} = {scale:.3g}",
                line={
                    "color": style.INK if place == 0 else "#6b7280",
                    "width": 2 if place == 0 else 1.3,
                    "dash": ("solid", "dash", "dot", "dashdot")[place % 4],
                },
                hovertemplate=f"{name} = {scale:.4g}<extra></extra>",
            )
        )
        if place == 0:
            figure.add_annotation(
                x=np.log10(scale), y=1, yref="paper", yanchor="bottom", text=f"AdaCos {scale:.3g}", showarrow=False
            )


def _color(place: int, split: str, groups: int) -> str:
    if groups == 1:
        return style.BLUE if split == "validation" else style.VERMILION
    return style.category_color(place)


def caption(frame: pd.DataFrame, classes: int | None) -> str:
    """What to see, and which interval is shown."""
    counts = frame.groupby(["group", "split", "scale"])["seed"].nunique()
    seeds = int(counts.min()) if len(counts) else 0
    words = [
        "Recall@1 at the last epoch against the softmax scale s. Small marks are seeds, joined marks their mean",
        "the band is the 95 % t interval of the mean over seeds (other seeds, not other classes)"
        if seeds > 1
        else "one seed each, so no interval can be drawn",
    ]
    text = "; ".join(words) + "."
    if classes is not None:
        text += f" Vertical lines are closed-form scales for C = {classes} training classes."
    return text
