"""The answer of a study in words, for the terminal and the top of the page: what stands fast and what does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from analysis import theory
from analysis.intervals import not_worse_than_best
from analysis.summary import configurations, judged, seeds_table, short_name

if TYPE_CHECKING:
    from analysis.load import Study

FEW_SEEDS = 5
SPOKEN = 6  # configurations named in a sentence; the table marks them all


class Answer(NamedTuple):
    """sentences: the answer. warnings: what weakens it. best: configurations not worse than the best, best first.

    table: summary.configurations, which the answer rests on.
    """

    sentences: list[str]
    warnings: list[str]
    best: list[str]
    table: pd.DataFrame


def answer(study: Study) -> Answer:
    """What the study's complete trials say by themselves; nothing is said that they do not carry."""
    every = configurations(study)
    table = every[every["n"] > 0].set_index("configuration", drop=False)
    sentences: list[str] = []
    best: list[str] = []
    if study.config.search is not None:
        sentences += _search_sentences(study)
    if table.empty:
        if study.config.search is None or study.config.confirm is not None:
            what = "configuration has been confirmed" if study.config.search is not None else "trial is complete"
            sentences.append(f"No {what} yet, so there is no answer yet.")
        return Answer(sentences, _warnings(study), best, every)
    where = measured_on(study)
    seeds, _ = seeds_table(study)
    top = table.iloc[0]
    if seeds.shape[0] == 1:
        best = [str(seeds.index[0])]
        sentences.append(f"One configuration is complete, {top['configuration']}: {_value(top)} on {where}.")
    elif seeds.notna().sum(axis=1).max() < 2:
        sentences.append(
            f"Highest on {where}: {top['configuration']} with {_percent(top['mean'])}. One seed each cannot tell "
            "configurations apart, so this is no ranking."
        )
    else:
        kept = set(not_worse_than_best(seeds))
        best = [name for name in table["configuration"] if name in kept]
        leader = table.loc[best[0]]
        test = f"({_seed_count(seeds)} seeds, {len(seeds)} configurations, simultaneous paired 95% comparison)"
        if len(best) == 1:
            sentences.append(
                f"Better than every other on {where} {test}: {_introduced(best[0])} with {_value(leader)}."
            )
        else:
            spoken = [_introduced(name, _percent(table.loc[name, "mean"])) for name in best[:SPOKEN]]
            spoken += [f"{len(best) - SPOKEN} more"] if len(best) > SPOKEN else []
            sentences.append(
                f"Not worse than the best on {where} {test}: {_listed(spoken)}. Highest mean: {short_name(best[0])}, "
                f"{_value(leader)}."
            )
    sentences += _adacos_sentences(study, table, best)
    sentences += _gamma_sentences(study)
    sentences += _test_sentences(study, table.loc[table.index.isin(seeds.index)], best)
    return Answer(sentences, _warnings(study), best, every)


def measured_on(study: Study) -> str:
    """The classes that the choice is made on, in words."""
    return "validation classes" if study.objective == "val_recall_at_1" else "test classes"


def chosen_on(study: Study) -> str:
    """'chosen on validation' or 'chosen on test', the mark that stands on report and MLflow run."""
    return "chosen on validation" if study.objective == "val_recall_at_1" else "chosen on test"


def _adacos_sentences(study: Study, table: pd.DataFrame, best: list[str]) -> list[str]:
    """Where AdaCos's closed-form scale stands among the constant scales, if several were tried."""
    scales = table[table["scale"].notna()]
    if study.config.search is not None:
        return _winners_and_adacos(scales)
    classes = table["train_classes"].unique()
    if scales["scale"].nunique() < 2:
        return []
    if len(classes) > 1:
        return ["AdaCos's scale differs between the numbers of training classes tried; see the figure."]
    overall, those_scales = best, "Of the constant scales"
    groups = _alike_but_for_scale(study, scales)
    if len(groups) > 1:
        if len(groups[0]) == len(groups[1]):
            return ["Constant scales were tried in several settings; the figures show each."]
        scales = groups[0]
        if scales["scale"].nunique() < 2:
            return []
        those_scales = f"Of the {len(scales)} constant scales that differ in nothing else"
        seeds, _ = seeds_table(study)
        own = seeds.loc[seeds.index.isin(scales["configuration"])]
        best = [*map(str, not_worse_than_best(own))] if best and len(own) > 1 else best
    fixed = float(theory.adacos_fixed(float(classes[0])))
    words = f"AdaCos's closed-form scale √2 ln(C−1) = {fixed:.2f} (C = {classes[0]})"
    good = sorted(scales.loc[scales["configuration"].isin(best), "scale"].unique())
    sentences = []
    if not best:
        sentences.append(f"{words}; whether it is as good as the best cannot be said from one seed.")
    elif not good:
        sentences.append(f"{words}; no constant scale is among the best.")
    else:
        low, high = min(good), max(good)
        if fixed < 0.98 * low:
            place = f"lies below ({_tested_near(scales, fixed)})"
        elif fixed > 1.02 * high:
            place = f"lies above ({_tested_near(scales, fixed)})"
        elif any(abs(scale / fixed - 1) <= 0.02 for scale in good):
            place = "is one of them" if low < high else "is that scale"
        else:
            place = f"lies between them ({_tested_near(scales, fixed)})"
        those = f"those not worse than the best are {_scales(good, scales)}"
        those = those if low < high else f"the only one not worse than the best is {low:g}"
        sentences.append(f"{those_scales}, {those}; {words} {place}.")
    losses = table[table["own_scale"].notna() | (table["configuration"].str.contains("adacos", case=False))]
    for row in losses.to_dict("records"):
        verdict = "is not worse than the best" if row["configuration"] in overall else "is worse than the best"
        if overall:
            sentences.append(f"AdaCos as its own loss ({row['configuration']}, {_percent(row['mean'])}) {verdict}.")
    return sentences


def _alike_but_for_scale(study: Study, scales: pd.DataFrame) -> list[pd.DataFrame]:
    """`scales` in parts whose trials differ in their scale alone, the largest first."""
    numbers = study.trials.drop_duplicates("configuration").set_index("configuration")["number"]
    rest = []
    for name in scales["configuration"]:
        raw = study.trial_configs[numbers[name]].model_dump(mode="json", by_alias=True)
        raw["loss"].pop("scale", None)
        rest.append(json.dumps(raw, sort_keys=True))
    return sorted((part for _, part in scales.groupby(rest, sort=False)), key=len, reverse=True)


def _scales(good: list[float], scales: pd.DataFrame) -> str:
    """The scales `good` in words: as a stretch where it holds every scale tried in between, else one by one."""
    between = [scale for scale in scales["scale"].unique() if min(good) < scale < max(good) and scale not in good]
    if not between and len(good) > 2:
        return f"{min(good):g} to {max(good):g}"
    if len(good) <= 2 * SPOKEN:
        return _listed([f"{scale:g}" for scale in good])
    return f"{min(good):g} to {max(good):g} (but for {len(between)} of those between)"


def _winners_and_adacos(scales: pd.DataFrame) -> list[str]:
    """Where AdaCos's scale stands to the winners' scales: they differ in more than the scale, so no more than that."""
    winners = scales[~scales["baseline"]]
    classes = winners["train_classes"].unique()
    if len(classes) != 1:
        return []
    low, high = winners["scale"].min(), winners["scale"].max()
    fixed = float(theory.adacos_fixed(float(classes[0])))
    place = "below" if fixed < low else "above" if fixed > high else "within"
    span = f"scales of {low:.3g} to {high:.3g}" if low < high else f"the scale {low:.3g}"
    return [f"The confirmed winners have {span}; AdaCos's √2 ln(C−1) = {fixed:.2f} (C = {classes[0]}) lies {place}."]


def _tested_near(scales: pd.DataFrame, fixed: float) -> str:
    """Whether a run stands behind what is said of the scale `fixed`, or only its neighbors on the grid."""
    nearest = min(scales["scale"].unique(), key=lambda scale: abs(scale / fixed - 1))
    if abs(nearest / fixed - 1) <= 0.02:
        return f"tested as s = {nearest:g}"
    return f"not tested itself; the nearest tested scale is {nearest:g}"


def _test_sentences(study: Study, table: pd.DataFrame, best: list[str]) -> list[str]:
    if study.objective != "val_recall_at_1" or table["test_mean"].isna().all():
        return []
    name = best[0] if best else table.iloc[0]["configuration"]
    row = table.loc[name]
    words = f"On test classes, which chose nothing, {short_name(name)} has {_value(row, 'test_')}"
    highest = table.sort_values("test_mean", na_position="first").iloc[-1]
    if highest["configuration"] == name:
        return [f"{words}, the highest there too."]
    return [
        f"{words}; the highest there is {short_name(highest['configuration'])} with {_percent(highest['test_mean'])}."
    ]


def _gamma_sentences(study: Study) -> list[str]:
    """Whether Circle's gamma or AM-Softmax's scale is the steadier, where both were tried."""
    from analysis.figures import gamma

    if study.config.search is not None or not {"circle", "cosface"} <= set(study.trials["loss_kind"]):
        return []
    found = gamma.points(study)
    return [sentence] if gamma.applies(found) and (sentence := gamma.steadiness(found)) else []


def _search_sentences(study: Study) -> list[str]:
    search = study.trials[study.trials["phase"] == "search"]
    done = search[(search["status"] == "complete") & search["value"].notna()]
    counts = search["status"].value_counts()
    told = ", ".join(f"{counts[status]} {status}" for status in counts.index)
    sentences = [f"The search made {len(search)} proposals ({told})."]
    if len(done):
        top = done.sort_values(["value", "number"], ascending=[False, True]).iloc[0]
        sentences.append(
            f"Its best value is {_percent(top['value'])} (trial {_numbered(top)}): the highest of many noisy values, "
            "so it flatters itself."
        )
    return sentences


def _introduced(name: str, value: str = "") -> str:
    """'best 1 (s=2.54, lr=0.003; 67.0%)': a winner with its parameters, which later sentences leave out."""
    short = short_name(name)
    parts = [name.removeprefix(f"{short}: ")] if short != name else []
    parts += [value] if value else []
    return f"{short} ({'; '.join(parts)})" if parts else name


def _numbered(trial: pd.Series) -> str:
    """A proposal with its number, which its name has already where the driver named it."""
    number, name = trial["number"], str(trial["configuration"])
    return name if name.startswith(f"{number}: ") else f"{number}: {name}"


def _warnings(study: Study) -> list[str]:
    warnings = []
    trials = judged(study.trials)
    if study.objective != "val_recall_at_1":
        warnings.append(
            "Chosen on test: no classes were held out, so the best configuration's Recall@1 is an optimistic estimate."
        )
    complete = trials[trials["status"] == "complete"]
    if len(complete):
        seeds = complete.groupby("configuration")["seed"].nunique()
        if seeds.max() < 2:
            warnings.append("One seed per configuration: differences between configurations may be luck of the seed.")
        elif seeds.max() < FEW_SEEDS:
            warnings.append(
                f"{seeds.max()} seeds per configuration: intervals are wide, and 'not worse' may only mean "
                "'not resolved'."
            )
    counts = study.trials["status"].value_counts()
    unfinished = int(sum(counts.get(status, 0) for status in ("waiting", "running", "paused")))
    if unfinished:
        warnings.append(f"{_trials(unfinished)} not ended yet; they are in no figure of final values.")
    elif not study.record.finished:
        warnings.append("The study was not closed as finished; resume it to see whether trials are left to run.")
    if diverged := int(counts.get("diverged", 0)):
        warnings.append(
            f"{_trials(diverged)} diverged (loss or metric not finite) and count in no mean, so the means of their "
            "configurations are of the runs that went well."
        )
    if failed := int(counts.get("failed", 0)):
        warnings.append(f"{_trials(failed)} failed; their reasons stand in the table of trials.")
    _, left_out = seeds_table(study)
    if len(complete) and left_out:
        shown = _listed(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        warnings.append(f"Left out of the comparison, because fewer than two of its seeds are complete: {shown}.")
    return warnings


def _seed_count(seeds: pd.DataFrame) -> str:
    counts = seeds.notna().sum(axis=1)
    return str(counts.min()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"


def _trials(count: int) -> str:
    return "1 trial has" if count == 1 else f"{count} trials have"


def _value(row: Any, prefix: str = "") -> str:
    mean, low, high = (row[f"{prefix}{part}"] for part in ("mean", "low", "high"))
    if pd.isna(low):
        return _percent(mean)
    # Recall lies in [0, 1]; an interval cut to what is possible covers as often.
    return f"{_percent(mean)} (95% interval {100 * max(0, low):.1f} to {100 * min(1, high):.1f}%)"


def _percent(share: Any) -> str:
    return f"{100 * share:.1f}%"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
