"""Figures 4.5, 4.6, 4.7, 5.3 and 5.4: schedules of the scale over training, ours beside what the thesis printed.

Runs are recognized by what they trained (runs.Condition), not by their names. A thesis epoch is a share of its first
phase of 50; ours may be shorter, so figures count in epochs and mark the ends of the phases.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from analysis import runs, thesis_data
from analysis.figures import learning_curves, style
from analysis.runs import Condition, Setting

NAMES = {"cub200": "CUB", "cars196": "Cars"}
LOSS, ACCURACY, RECALL = "loss", "train_accuracy", "test_recall_at_1"


@dataclass(frozen=True)
class ThesisFigure:
    """A figure of the thesis. shapes: the schedules side by side; phases: how many it shows; file: its study."""

    number: str
    title: str
    shapes: tuple[str, ...]
    phases: int
    metrics: tuple[str, ...]
    printed: tuple[str, ...]
    file: str
    words: str


FIGURES = (
    ThesisFigure(
        *("4.5", "constant scales over training", ("constant",), 2, (RECALL,), ("4.1",), "exp1"),
        words="Thesis: at small s Recall@1 rises, then falls during training; 15 to 30 end highest.",
    ),
    ThesisFigure(
        *(
            "4.6",
            "linear decay in a second phase",
            ("constant", "linear"),
            2,
            (LOSS, ACCURACY, RECALL),
            ("4.3",),
            "exp2",
        ),
        words="Thesis: Recall@1 gains 1 to 2 points in the second phase while accuracy falls and the loss grows "
        "(mostly because a smaller s makes the same angles cost more).",
    ),
    ThesisFigure(
        *(
            "4.7",
            "linear decay against switch",
            ("linear", "switch"),
            3,
            (LOSS, ACCURACY, RECALL),
            ("4.4", "4.5"),
            "exp3",
        ),
        words="Thesis: the switch gains faster; its text and tables disagree on who is ahead after three phases.",
    ),
    ThesisFigure(
        *("5.3", "decay from the start against an additional phase", ("linear", "linear_from_start"), 2),
        *((LOSS, ACCURACY, RECALL), ("5.2",), "sec5-2"),
        words="Thesis: decaying from the start is less stable; its table has it higher on CUB and lower on Cars.",
    ),
    ThesisFigure(
        *("5.4", "quadratic against linear decay", ("linear", "quadratic"), 3, (LOSS, ACCURACY, RECALL), (), "sec5-3"),
        words="Thesis: it prints no table, only the loss maxima below.",
    ),
)


def fitting(figure: ThesisFigure, frame: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame, list[Condition]]]:
    """The settings of `frame` (runs.curves) that hold all of the figure's shapes, with the conditions it shows."""
    found = []
    for setting, part in runs.settings(frame):
        conditions = shown(figure, runs.conditions(part))
        if conditions:
            found.append((setting, part, conditions))
    return found


def shown(figure: ThesisFigure, conditions: Iterable[Condition]) -> list[Condition]:
    """The conditions that `figure` sets side by side; [] if one of its shapes is missing."""
    mine = [condition for condition in conditions if condition.schedule in figure.shapes]
    if figure.shapes == ("constant",):
        return mine if len(mine) > 1 else []
    if "constant" in figure.shapes:
        falling = [
            condition for condition in mine if condition.schedule != "constant" and condition.end < condition.start
        ]
        starts = {condition.start for condition in falling}
        trunks = [condition for condition in mine if condition.schedule == "constant" and condition.start in starts]
        return [*trunks, *falling] if trunks and falling else []
    pairs = [{(c.start, c.end) for c in mine if c.schedule == shape} for shape in figure.shapes]
    common = set.intersection(*pairs)
    return [condition for condition in mine if (condition.start, condition.end) in common]


def points(figure: ThesisFigure, part: pd.DataFrame, conditions: list[Condition], metric: str) -> pd.DataFrame:
    """One row per run and epoch of `conditions`, as learning_curves.points has them; value is a fraction or nats."""
    columns = ["configuration", "scale", "seed", "epochs_done", "value", "number"]
    if metric not in part:
        return pd.DataFrame(columns=columns)
    last = figure.phases * runs.phase_of(part)
    pieces = []
    for condition in conditions:
        rows = part[(part["schedule"] == condition.schedule) & (part["start"] == condition.start)]
        rows = rows[(rows["end"] == condition.end) & (rows["epochs_done"] > 0) & (rows["epochs_done"] <= last)]
        piece = rows[["seed", "epochs_done"]].assign(
            configuration=str(condition),
            scale=condition.start if condition.schedule == "constant" else float("nan"),
            value=rows[metric],
            number=rows["study"] + " " + rows["number"].astype(str),
        )
        pieces.append(piece.dropna(subset=["value"]))
    return pd.concat(pieces, ignore_index=True)[columns] if pieces else pd.DataFrame(columns=columns)


def draw(frame: pd.DataFrame, metric: str, phase: int) -> go.Figure:
    """Mean and seeds over epochs; dotted lines where a phase ends."""
    drawn = learning_curves.draw(frame, metric)
    last = int(frame["epochs_done"].max()) if len(frame) else 0
    for end in range(phase, last, phase):
        drawn.add_vline(x=end, line={"color": "#6b7280", "width": 1, "dash": "dot"})
    return drawn


def printed_points(figure: ThesisFigure, metric: str) -> pd.DataFrame:
    """What the thesis printed of `metric`: dataset, condition, epochs_done, value (a fraction)."""
    if not figure.printed:
        return pd.DataFrame(columns=["dataset", "condition", "epochs_done", "value"])
    table = thesis_data.scale_tables(*figure.printed)
    rows = table[table["metric"] == metric].copy()
    rows["condition"] = [
        str(Condition(str(schedule), float(start), float(end)))
        for schedule, start, end in zip(rows["schedule"], rows["start"], rows["end"], strict=True)
    ]
    return rows[["dataset", "condition", "epochs_done", "value"]].reset_index(drop=True)


def draw_printed(frame: pd.DataFrame, metric: str) -> go.Figure:
    """A line per data set and condition through the epochs that were printed."""
    figure = go.Figure()
    conditions = list(dict.fromkeys(frame["condition"]))
    for dataset, dash, symbol in (("cub200", "solid", "square"), ("cars196", "dash", "triangle-up")):
        for place, condition in enumerate(conditions):
            part = frame[(frame["dataset"] == dataset) & (frame["condition"] == condition)]
            if part.empty:
                continue
            figure.add_trace(
                go.Scatter(
                    x=part["epochs_done"],
                    y=100 * part["value"],
                    mode="lines+markers",
                    name=f"{NAMES[dataset]}, {condition}",
                    line={"color": style.category_color(place), "width": 2, "dash": dash},
                    marker={"size": 8, "symbol": symbol},
                    hovertemplate="epoch %{x}: %{y:.2f}% (printed)",
                )
            )
    return style.finish(figure, "Epochs trained", style.metric_name(metric), height=400)


def loss_maxima() -> str:
    """The loss maxima of figure 5.4 that the text prints, in words."""
    text = thesis_data.load("text")
    rows = text[text["quantity"] == "loss_maximum"]
    told = [
        f"{schedule} {value:g} nats at epoch {epoch:g}"
        for schedule, value, epoch in zip(rows["schedule"], rows["value"], rows["epochs_done"], strict=True)
    ]
    return f"Printed loss maxima on CUB: {', '.join(told)}."


def gap(figure: ThesisFigure) -> str:
    """What to run where there is nothing to draw."""
    shapes = " and ".join(shape.replace("_", " ") for shape in figure.shapes)
    return (
        f"Not run here: no setting in these studies holds {shapes} schedules of one start and end. Run "
        f"python -m study run search_spaces/thesis/{figure.file}-glyphs.yaml and give its study to this report."
    )


def caption(figure: ThesisFigure, setting: Setting, part: pd.DataFrame, phase: int) -> str:
    """What to see, where it was measured."""
    seeds = part["seed"].nunique()
    return (
        f"Figure {figure.number}, ours ({setting}; {seeds} {'seed' if seeds == 1 else 'seeds'}): thick lines are means "
        f"over seeds, thin ones seeds, no interval; dotted lines end phases of {phase} epochs (50 in the thesis). "
        f"{figure.words}"
    )
