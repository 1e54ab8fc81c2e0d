"""Recall@1 against the softmax scale s, with AdaCos's scale and the other closed forms as lines."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import theory
from analysis.figures import against, style
from analysis.summary import judged
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
    trials = judged(study.trials)
    last_scale = study.last_epochs.get("scale", pd.Series(dtype=float))
    rows: list[dict[str, Any]] = []
    for trial in trials[trials["status"] == "complete"].to_dict("records"):
        own = trial["loss_kind"] == "adacos"
        if own:
            scale, group = last_scale.get(trial["number"], trial["scale_last"]), str(trial["configuration"])
        elif trial["schedule_kind"] == "constant":
            scale = trial["scale_first"]
            group = _group(trial, study.record.trials[trial["number"]].trial.values)
        else:
            continue
        rows += against.split_rows(trial, {"scale": scale, "group": group, "own_scale": own})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame[frame["scale"].notna()].reset_index(drop=True)


def _group(trial: dict[Hashable, Any], values: dict[str, Any]) -> str:
    """What a trial has besides its scale, in words: of a plan its configuration's name without the scale."""
    if trial["phase"] == "plan" and _SCALE_PATHS[0] in values:
        words = str(trial["configuration"]).split(", ")
        scale = label_of(_SCALE_PATHS[0], trial[_SCALE_PATHS[0]])
        if scale in words:
            words.remove(scale)
            return ", ".join(words)
    return ", ".join(
        label_of(path, trial[path])
        for path in values
        if path not in _SCALE_PATHS and not path.startswith("loss.scale.")
    )


def applies(frame: pd.DataFrame) -> bool:
    """Whether `frame` holds a curve: two scales or more in one group."""
    return against.applies(frame[~frame["own_scale"].astype(bool)].rename(columns={"scale": "x"}))


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with mean and interval over seeds beside each row: what the figure's CSV holds."""
    return against.table(frame.rename(columns={"scale": "x"})).rename(columns={"x": "scale"})


def theory_scales(classes: int) -> list[tuple[str, float]]:
    """Closed-form scales for C > 2 training classes, each with its name; theory.py says where they come from."""
    return [
        ("AdaCos fixed, √2 ln(C−1)", float(theory.adacos_fixed(classes))),
        ("AdaCos at perfect fit, ln(C−1)", float(theory.adacos_end(classes))),
        ("CosFace bound, P = .99", float(theory.cosface_scale(classes, 0.99))),
        ("L2-softmax bound, P = .99", float(theory.l2_softmax_scale(classes, 0.99))),
    ]


def draw(frame: pd.DataFrame, classes: int | None) -> go.Figure:
    """The curve. classes: C, for the closed-form lines (None: the trials differ in C, so there is no one line)."""
    figure = go.Figure()
    apart = frame["own_scale"].astype(bool)
    against.add_curves(figure, frame[~apart].rename(columns={"scale": "x"}), "s", log=True)
    own = frame[apart]
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
                    hovertemplate="s %{x:.3g}, %{y:.1f}%, seed %{customdata[0]}",
                )
            )
    style.finish(figure, "Softmax scale s (log axis)", "Recall@1 (%)", height=460)
    lines = theory_scales(classes) if classes is not None and classes > 2 else []
    _add_lines(figure, lines, frame)
    style.set_log_axis("x", figure, [*frame["scale"], *(scale for _, scale in lines)])
    return figure


def _add_lines(figure: go.Figure, lines: list[tuple[str, float]], frame: pd.DataFrame) -> None:
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


def caption(frame: pd.DataFrame, classes: int | None) -> str:
    """What to see, and which interval is shown."""
    text = f"Recall@1 at the last epoch against the softmax scale s. {against.seeds_words(frame, 'scale')}"
    if frame["own_scale"].astype(bool).any():
        text += " Stars: AdaCos as its own loss, each seed at the scale it used last."
    if classes is not None:
        text += f" Vertical lines are closed-form scales for C = {classes} training classes."
    return text
