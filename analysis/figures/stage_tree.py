"""Which trials branched where: epochs that each trained itself against epochs that others had trained for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style
from analysis.summary import short_name

if TYPE_CHECKING:
    from analysis.load import Study
    from study.ledger.read import TrialRecord

SHOWN = 60  # trials; more rows cannot be read
COLUMNS = [
    *("number", "configuration", "seed", "status", "trunk", "parent", "parent_study", "branch", "inherited", "trained"),
    "asked",
]
_LOST = {"pruned": "stopped early", "diverged": "diverged", "failed": "failed"}


def points(study: Study) -> pd.DataFrame:
    """One row a trial, trees together: each trial stands below the one that it branched from.

    trunk: number of the trial at its tree's root. parent: the trial that trained the last stage it started from (-1:
    none), in parent_study ('' for this one), after `branch` epochs. inherited, trained, asked: epochs; a trial that was
    stopped has asked for more than it has.
    """
    trials = study.trials.set_index("number")
    parents: dict[int, tuple[int, str, int]] = {
        number: _parent(study.record.trials[number]) for number in trials.index.tolist()
    }
    children: dict[int, list[int]] = {}
    roots = []
    for number, (parent, foreign, _) in parents.items():
        if parent >= 0 and not foreign and parent in parents:
            children.setdefault(parent, []).append(number)
        else:
            roots.append(number)
    rows: list[dict[str, Any]] = []
    for root in roots:
        waiting = [root]
        while waiting:
            number = waiting.pop()
            waiting += sorted(children.get(number, []), key=lambda child: (parents[child][2], child), reverse=True)
            parent, foreign, branch = parents[number]
            trial = trials.loc[number]
            rows.append(
                {
                    "number": number,
                    **trial[["configuration", "seed", "status"]],
                    "trunk": root,
                    "parent": parent,
                    "parent_study": foreign,
                    "branch": branch,
                    "inherited": trial["epochs_inherited"],
                    "trained": trial["epochs_done"] - trial["epochs_inherited"],
                    "asked": trial["epochs_planned"],
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _parent(trial: TrialRecord) -> tuple[int, str, int]:
    """(trial, its study or '', epochs) that `trial` branched from: by its first start from another; -1 for none."""
    for start in trial.starts:
        if start.from_trial is not None and (start.from_study or start.from_trial != trial.number):
            return start.from_trial, start.from_study, start.from_epochs
    return -1, "", 0


def shown(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that can be read: all, or those of the first seed, and of those the first."""
    if len(frame) > SHOWN:
        frame = frame[frame["seed"] == frame["seed"].iloc[0]]
    return frame.head(SHOWN).reset_index(drop=True)


def draw(frame: pd.DataFrame) -> go.Figure:
    """A row a trial, first on top: light where inherited, solid where trained, an outline where asked but not run."""
    frame = shown(frame)
    tree = frame.groupby("trunk")["number"].transform("size")
    gaps = (frame["trunk"] != frame["trunk"].shift()) & ((tree > 1) | (tree.shift() > 1))
    gaps.iloc[:1] = False
    rows = -(np.arange(len(frame)) + 0.7 * gaps.cumsum().to_numpy())
    figure = go.Figure()
    places = dict(zip(frame["number"], rows, strict=True))
    x: list[float | None] = []
    y: list[float | None] = []
    for number, parent, foreign, branch in frame[["number", "parent", "parent_study", "branch"]].itertuples(
        index=False
    ):
        if not foreign and parent in places:
            x += [branch, branch, None]
            y += [places[parent], places[number], None]
    told = [
        f"trial {row['number']}, {style.plain(row['configuration'])}, seed {row['seed']} ({row['status']})<br>"
        f"{_begun(row['parent'], row['parent_study'], row['branch'])}<br>"
        f"{row['trained']} epochs trained, {row['inherited']} inherited, {row['asked']} asked"
        for row in frame.to_dict("records")
    ]
    done = frame["inherited"] + frame["trained"]
    for name, base, length, marker in (
        ("inherited", 0 * done, frame["inherited"], {"color": style.faded(style.BLUE, 0.25)}),
        ("trained", frame["inherited"], frame["trained"], {"color": style.BLUE}),
        ("asked, not run", done, frame["asked"] - done, {"color": "white", "line": {"color": "#9aa3ad", "width": 1}}),
    ):
        if (length > 0).any():
            figure.add_trace(
                go.Bar(
                    y=rows[length > 0],
                    x=length[length > 0],
                    base=base[length > 0],
                    orientation="h",
                    width=0.62,
                    name=name,
                    marker=marker,
                    hovertext=[text for text, some in zip(told, length > 0, strict=True) if some],
                    hovertemplate="%{hovertext}<extra></extra>",
                )
            )
    if x:
        line = {"color": style.INK, "width": 1.2}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, name="branches here", hoverinfo="skip"))
    for status, name in _LOST.items():
        lost = (frame["status"] == status).to_numpy()
        if lost.any():
            cross = {"symbol": "x", "size": 8, "color": style.VERMILION if status != "pruned" else "#5b6470"}
            figure.add_trace(
                go.Scatter(x=done[lost], y=rows[lost], mode="markers", name=name, marker=cross, hoverinfo="skip")
            )
    style.finish(figure, "Epochs", "", height=int(130 + 19 * (1 - (rows.min() if len(rows) else 0))))
    several = frame["seed"].nunique() > 1
    labels = [
        _label(name, f", seed {seed}" if several else "")
        for name, seed in zip(frame["configuration"], frame["seed"], strict=True)
    ]
    figure.update_layout(barmode="overlay", margin={"t": 24})
    figure.update_yaxes(
        tickvals=rows.tolist(), ticktext=labels, tickfont={"size": 11}, showgrid=False, range=[rows.min() - 0.8, 0.8]
    )
    figure.update_xaxes(rangemode="tozero")
    return figure


def _begun(parent: int, foreign: str, branch: int) -> str:
    if parent < 0:
        return "trained from the beginning"
    return f"branched from trial {parent}{f' of {style.plain(foreign)}' if foreign else ''} after {branch} epochs"


def _label(configuration: str, seed: str) -> str:
    name, room = short_name(configuration), 34 - len(seed)
    return style.plain(f"{name if len(name) <= room else f'{name[: room - 1]}…'}{seed}")


def caption(frame: pd.DataFrame) -> str:
    """What to see, and what is left out."""
    part = shown(frame)
    text = (
        "A row a trial: light epochs were trained by another trial that begins alike, solid ones by itself. Trials of "
        "one tree stand together, each below the one that it branched from; the thin lines mark where."
    )
    if abroad := list(dict.fromkeys(part.loc[part["parent_study"] != "", "parent_study"])):
        text += f" Some branch from trials of an earlier study ({', '.join(abroad)}), which has no row here."
    if len(part) < len(frame):
        first = frame["seed"].iloc[0]
        own = int((frame["seed"] == first).sum())
        seeds = f"of seed {first} only" if own < len(frame) else ""
        few = f"the first {len(part)} of {own}" if len(part) < own else f"the {own}"
        text += f" Shown are {few} trials{f' {seeds}' if seeds else ''}; the CSV has all {len(frame)}."
    return text
