"""What each trial of one or several studies trained, in the words of the thesis's experiments.

`curves` turns studies into one tidy frame; `settings` cuts it into parts within which only the scale schedule differs.
Tables, differences and claims all read these. Proposals of a search are left out: their scores flatter themselves.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, assert_never

import numpy as np
import pandas as pd

from analysis.load import Study
from search_spaces.losses import AdaCos, ArcFace, CosFace, LossConfig, ProxyAnchor, SoftTriple, schedule_of
from search_spaces.schedules import (
    ConstantScale,
    LearnedScale,
    LinearScale,
    QuadraticScale,
    StepsScale,
    SwitchScale,
    scale_at,
)
from search_spaces.trial_config import TrialConfig

NAN = float("nan")
# What a setting does not tell apart: its own columns, the schedule, and what decides no result
_NOT_OF_THE_SETTING = ("loss.scale.", "measure.", "compute.")
_COLUMNS = (
    "study",
    "number",
    "configuration",
    "seed",
    "status",
    "epochs_planned",
    "phase",
    "margin",
    "proxies_per_class",
)
_OWN_COLUMNS = {"loss.kind", "loss.mode", "dataset.kind", "split.train_classes", "model.embedding_dim", "epochs"}


class Condition(NamedTuple):
    """A scale schedule in the thesis's words.

    schedule: constant, linear, switch, quadratic (from the end of the first phase), linear_from_start,
    quadratic_from_start; also steps, learned, adacos_fixed, adacos_dynamic, none.
    start, end: scale at its beginning and end (Proxy Anchor's is alpha); nan where the loss sets it itself or has none.
    """

    schedule: str
    start: float
    end: float

    def __str__(self) -> str:
        if self.schedule == "constant":
            return f"constant {self.start:g}"
        words = self.schedule.replace("_", " ")
        return words if math.isnan(self.start) else f"{words} {self.start:g} to {self.end:g}"


class Setting(NamedTuple):
    """All of a trial but its schedule, seed and length. other: what differs from the dataset's usual, in words."""

    dataset: str
    loss_kind: str
    classes: int
    dim: int
    other: str

    def __str__(self) -> str:
        words = [self.dataset, self.loss_kind, f"C={self.classes}", f"D={self.dim}"]
        return ", ".join([*words, self.other] if self.other else words)


def condition_of(loss: LossConfig, epochs: int) -> tuple[Condition, int | None]:
    """The condition of a trial of `epochs`, and the length in epochs of its first phase (None: it does not say)."""
    if isinstance(loss, ProxyAnchor):
        return Condition("constant", loss.alpha, loss.alpha), None
    match schedule_of(loss):
        case ConstantScale(value=value):
            return Condition("constant", value, value), None
        case SwitchScale() as switch:
            return Condition("switch", switch.before, switch.after), switch.switch_epoch
        case LinearScale() | QuadraticScale() as ramp:
            if ramp.first_epoch == 0:
                return Condition(f"{ramp.kind}_from_start", ramp.start, ramp.end), ramp.epochs
            return Condition(ramp.kind, ramp.start, ramp.end), ramp.first_epoch
        case StepsScale() as steps:
            return Condition("steps", steps.initial, scale_at(steps, epochs - 1)), None
        case LearnedScale(initial=initial):
            return Condition("learned", initial, NAN), None
        case None:
            return Condition(f"adacos_{loss.mode}" if isinstance(loss, AdaCos) else "none", NAN, NAN), None
        case other:
            assert_never(other)


def of_studies(studies: Iterable[Study]) -> pd.DataFrame:
    """One row a trial: study, number, configuration, seed, status, epochs_planned, the fields of Setting and Condition.

    phase: length in epochs of the first phase, the thesis's 50. margin: the loss's, in cosine (cosface, SoftTriple's
    and Proxy Anchor's delta) or radians (arcface), 0 without one. proxies_per_class: 1 unless SoftTriple.
    A study without an additional phase gets half its longest trial as phase, as the thesis compares at 50 and 100.
    """
    rows: list[dict[str, Any]] = []
    rests: list[dict[str, Any]] = []
    for study in studies:
        phases: Counter[int] = Counter()
        first = len(rows)
        known: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}
        chosen = study.trials[study.trials["phase"] != "search"]
        for number, configuration, seed, status in zip(
            chosen["number"], chosen["configuration"], chosen["seed"], chosen["status"], strict=True
        ):
            config = study.trial_configs[number]
            if id(config) not in known:
                known[id(config)] = _described(config)
            row, rest = known[id(config)]
            phases[row["phase"]] += row["phase"] > 0
            rows.append(
                {"study": study.name, "number": number, "configuration": configuration, "seed": seed, "status": status}
                | row
            )
            rests.append(rest)
        longest = max((row["epochs_planned"] for row in rows[first:]), default=0)
        usual = phases.most_common(1)[0][0] if +phases else longest // 2
        for row in rows[first:]:
            row["phase"] = row["phase"] or usual
    for row, other in zip(rows, _differences_in_words(rows, rests), strict=True):
        row["other"] = other
    return pd.DataFrame(rows, columns=[*_COLUMNS, *Setting._fields, *Condition._fields])


def _described(config: TrialConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """A trial's own columns, and the rest of its configuration by dotted path."""
    condition, phase = condition_of(config.loss, config.epochs)
    row = {
        "dataset": config.dataset.kind,
        "loss_kind": config.loss.kind,
        "classes": config.split.train_classes,
        "dim": config.model.embedding_dim,
        "epochs_planned": config.epochs,
        "phase": phase or 0,
        "margin": _margin(config.loss),
        "proxies_per_class": config.loss.proxies_per_class if isinstance(config.loss, SoftTriple) else 1,
        **condition._asdict(),
    }
    own = _OWN_COLUMNS | ({"loss.alpha"} if isinstance(config.loss, ProxyAnchor) else set())
    rest = {
        path: value
        for path, value in _flat(config.model_dump(mode="json", by_alias=True))
        if path not in own and not path.startswith(_NOT_OF_THE_SETTING)
    }
    return row, rest


def _margin(loss: LossConfig) -> float:
    match loss:
        case ArcFace():
            return loss.margin_rad
        case CosFace():
            return loss.margin
        case SoftTriple() | ProxyAnchor():
            return loss.delta
        case _:
            return 0.0


def _flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _differences_in_words(rows: list[dict[str, Any]], rests: list[dict[str, Any]]) -> list[str]:
    """What each trial's rest has that the most common one of its dataset and loss has not."""
    texts = [json.dumps(rest, sort_keys=True) for rest in rests]
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row, text in zip(rows, texts, strict=True):
        counts.setdefault((row["dataset"], row["loss_kind"]), Counter())[text] += 1
    usual = {key: json.loads(count.most_common(1)[0][0]) for key, count in counts.items()}
    words = []
    for row, rest in zip(rows, rests, strict=True):
        common = usual[row["dataset"], row["loss_kind"]]
        paths = sorted(path for path in rest.keys() | common.keys() if rest.get(path) != common.get(path))
        words.append(", ".join(f"{path}={rest.get(path)}" for path in paths))
    return words


def curves(studies: Iterable[Study]) -> pd.DataFrame:
    """One row per trial and epoch: the columns of `of_studies`, then those of Study.epochs.

    Where two trained the same condition, seed and epoch, the study named first counts, and within it the shorter trial:
    so each length that was planned keeps an epoch of its own.
    """
    studies = list(studies)
    runs = of_studies(studies)
    if runs.empty:
        return runs.assign(epochs_done=pd.Series(dtype="int64"))
    # a million rows: compared as numbers, not as text
    runs = runs.astype(
        dict.fromkeys(("configuration", "status", "dataset", "loss_kind", "other", "schedule"), "category")
    )
    epochs = pd.concat([study.epochs.assign(study=study.name) for study in studies], ignore_index=True)
    frame = runs.merge(epochs, on=["study", "number"], validate="one_to_many")
    places = {study.name: place for place, study in enumerate(studies)}
    frame = frame.iloc[np.lexsort((frame["epochs_planned"], frame["study"].map(places)))]
    same = [*Setting._fields, *Condition._fields, "seed", "epochs_done"]
    return frame.drop_duplicates(same).sort_index(ignore_index=True)


def settings(frame: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
    """The parts of `curves` within which only schedule, seed and length differ; those with most trials first."""
    if frame.empty:
        return []
    parts = [
        (Setting(*part[list(Setting._fields)].iloc[0].tolist()), part)
        for _, part in frame.groupby(list(Setting._fields), sort=True)
    ]
    return sorted(parts, key=lambda item: -item[1].groupby(["study", "number"]).ngroups)


def main_settings(frame: pd.DataFrame) -> list[tuple[Setting, pd.DataFrame]]:
    """Per dataset the setting of the thesis: its usual configuration, SoftTriple if there, with most trials."""
    chosen: dict[str, tuple[Setting, pd.DataFrame]] = {}
    usual = [item for item in settings(frame) if not item[0].other and item[1]["start"].notna().any()]
    for setting, part in sorted(usual, key=lambda item: item[0].loss_kind != "soft_triple"):
        chosen.setdefault(setting.dataset, (setting, part))
    return list(chosen.values())


def conditions(part: pd.DataFrame) -> list[Condition]:
    """The conditions of a part of `curves`, in order of schedule, start and end."""
    unique = part[list(Condition._fields)].drop_duplicates().sort_values(list(Condition._fields))
    return [Condition(*row) for row in unique.itertuples(index=False)]


def phase_of(part: pd.DataFrame) -> int:
    """Length in epochs of the first phase of a part of `curves`: its most common one. Raises: ValueError if empty."""
    if part.empty:
        raise ValueError("no trial, so no phase; give a part that holds one")
    return int(part.groupby(["study", "number"])["phase"].first().mode().iloc[0])


def by_seed(part: pd.DataFrame, condition: Condition, metric: str, epochs_done: int, last: int = 1) -> pd.Series:
    """`metric` at epochs_done, by seed; `last` > 1 averages that many epochs up to it. Empty where nothing was run."""
    if metric not in part:
        return pd.Series(dtype=float)
    mask = part["schedule"] == condition.schedule
    for name in ("start", "end"):
        wanted = getattr(condition, name)
        mask &= part[name].isna() if math.isnan(wanted) else part[name] == wanted
    mask &= (part["epochs_done"] <= epochs_done) & (part["epochs_done"] > epochs_done - last)
    rows = part.loc[mask, ["seed", "epochs_done", metric]].dropna()
    reached = rows.loc[rows["epochs_done"] == epochs_done, "seed"]
    return rows[rows["seed"].isin(reached)].groupby("seed")[metric].mean()


def constants(part: pd.DataFrame, metric: str, epochs_done: int, last: int = 1) -> pd.DataFrame:
    """`metric` of the constant scales at epochs_done: index = scale, columns = seed."""
    series = {
        condition.start: by_seed(part, condition, metric, epochs_done, last)
        for condition in conditions(part)
        if condition.schedule == "constant"
    }
    return pd.DataFrame({scale: values for scale, values in series.items() if len(values)}).T.sort_index()


def choice_metric(part: pd.DataFrame) -> str:
    """Where choices are made: validation Recall@1, or the test classes' where no class was held out."""
    held_out = "val_recall_at_1" in part and part["val_recall_at_1"].notna().any()
    return "val_recall_at_1" if held_out else "test_recall_at_1"


def best_constant(part: pd.DataFrame, epochs_done: int) -> float | None:
    """The constant scale with the highest mean Recall@1 over seeds by `choice_metric`; None where none ran so long."""
    frame = constants(part, choice_metric(part), epochs_done)
    return None if frame.empty else float(frame.index.to_numpy(dtype=float)[frame.mean(axis=1).to_numpy().argmax()])
