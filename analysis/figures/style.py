"""How every figure looks: fonts, colors that color-blind readers tell apart, axes with names and units."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import sample_colorscale

# Okabe and Ito 2008; yellow is left out, it cannot be read on white.
INK = "#1a1a1a"
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
CATEGORIES = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", INK)
DASHES = ("solid", "dash", "dot", "dashdot")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
GRID = "#e3e6ea"
SEQUENCE = "Viridis"
_BRIGHTEST = 0.88  # Viridis beyond this is a yellow that white paper swallows


def plain(text: object) -> str:
    """`text` for plotly, which reads <b> and the like: shown as it stands."""
    return html.escape(str(text), quote=False)


def metric_name(metric: str) -> str:
    """What a person calls a metric column, with its unit."""
    for prefix, words in (("val_recall_at_", "Validation Recall@"), ("test_recall_at_", "Test Recall@")):
        if metric.startswith(prefix):
            return f"{words}{metric.removeprefix(prefix)} (%)"
    return _METRICS.get(metric, metric.replace("_", " "))


_METRICS = {
    "loss": "Training loss (nats)",
    "train_accuracy": "Accuracy on training classes (%)",
    "train_accuracy_running": "Accuracy while training (%)",
    "scale": "Softmax scale s",
    "lr": "Learning rate",
    "theta_q50": "Median angle to own proxy (degrees)",
    "mean_s_p": "s_p, mean cosine to own proxy",
    "mean_s_n": "s_n, mean cosine to other proxies",
    "pair_mean_s_p": "s_p over pairs of images (cosine)",
    "pair_mean_s_n": "s_n over pairs of images (cosine)",
    "max_other_cosine": "Largest cosine to another class",
    "effective_classes": "Effective number of classes",
    "mean_p_target": "Probability of the own class (fraction)",
    "proxy_cos_var_between": "Variance of proxy cosines",
    "proxy_move_degrees": "Turn of a proxy per epoch (degrees)",
    "embedding_move_degrees": "Turn of an embedding (degrees/epoch)",
}


def is_share(metric: str) -> bool:
    """Whether `metric` is a fraction that figures show in percent."""
    return "recall_at" in metric or "accuracy" in metric


def sequence_colors(values: Sequence[float], log: bool) -> list[str]:
    """A color per value, from dark (small) to light (large)."""
    positions = [math.log(value) if log else value for value in values]
    low, high = min(positions, default=0.0), max(positions, default=0.0)
    shares = [_BRIGHTEST * (position - low) / (high - low) if high > low else 0.0 for position in positions]
    return list(sample_colorscale(SEQUENCE, shares))


def category_color(index: int) -> str:
    """The color of the `index`th of a few named things."""
    return CATEGORIES[index % len(CATEGORIES)]


def category_dash(index: int) -> str:
    """The line style of the `index`th thing: it changes when the colors begin again."""
    return DASHES[(index // len(CATEGORIES)) % len(DASHES)]


def faded(color: str, alpha: float) -> str:
    """`color` ('#rrggbb' or 'rgb(r, g, b)') with an opacity."""
    if color.startswith("#"):
        red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    else:
        red, green, blue = (round(float(part)) for part in color[color.index("(") + 1 : -1].split(",")[:3])
    return f"rgba({red},{green},{blue},{alpha})"


def band(x: Iterable[float], low: Iterable[float], high: Iterable[float], color: str, **kwargs: Any) -> go.Scatter:
    """The area between `low` and `high`, as one closed shape."""
    return go.Scatter(
        x=[*x, *reversed([*x])],
        y=[*high, *reversed(list(low))],
        fill="toself",
        fillcolor=faded(color, 0.15),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        **kwargs,
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Readable tick values on a logarithmic axis from `low` to `high`: 1, 2, 5 times powers of ten, or fewer."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return [step * 10.0**power for power in decades for step in steps if low * 0.8 <= step * 10.0**power <= high * 1.25]


def set_log_axis(axis: str, figure: go.Figure, values: Sequence[float]) -> None:
    """Make `axis` ('x', 'y', 'x2', ...) logarithmic with ticks that are written out."""
    positive = [value for value in values if value > 0]
    layout: dict[str, Any] = {"type": "log"}
    if positive:
        ticks = log_ticks(min(positive), max(positive))
        layout |= {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks], "minor": {"showgrid": False}}
    figure.update_layout({f"{axis[0]}axis{axis[1:]}": layout})


def finish(figure: go.Figure, x: str, y: str, height: int = 420, legend: bool = True) -> go.Figure:
    """`figure` in the common look. x, y: axis names with their units. The page sets the width."""
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": "#8a8f98",
        "ticks": "outside",
        "tickcolor": "#8a8f98",
        "automargin": True,
    }
    figure.update_layout(  # in one call: plotly validates the whole layout at each
        template="none",
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        height=height,
        margin={"l": 62, "r": 14, "t": 44, "b": 52},
        showlegend=legend,
        legend={
            "orientation": "h",
            "yanchor": "top",
            "y": -0.19,
            "x": 0,
            "xanchor": "left",
            "font": {"size": 12},
            "itemsizing": "constant",
        },
        hoverlabel={"font": {"family": FONT, "size": 12}, "namelength": -1},
        hovermode="closest",
        xaxis={**axis, "title": {"text": x, "standoff": 8}},
        yaxis={**axis, "title": {"text": y, "standoff": 6}},
    )
    return figure
