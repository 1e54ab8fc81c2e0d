"""Whom the scheduler (ASHA) stopped where: every proposal's objective up to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style

if TYPE_CHECKING:
    from analysis.load import Study

CURVES = 300  # more trials than this and only the rungs' values are drawn


def points(study: Study) -> pd.DataFrame:
    """One row per decision: number, configuration, epochs_done, value, cutoff (fractions), decision, fate.

    fate: how the trial stands now (complete, pruned, ...).
    """
    named = study.trials[["number", "configuration", "status"]].rename(columns={"status": "fate"})
    frame = study.rungs.merge(named, on="number", how="left")
    return frame[["number", "configuration", "epochs_done", "value", "cutoff", "decision", "fate"]]


def curves(study: Study) -> pd.DataFrame:
    """The objective over epochs of each trial that met a rung: number, epochs_done, value, fate."""
    met = study.rungs["number"].unique()
    epochs = study.epochs[study.epochs["number"].isin(met) & (study.epochs["epochs_done"] > 0)]
    if study.objective not in epochs:
        return pd.DataFrame(columns=["number", "epochs_done", "value", "fate"])
    frame = epochs[["number", "epochs_done", study.objective]].rename(columns={study.objective: "value"})
    named = study.trials[["number", "status"]].rename(columns={"status": "fate"})
    return frame.merge(named, on="number")


def draw(frame: pd.DataFrame, lines: pd.DataFrame) -> go.Figure:
    """Gray lines end where a trial was stopped; blue ones ran on. Crosses: stopped. Bars: the cutoff of that moment."""
    figure = go.Figure()
    if lines["number"].nunique() <= CURVES:
        for fate, color, name in (("pruned", "#9aa3ad", "stopped early"), ("complete", style.BLUE, "ran to the end")):
            part = lines[lines["fate"] == fate]
            x: list[float] = []
            y: list[float] = []
            for _, trial in part.groupby("number", sort=False):
                x += [*trial["epochs_done"], np.nan]
                y += [*(100 * trial["value"]), np.nan]
            if x:
                line = {"color": style.faded(color, 0.55), "width": 1.3}
                figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, name=name, hoverinfo="skip"))
    for decision, color, symbol, name in (
        ("continue", style.BLUE, "circle", "goes on at a rung"),
        ("resume", style.GREEN, "circle", "resumed"),
        ("pause", "#E69F00", "square", "paused"),
        ("stop", style.VERMILION, "x", "stopped at a rung"),
    ):
        part = frame[frame["decision"] == decision]
        if part.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=part["epochs_done"],
                y=100 * part["value"],
                mode="markers",
                name=name,
                marker={"color": color, "symbol": symbol, "size": 7},
                customdata=np.stack([part["number"], part["configuration"].map(style.plain), 100 * part["cutoff"]], -1),
                hovertemplate="trial %{customdata[0]} (%{customdata[1]}): %{y:.1f}%, cutoff %{customdata[2]:.1f}%",
            )
        )
    return style.finish(figure, "Epochs trained", "Validation Recall@1 (%)", height=440)


def caption(study: Study) -> str:
    """What to see, and what was saved."""
    trials = study.trials
    pruned = trials[trials["status"] == "pruned"]
    saved = int((pruned["epochs_planned"] - pruned["epochs_done"]).sum())
    planned = int(trials.loc[trials["phase"] == "search", "epochs_planned"].sum())
    share = f" of {planned:,} planned ({100 * saved / planned:.0f}%)" if planned else ""
    return (
        f"Who was stopped where: {len(pruned)} proposals ended at a rung, which saved {saved:,} epochs{share}. "
        "No interval: one seed a proposal."
    )
