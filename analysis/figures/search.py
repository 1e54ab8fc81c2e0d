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

IMPORTANCE_TRIALS = 500  # fANOVA grows forests over all trials; more of them only make the page late
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


def optuna_figures(study: Study) -> list[tuple[str, str, str, go.Figure]]:
    """(id, title, caption, figure) of Optuna's slice and importance plots; [] for too few trials.

    Importance is left out where it cannot be computed (all values equal, one parameter).
    """
    import optuna

    rebuilt = optuna_study(study)
    trials = rebuilt.trials
    names = sorted({name for trial in trials for name in trial.params})
    if len(trials) < 3 or not names:
        return []

    def target(trial: optuna.trial.FrozenTrial) -> float:
        return float(trial.value or 0.0)

    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks its plots experimental at each call; that is no news to a reader
        figure = optuna.visualization.plot_slice(rebuilt, target=target, target_name=_TARGET)
        words = "Optuna's slice plot: each completed proposal by one parameter at a time; color: order of the trials."
        found.append(("optuna-slice", "Slices", words, _dress(figure, 420)))
        if len(names) > 1:
            spread = np.ptp([trial.value for trial in trials])
            if spread > 0 and len(trials) <= IMPORTANCE_TRIALS:
                evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
                try:
                    figure = optuna.visualization.plot_param_importances(
                        rebuilt, evaluator=evaluator, target=target, target_name=_TARGET
                    )
                except (RuntimeError, ValueError):  # parameters that no two trials share
                    return found
                words = (
                    "Optuna's importances (fANOVA): the share of the spread of values that each parameter explains, in "
                    "the region that the sampler visited."
                )
                figure.update_traces(marker={"color": style.BLUE})
                found.append(("optuna-importance", "Importance of parameters", words, _dress(figure, 360)))
    return found


def _dress(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        title=None,
        height=height,
        font={"family": style.FONT, "size": 12, "color": style.INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 60, "r": 20, "t": 50, "b": 60},
    )
    figure.update_xaxes(gridcolor=style.GRID, linecolor="#8a8f98", zeroline=False)
    figure.update_yaxes(gridcolor=style.GRID, linecolor="#8a8f98", zeroline=False)
    figure.for_each_annotation(lambda note: note.update(text=short_name(note.text)))
    return figure
