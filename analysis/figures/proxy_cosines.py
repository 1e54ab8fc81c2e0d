"""Figures 5.1, 5.2 and A.3: histograms of the cosines between proxies, at the start and over training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis import runs, theory
from analysis.figures import style

if TYPE_CHECKING:
    from analysis.load import Study

DEFINITIONS = {"all": "all proxies", "between": "proxies of different classes", "class_mean": "class directions"}
PRINTED_SCALES = (6.5, 20.0)
COLUMNS = ["setting", "other", "dim", "condition", "start", "end", "phase"]
COLUMNS += ["epochs_done", "definition", "cosine", "density", "seeds"]


@dataclass(frozen=True)
class Kept:
    """Which of the histograms a figure shows: untrained, within the first phase, or after it."""

    number: str
    title: str
    words: str

    def has(self, epochs_done: pd.Series, phase: pd.Series) -> pd.Series:
        """Which rows belong to this figure."""
        match self.number:
            case "5.1":
                return epochs_done == 0
            case "5.2":
                return (epochs_done > 0) & (epochs_done <= phase)
            case _:
                return epochs_done > phase

    def shows(self, frame: pd.DataFrame) -> pd.Series:
        """Which rows of `frame`, of one setting, are drawn: the scales nearest to the thesis's; its CSV has all."""
        if self.number == "5.1":
            return pd.Series(True, index=frame.index)
        printed = PRINTED_SCALES if self.number == "5.2" else PRINTED_SCALES[1:]
        constant = frame["start"] == frame["end"]
        tried = frame["start"][constant].unique()
        near = {min(tried, key=lambda scale: abs(np.log(scale / wanted))) for wanted in printed} if len(tried) else {}
        return frame["start"].isin(near) & (constant if self.number == "5.2" else True)


FIGURES = (
    Kept("5.1", "proxy cosines at the start", "Black: what random directions in D dimensions give (variance 1/D)."),
    Kept(
        "5.2",
        "proxy cosines in the first phase",
        "Thesis: at s = 20 they stay as initialized, at small s they spread in the first epoch.",
    ),
    Kept(
        "A.3",
        "proxy cosines in the additional phase",
        "The thesis shows s = 20 at D = 64 and 512; beside it, where s has fallen from it.",
    ),
)
GAP = (
    "Not run here: no trial kept histograms of its proxies' cosines. Run python -m study run "
    "search_spaces/thesis/sec5-1-glyphs.yaml (measure.histogram_epochs) and give its study to this report."
)


def points(studies: Iterable[Study]) -> pd.DataFrame:
    """Mean density of the cosines, per setting, condition, epochs_done and definition; one row a bin.

    start, end: of the scale, NaN for the untrained network. cosine: the bin's middle. density: share of pairs per
    unit of cosine, averaged over `seeds` trials. Settings come in the order of the studies.
    Raises: LedgerError for an array file that is gone or damaged.
    """
    from study.ledger.read import load_arrays

    sums: dict[_Key, np.ndarray[Any, Any]] = {}
    seeds_of: dict[_Key, set[int]] = {}
    studies = list(studies)
    described = runs.of_studies(studies).set_index(["study", "number"])
    for study in studies:
        for row in study.arrays.to_dict("records"):
            kept = [name for name in row["file"].names if name.startswith("proxy_cos_hist_")]
            if not kept or (study.name, row["number"]) not in described.index:
                continue
            run = described.loc[[(study.name, row["number"])]].iloc[0]
            setting = runs.Setting(*(run[name] for name in runs.Setting._fields))
            condition = _until(row["epochs_done"], run)
            arrays = load_arrays(study.folder, row["file"])
            for name in kept:
                counts = arrays[name].astype(np.float64)
                density = counts / counts.sum() * len(counts) / 2
                key = _Key(setting, condition, int(run["phase"]), int(row["epochs_done"]), name[15:])
                # Conditions that begin alike share these epochs: each seed counts once.
                if run["seed"] not in seeds_of.setdefault(key, set()):
                    seeds_of[key].add(int(run["seed"]))
                    sums[key] = sums.get(key, 0) + density
    parts = []
    settings = list(dict.fromkeys(key.setting for key in sums))
    for key, total in sorted(sums.items(), key=lambda item: (settings.index(item[0].setting), *item[0].order)):
        seeds = len(seeds_of[key])
        edges = np.linspace(-1, 1, len(total) + 1)
        columns: dict[str, Any] = {
            "setting": str(key.setting),
            "other": key.setting.other,
            "dim": key.setting.dim,
            "condition": str(key.condition or "untrained"),
            "start": key.condition.start if key.condition else np.nan,
            "end": key.condition.end if key.condition else np.nan,
            "phase": key.phase,
            "epochs_done": key.epochs_done,
            "definition": key.definition,
            "cosine": (edges[:-1] + edges[1:]) / 2,
            "density": total / seeds,
            "seeds": seeds,
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


class _Key(NamedTuple):
    setting: runs.Setting
    condition: runs.Condition | None
    phase: int
    epochs_done: int
    definition: str

    @property
    def order(self) -> tuple[Any, ...]:
        """What keys of one setting are sorted by."""
        return (str(self.condition), *self[2:])


def _until(epochs_done: int, run: Any) -> runs.Condition | None:
    """What `run` (a row of runs.of_studies) had trained after epochs_done: its schedule may not have changed s yet."""
    if epochs_done == 0:
        return None
    late = run["schedule"] in ("linear", "quadratic", "switch")
    if late and epochs_done <= run["phase"]:
        return runs.Condition("constant", run["start"], run["start"])
    return runs.Condition(run["schedule"], run["start"], run["end"])


def draw(frame: pd.DataFrame, dim: int) -> go.Figure:
    """A line per condition and epoch, of one definition and one D; random directions in black."""
    figure = go.Figure()
    conditions = list(dict.fromkeys(frame["condition"]))
    epochs = sorted(frame["epochs_done"].unique())
    for place, condition in enumerate(conditions):
        for dash, epochs_done in enumerate(epochs):
            part = frame[(frame["condition"] == condition) & (frame["epochs_done"] == epochs_done)]
            if part.empty:
                continue
            some = part[part["density"] > 0]
            figure.add_trace(
                go.Scatter(
                    # Bins are even and most are empty: the page holds none of that.
                    x0=some["cosine"].iloc[0],
                    dx=part["cosine"].diff().iloc[1],
                    y=part.loc[some.index[0] : some.index[-1], "density"].to_numpy(dtype=np.float32),
                    mode="lines",
                    name=f"{style.plain(condition)}, epoch {epochs_done}",
                    line={"color": style.category_color(place), "width": 1.8, "dash": style.DASHES[dash % 4]},
                    hovertemplate="cosine %{x:.2f}: density %{y:.2f}",
                )
            )
    random = random_density(frame["cosine"].drop_duplicates().sort_values().to_numpy(), dim)
    figure.add_trace(
        go.Scatter(
            x=random[0],
            y=random[1],
            mode="lines",
            name=f"random directions, variance 1/{dim} = {float(theory.random_cosine_variance(float(dim))):.4f}",
            line={"color": style.INK, "width": 1},
            hoverinfo="skip",
        )
    )
    return style.finish(figure, "Cosine between two proxies", "Density (per unit of cosine)", height=400)


def random_density(cosine: np.ndarray[Any, Any], dim: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Density of the cosine of two random directions: proportional to (1 - c²)^((D-3)/2), for D >= 2."""
    inside = cosine[np.abs(cosine) < 1]
    shape = (1 - inside**2) ** ((dim - 3) / 2)
    width = float(np.mean(np.diff(inside)))
    return inside.round(4), (shape / (shape.sum() * width)).round(4)


def caption(kept: Kept, frame: pd.DataFrame, definition: str) -> str:
    """What to see, over which pairs."""
    seeds = frame["seeds"].max()
    return (
        f"Figure {kept.number}, ours ({frame['setting'].iloc[0]}): cosines over pairs of {DEFINITIONS[definition]}, "
        f"mean of {seeds} {'trial' if seeds == 1 else 'trials'}. The thesis does not say which pairs it counts; the "
        f"CSV has all, and all scales. {kept.words} No interval."
    )
