"""The report of one or several studies: what goes on the page, in which order."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import runs, thesis_report
from analysis.answer import Answer, answer, chosen_on, measured_on
from analysis.figures import against, learning_curves, parallel, rungs, scale_curve, search, thesis_curve
from analysis.figures import configurations as configurations_figure
from analysis.page import Block, Figure, Page, Row, Section, Table, Text, render, slug, write_csvs
from analysis.summary import epochs_cost

if TYPE_CHECKING:
    from analysis.load import Study

CONFRONTED_ROWS = 300_000  # epochs; beyond, a search or sweep that theory says nothing of is not worth the minute
TABLE_ROWS = 300  # longer tables are cut on the page; the CSV has every row


def build(studies: list[Study]) -> tuple[Page, list[Answer]]:
    """The page of `studies`, and each one's answer."""
    answers = [answer(study) for study in studies]
    if len(studies) == 1:
        study, said = studies[0], answers[0]
        page = Page(
            title=study.name,
            subtitle=_subtitle(study),
            question=study.config.question,
            answer=said.sentences,
            warnings=said.warnings,
            sections=[*study_sections(study, said), *_thesis(studies)],
            foot=foot(),
        )
        return page, answers
    sections = []
    for study, said in zip(studies, answers, strict=True):
        intro: list[Block] = [_subtitle(study)]
        if study.config.question:
            intro.append(study.config.question)
        intro += said.sentences
        sections.append(Section(slug(study.name), study.name, intro))
        sections += study_sections(study, said, prefix=f"{slug(study.name)}-", name=f"{study.name}: ")
    page = Page(
        title=f"{len(studies)} studies",
        subtitle=", ".join(study.name for study in studies),
        question="",
        answer=[f"{study.name}: {said.sentences[0]}" for study, said in zip(studies, answers, strict=True)],
        warnings=[
            f"{study.name}: {line}" for study, said in zip(studies, answers, strict=True) for line in said.warnings
        ],
        sections=[*sections, *_thesis(studies)],
        foot=foot(),
    )
    return page, answers


def _thesis(studies: list[Study]) -> list[Section]:
    """Theory beside measurement; the thesis's figures, tables and claims where the studies trained anything of them."""
    concerned = thesis_report.concerns(studies)
    if not concerned and sum(len(study.epochs) for study in studies) > CONFRONTED_ROWS:
        return []
    frame = runs.curves(studies)
    found = thesis_report.confrontation(frame)
    return [*found, *thesis_report.sections(studies, frame)] if concerned else found


def study_sections(study: Study, said: Answer, prefix: str = "", name: str = "") -> list[Section]:
    """All of one study. prefix: before ids; name: before headings, where a page holds several studies."""
    sections = [_how_chosen(study, prefix)]
    sections += _result(study, prefix)
    sections += _search(study, prefix)
    sections += _training(study, prefix)
    sections += _diagnostics(study, prefix)
    sections += thesis_report.embedding_section(study, prefix)
    sections.append(_configurations(study, said, prefix))
    sections.append(_trials(study, prefix))
    sections.append(_cost(study, prefix))
    sections.append(_again(study, prefix))
    for section in sections:
        section.title = f"{name}{section.title}" if name else section.title
    return sections


def _subtitle(study: Study) -> str:
    trial = study.config.trial
    split = trial.split
    trials = study.trials
    parts = [
        f"{trial.dataset.kind}: {split.train_classes} training, {split.val_classes} validation, {split.test_classes} "
        "test classes, all disjoint",
        f"{len(trials)} trials, {trials['configuration'].nunique()} configurations",
        chosen_on(study),
    ]
    return " · ".join(parts)


def _how_chosen(study: Study, prefix: str) -> Section:
    trial = study.config.trial
    where = measured_on(study)
    blocks: list[Block] = [
        f"This study is {chosen_on(study)}: a trial's value is Recall@1 of {where} at its last epoch, never at its "
        "best epoch. "
        + (
            "Test classes are measured beside it and choose nothing."
            if study.objective == "val_recall_at_1"
            else "No classes were held out (val_classes: 0, the thesis's way), so every choice is made on the classes "
            "that it is then judged by."
        ),
        "Recall@1 is the share of images whose nearest other image (cosine) has the same class. Trials of one "
        "configuration differ in their seed only: weights, order of the images, distortion.",
    ]
    if study.config.search is None:
        blocks.append(
            "'Not worse than the best' is a set: a configuration leaves it only if another one is shown to exceed it, "
            "paired by seed (one-sided t, Bonferroni over the others), so that it holds the truly best one with at "
            "least 95%. With few seeds the set is large because little can be told apart."
        )
    else:
        search = study.config.search
        text = (
            f"Search: {search.sampler.kind} sampler, {search.scheduler.kind} scheduler, one seed ({search.seed}) for "
            "each proposal."
        )
        if study.config.confirm is not None:
            text += (
                f" Its best {study.config.confirm.best} configurations were to be run again on fresh seeds "
                f"({', '.join(map(str, study.config.confirm.seeds))}): those runs are the result."
            )
        blocks.append(text)
    blocks.append(
        f"Loss {trial.loss.kind}, embedding dimension {trial.model.embedding_dim}, optimizer {trial.optimizer.kind}, "
        f"{trial.epochs} epochs, batches of {trial.batches.size} images, unless a configuration says otherwise."
    )
    return Section(f"{prefix}how", "How it was chosen", blocks)


def _result(study: Study, prefix: str) -> list[Section]:
    blocks: list[Block] = []
    points = scale_curve.points(study)
    trials = study.trials
    on_curve: set[int] = set()
    # A search's winners lie where the sampler went: a curve through them would be no curve over the scale.
    planned = study.config.search is None
    if planned and scale_curve.applies(points):
        on_curve = set(points["number"])
        classes = trials["train_classes"].unique()
        one = int(classes[0]) if len(classes) == 1 else None
        printed = thesis_curve.points()
        blocks.append(
            Row(
                (
                    Figure(
                        f"{prefix}scale-curve",
                        "Recall@1 against the scale, measured here",
                        scale_curve.caption(points, one),
                        scale_curve.draw(points, one),
                        scale_curve.table(points),
                    ),
                    Figure(
                        f"{prefix}thesis-curve",
                        "The same in the thesis (printed)",
                        thesis_curve.caption(printed),
                        thesis_curve.draw(printed),
                        printed,
                    ),
                )
            )
        )
    for path in against.numeric_paths(study) if planned else []:
        if path == "loss.scale.value" and on_curve:
            continue
        along = against.points(study, path)
        if along.empty:
            continue
        on_curve |= set(along["number"])
        blocks.append(
            Figure(
                f"{prefix}against-{slug(path)}",
                f"Recall@1 against {path}",
                against.caption(along, path),
                against.draw(along, path),
                against.table(along),
            )
        )
    dots = configurations_figure.points(trials)
    if len(dots) and not set(dots["number"]) <= on_curve:
        blocks.append(
            Figure(
                f"{prefix}configurations",
                "Recall@1 of each configuration",
                configurations_figure.caption(dots),
                configurations_figure.draw(dots),
                dots,
            )
        )
    return [Section(f"{prefix}result", "Result", blocks)] if blocks else []


def _search(study: Study, prefix: str) -> list[Section]:
    """What a search did: its history, whom the scheduler stopped, and Optuna's own plots."""
    if study.config.search is None or (study.trials["phase"] != "search").all():
        return []
    tried = search.points(study)
    blocks: list[Block] = [
        Figure(f"{prefix}search-history", "The search's values in order", search.CAPTION, search.draw(tried), tried)
    ]
    if len(study.rungs):
        decisions = rungs.points(study)
        figure = rungs.draw(decisions, rungs.curves(study))
        blocks.append(Figure(f"{prefix}rungs", "Stopped at rungs", rungs.caption(study), figure, decisions))
    complete = parallel.points(tried)
    if len(complete) > 1:
        figure = parallel.draw(complete)
        blocks.append(Figure(f"{prefix}parallel", "Parallel coordinates", parallel.CAPTION, figure, complete))
    for name, title, words, figure in search.optuna_figures(study):
        blocks.append(Figure(f"{prefix}{name}", title, words, figure))
    return [Section(f"{prefix}search", "Search", blocks)]


_CURVES = ("val_recall_at_1", "test_recall_at_1", "loss", "train_accuracy", "train_accuracy_running")


_DIAGNOSTICS = (
    *("theta_q50", "mean_s_p", "mean_s_n", "pair_mean_s_p", "pair_mean_s_n", "max_other_cosine", "effective_classes"),
    *("mean_p_target", "proxy_cos_var_between", "proxy_move_degrees", "embedding_move_degrees"),
)


def _training(study: Study, prefix: str) -> list[Section]:
    shown = list(_CURVES)
    if "train_accuracy" in study.epochs:
        shown.remove("train_accuracy_running")
    if "scale" in study.epochs and study.epochs.groupby("number")["scale"].nunique().max() > 1:
        shown.append("scale")
    figures = _curves(study, shown, prefix)
    return [Section(f"{prefix}training", "Learning curves", [Row(figures)])] if figures else []


def _diagnostics(study: Study, prefix: str) -> list[Section]:
    """What theory speaks of, over training: angles, similarities s_p and s_n, effective classes, proxies."""
    figures = _curves(study, [metric for metric in _DIAGNOSTICS if metric in study.epochs], prefix)
    words = (
        "Measured on clean training images after each epoch. s_p: mean cosine within a class, s_n: between classes, to "
        "proxies or over pairs of images; effective classes: exp(entropy) of the softmax; turns are medians."
    )
    return [Section(f"{prefix}angles", "Angles and similarities", [words, Row(figures)])] if figures else []


def _curves(study: Study, metrics: list[str], prefix: str) -> tuple[Figure, ...]:
    figures = []
    for metric in metrics:
        points = learning_curves.points(study, metric)
        if points.empty:
            continue
        figures.append(
            Figure(
                f"{prefix}learning-{slug(metric)}",
                learning_curves.title(metric),
                learning_curves.caption(points, metric),
                learning_curves.draw(points, metric),
                learning_curves.table(points),
            )
        )
    return tuple(figures)


def _configurations(study: Study, said: Answer, prefix: str) -> Section:
    table = said.table
    objective = "Validation" if study.objective == "val_recall_at_1" else "Test"
    header = ["Configuration", "Seeds", f"{objective} Recall@1 (%)", "95% t interval", "Mean of last 5 epochs (%)"]
    with_test = objective == "Validation" and table["test_mean"].notna().any()
    header += ["Test Recall@1 (%)", "95% t interval"] if with_test else []
    header += ["Not worse than best", "Lost trials"]
    rows = []
    for row in table.head(TABLE_ROWS).to_dict("records"):
        cells = [str(row["configuration"]) + (" (baseline)" if row["baseline"] else ""), str(row["n"])]
        cells += [percent(row["mean"]), interval(row["low"], row["high"]), percent(row["last_5"])]
        cells += [percent(row["test_mean"]), interval(row["test_low"], row["test_high"])] if with_test else []
        lost = [f"{row[what]} {what}" for what in ("unfinished", "diverged", "failed") if row[what]]
        cells += ["yes" if row["configuration"] in said.best else "", ", ".join(lost)]
        rows.append(cells)
    note = "Intervals are t intervals of the mean over seeds, one configuration at a time."
    if len(table) > TABLE_ROWS:
        note += f" The first {TABLE_ROWS} of {len(table)}."
    numeric = frozenset(range(1, len(header) - 2))
    title = "Configurations, best mean first"
    return Section(
        f"{prefix}tables",
        "Configurations",
        [Table(f"{prefix}table-configurations", title, header, rows, numeric, note=note)],
    )


def _trials(study: Study, prefix: str) -> Section:
    trials = study.trials
    counts = trials["status"].value_counts()
    words = ", ".join(f"{counts[status]} {status}" for status in counts.index) or "none yet"
    header = [
        "Trial",
        "Configuration",
        "Seed",
        "Status",
        "Value (%)",
        "Test (%)",
        "Epochs",
        "Inherited",
        "Seconds",
        "Reason",
    ]
    header.insert(3, "Phase")

    def cells(row: dict[Hashable, Any]) -> list[str]:
        return [
            str(row["number"]),
            str(row["configuration"]),
            str(row["seed"]),
            str(row["phase"]),
            str(row["status"]),
            percent(row["value"]),
            percent(row["test_value"]),
            f"{row['epochs_done']} of {row['epochs_planned']}",
            str(row["epochs_inherited"] or ""),
            f"{row['wall_s']:.1f}",
            str(row["reason"]),
        ]

    ended_badly = trials[trials["status"].isin(["pruned", "diverged", "failed"])]
    blocks: list[Block] = [f"{len(trials)} trials: {words}."]
    numeric = frozenset({0, 2, 5, 6, 7, 8, 9})
    if len(ended_badly):
        rows = [cells(row) for row in ended_badly.head(TABLE_ROWS).to_dict("records")]
        title = "Trials that did not run to their end"
        blocks.append(Table(f"{prefix}table-lost", title, header, rows, numeric, folded=len(rows) > 12))
    rows = [cells(row) for row in trials.head(TABLE_ROWS).to_dict("records")]
    note = "" if len(trials) <= TABLE_ROWS else f"The first {TABLE_ROWS} of {len(trials)}; figures/trials.csv has all."
    blocks.append(Table(f"{prefix}table-trials", "All trials", header, rows, numeric, folded=True, note=note))
    return Section(f"{prefix}trials", "Trials", blocks)


def _cost(study: Study, prefix: str) -> Section:
    cost = epochs_cost(study)
    trials = study.trials
    blocks: list[Block] = []
    given = cost["trained"] + cost["inherited"]
    text = f"{cost['trained']:,.0f} epochs were trained, in {duration(cost['wall_s'])} of training and evaluation"
    if cost["inherited"]:
        text += (
            f"; {cost['inherited']:,.0f} more were inherited from trials that begin alike, so sharing saved "
            f"{100 * cost['inherited'] / given:.0f}% of the epochs"
        )
    blocks.append(f"{text}.")
    pruned = trials[trials["status"] == "pruned"]
    if len(pruned):
        saved = int((pruned["epochs_planned"] - pruned["epochs_done"]).sum())
        blocks.append(f"The scheduler stopped {len(pruned)} trials early, which saved {saved:,} epochs.")
    return Section(f"{prefix}cost", "Cost", blocks)


def _again(study: Study, prefix: str) -> Section:
    event = study.record.study
    assert event is not None  # load() refuses a ledger without its first line
    rows = [["started", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(event.at))]]
    rows += [["git commit", event.git_commit or "not in a repository"]]
    rows += [[name, version] for name, version in sorted(event.versions.items())]
    rows += [[f"machine: {name}", value] for name, value in sorted(event.machine.items())]
    hosts = sorted({driver.host for driver in study.record.drivers})
    if hosts:
        rows.append(["drivers on", ", ".join(hosts)])
    blocks: list[Block] = [
        Text(
            f"{prefix}commands",
            "Run it again",
            f"python -m study run {study.name}.yaml\npython -m analysis report {study.name}",
        ),
        "The study file below is what was run; the same file, seeds and versions on the same machine give the same "
        "numbers. Every trial also stands in MLflow, in an experiment of the study's name: python -m study ui.",
        Text(f"{prefix}file", "Study file", event.source),
        Table(f"{prefix}table-versions", "Versions and machine", ["What", "Value"], rows, folded=True),
    ]
    return Section(f"{prefix}again", "Run it again", blocks)


def percent(share: object) -> str:
    """A fraction as percent with one digit; an empty cell where there is none."""
    return "" if not isinstance(share, float) or pd.isna(share) else f"{100 * share:.1f}"


def interval(low: float, high: float) -> str:
    """Two fractions as an interval in percent, cut to what Recall can be."""
    return "" if pd.isna(low) or pd.isna(high) else f"{100 * max(0, low):.1f} to {100 * min(1, high):.1f}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def write(studies: list[Study], out: Path) -> list[Answer]:
    """Write the page to `out`, and CSV files to figures/ beside it. Returns each study's answer."""
    page, answers = build(studies)
    folder = out.parent / "figures"
    write_page(page, out)
    for study in studies:
        name = "trials.csv" if len(studies) == 1 else f"{slug(study.name)}-trials.csv"
        study.trials.to_csv(folder / name, index=False)
    return answers


def write_page(page: Page, out: Path) -> None:
    """Write `page` to `out` in one move, and its figures' CSV files to figures/ beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_csvs(page, out.parent / "figures")
    part = out.with_name(f".{out.name}.part")
    part.write_text(render(page), encoding="utf-8")
    part.replace(out)


def foot() -> str:
    """Who wrote the page, and when."""
    try:
        version = importlib.metadata.version("scale-study")
    except importlib.metadata.PackageNotFoundError:
        version = "from its source folder"
    return f"Written by scale-study {version} on {time.strftime('%Y-%m-%d %H:%M')}."
