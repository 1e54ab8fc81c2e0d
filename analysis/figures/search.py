"""What a search tried: Optuna's own plots, from an Optuna study rebuilt in memory out of the ledger."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures import style
from search_spaces.ranges import FloatRange, IntRange
from search_spaces.study_config import short_name

if TYPE_CHECKING:
    import optuna

    from analysis.load import Study

FEWEST_IMPORTANCE = 12  # completed proposals; importances of fewer are the forest's whim
MOST_IMPORTANCE = 500  # fANOVA grows forests over all trials; more of them only make the page late
_TARGET = "Validation Recall@1 (%)"


def points(study: Study) -> pd.DataFrame:
    """One row per proposal: number, status, value (a fraction), best so far, and the sampler's parameters."""
    search = study.trials[study.trials["phase"] == "search"]
    params = pd.DataFrame([study.record.trials[number].trial.params for number in search["number"]], index=search.index)
    frame = pd.concat([search[["number", "configuration", "status", "value"]], params], axis=1)
    complete = frame["value"].where(frame["status"] == "complete")
    return frame.assign(best=complete.cummax().ffill()).reset_index(drop=True)


def draw(frame: pd.DataFrame) -> go.Figure:
    """Values in the order of the proposals, and the best of the completed ones so far."""
    figure = go.Figure()
    for status, color, symbol in (("complete", style.BLUE, "circle"), ("pruned", "#9aa3ad", "x")):
        part = frame[(frame["status"] == status) & frame["value"].notna()]
        if part.empty:
            continue
        figure.add_trace(
            go.Scatter(
                x=part["number"],
                y=100 * part["value"],
                mode="markers",
                name="complete" if status == "complete" else "stopped early (value where it stopped)",
                marker={"color": color, "symbol": symbol, "size": 7},
                customdata=part["configuration"].map(style.plain),
                hovertemplate="trial %{x}: %{y:.1f}%<br>%{customdata}",
            )
        )
    figure.add_trace(
        go.Scatter(
            x=frame["number"],
            y=100 * frame["best"],
            mode="lines",
            line={"color": style.VERMILION, "width": 2, "shape": "hv"},
            name="best complete so far",
            hoverinfo="skip",
        )
    )
    return style.finish(figure, "Trial, in the order proposed", _TARGET, height=420)


CAPTION = (
    "Every proposal's validation Recall@1, one seed each, so no interval. The best of many noisy values flatters "
    "itself: the confirmed means, not this line, are the result."
)


def optuna_study(study: Study) -> optuna.Study:
    """Optuna's study of the completed proposals, in memory. Values are in percent, as its plots show them."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rebuilt = optuna.create_study(direction="maximize")
    frame = study.trials[(study.trials["phase"] == "search") & (study.trials["status"] == "complete")]
    frame = frame[frame["value"].notna()]
    params = {number: study.record.trials[number].trial.params for number in frame["number"]}
    observed: dict[str, list[Any]] = {}
    for values in params.values():
        for name, value in values.items():
            observed.setdefault(name, []).append(value)
    distributions = {name: _distribution(study, name, values) for name, values in observed.items()}
    for number, value in zip(frame["number"], frame["value"], strict=True):
        mine = params[number]
        rebuilt.add_trial(
            optuna.trial.create_trial(
                params=mine, distributions={name: distributions[name] for name in mine}, value=100 * float(value)
            )
        )
    return rebuilt


def _distribution(study: Study, name: str, values: list[Any]) -> Any:
    """The range of parameter `name`: the study file's where it stands there, else what was observed."""
    import optuna

    span = study.config.vary.get(name)
    match span:
        case FloatRange():
            return optuna.distributions.FloatDistribution(span.low, span.high, log=span.log, step=span.step)
        case IntRange():
            return optuna.distributions.IntDistribution(span.low, span.high, log=span.log, step=span.step)
        case _:
            pass
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        distinct = {float(value) for value in values}
        if len(distinct) > 6:
            return optuna.distributions.FloatDistribution(min(distinct), max(distinct))
    return optuna.distributions.CategoricalDistribution(list(dict.fromkeys(values)))


def slices(rebuilt: optuna.Study) -> list[tuple[str, go.Figure]]:
    """(parameter, Optuna's slice plot of it) for each parameter; [] for fewer than three completed proposals."""
    import optuna

    if len(rebuilt.trials) < 3:
        return []
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks its plots experimental at each call; that is no news to a reader
        for name in sorted({name for trial in rebuilt.trials for name in trial.params}):
            figure = optuna.visualization.plot_slice(rebuilt, [name], target=_value, target_name=_TARGET)
            figure.update_traces(marker={"showscale": False, "size": 8}, hovertemplate="%{x}: %{y:.1f}%<extra></extra>")
            figure.update_xaxes(title_text=style.plain(short_name(name)), nticks=6, tickangle=0)
            found.append((name, _dress(figure, 300)))
    return found


SLICES_CAPTION = (
    "Optuna's slice plots: each completed proposal by one parameter at a time; the darker, the later it was proposed."
)


def importance(rebuilt: optuna.Study) -> go.Figure | None:
    """Optuna's importance plot; None where it cannot be computed (one parameter, equal values) or would say nothing."""
    import optuna

    trials = rebuilt.trials
    names = {name for trial in trials for name in trial.params}
    if not (FEWEST_IMPORTANCE <= len(trials) <= MOST_IMPORTANCE and len(names) > 1):
        return None
    if np.ptp([_value(trial) for trial in trials]) == 0:
        return None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            figure = optuna.visualization.plot_param_importances(
                rebuilt, evaluator=evaluator, target=_value, target_name=_TARGET
            )
        except (RuntimeError, ValueError):  # parameters that no two trials share
            return None
    figure.update_traces(marker={"color": style.BLUE})
    figure.update_yaxes(title_text="", tickvals=figure.data[0].y, ticktext=[short_name(y) for y in figure.data[0].y])
    figure.update_xaxes(title_text="Share of the spread of values")
    return _dress(figure, 130 + 40 * len(names))


IMPORTANCE_CAPTION = (
    "Optuna's importances (fANOVA): the share of the spread of values that each parameter explains, in the region that "
    "the sampler visited."
)


def _value(trial: optuna.trial.FrozenTrial) -> float:
    return float(trial.value or 0.0)


def _dress(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        title=None,
        width=None,  # the page's
        height=height,
        font={"family": style.FONT, "size": 12, "color": style.INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 60, "r": 20, "t": 30, "b": 60},
    )
    figure.update_xaxes(gridcolor=style.GRID, linecolor="#8a8f98", zeroline=False)
    figure.update_yaxes(gridcolor=style.GRID, linecolor="#8a8f98", zeroline=False)
    return figure
