"""The report of one or several studies: what goes on the page, in which order."""

from __future__ import annotations

import importlib.metadata
import time
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import account, runs, thesis_report
from analysis.answer import Answer, answer, chosen_on, measured_on
from analysis.figures import (
    against,
    gamma,
    learning_curves,
    parallel,
    rungs,
    scale_curve,
    search,
    thesis_curve,
)
from analysis.figures import configurations as configurations_figure
from analysis.page import Block, Figure, Page, Row, Section, render, slug, write_csvs

if TYPE_CHECKING:
    from analysis.load import Study

LEGENDS = 8  # names; longer legends stand under the first figure of a section only
CONFRONTED_ROWS = 300_000  # epochs; beyond, a search or sweep that theory says nothing of is not worth the minute


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
        share = learning_curves.SEED_POINTS // len(studies)
        sections += study_sections(study, said, f"{slug(study.name)}-", f"{study.name}: ", share)
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


def study_sections(
    study: Study, said: Answer, prefix: str = "", name: str = "", seed_points: int = learning_curves.SEED_POINTS
) -> list[Section]:
    """All of one study. prefix: before ids; name: before headings, where a page holds several studies.

    seed_points: epochs of a study beyond which no seed has a learning curve of its own.
    """
    sections = [_how_chosen(study, prefix)]
    sections += _result(study, prefix)
    sections += _search(study, prefix)
    sections += _training(study, prefix, seed_points)
    sections += _diagnostics(study, prefix, seed_points)
    sections += thesis_report.embedding_section(study, prefix)
    sections.append(account.configurations(study, said, prefix))
    sections.append(account.trials(study, prefix))
    sections.append(account.cost(study, prefix))
    sections.append(account.again(study, prefix))
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
        if not against.applies(along):
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
    both = gamma.points(study)
    if planned and gamma.applies(both):
        on_curve |= set(both["number"])
        title = "Recall@1 against Circle's gamma and AM-Softmax's scale"
        table = against.table(both)
        blocks.append(Figure(f"{prefix}gamma", title, gamma.caption(both), gamma.draw(both), table))
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
    rebuilt = search.optuna_study(study)
    if slices := search.slices(rebuilt):
        figures = [Figure(f"{prefix}slice-{slug(path)}", f"Slice: {path}", "", figure) for path, figure in slices]
        blocks.append(Row(tuple(figures), search.SLICES_CAPTION))
    if (plot := search.importance(rebuilt)) is not None:
        blocks.append(Figure(f"{prefix}importance", "Importance of parameters", search.IMPORTANCE_CAPTION, plot))
    return [Section(f"{prefix}search", "Search", blocks)]


_CURVES = ("val_recall_at_1", "test_recall_at_1", "loss", "train_accuracy", "train_accuracy_running")


_DIAGNOSTICS = (
    *("theta_q50", "mean_s_p", "mean_s_n", "pair_mean_s_p", "pair_mean_s_n", "max_other_cosine", "effective_classes"),
    *("mean_p_target", "proxy_cos_var_between", "proxy_move_degrees", "embedding_move_degrees"),
)


def _training(study: Study, prefix: str, seed_points: int) -> list[Section]:
    shown = list(_CURVES)
    if "train_accuracy" in study.epochs:
        shown.remove("train_accuracy_running")
    if "scale" in study.epochs and study.epochs.groupby("number")["scale"].nunique().max() > 1:
        shown.append("scale")
    figures = _curves(study, shown, prefix, seed_points)
    return [Section(f"{prefix}training", "Learning curves", [Row(figures)])] if figures else []


def _diagnostics(study: Study, prefix: str, seed_points: int) -> list[Section]:
    """What theory speaks of, over training: angles, similarities s_p and s_n, effective classes, proxies."""
    figures = _curves(study, [metric for metric in _DIAGNOSTICS if metric in study.epochs], prefix, seed_points)
    words = (
        "Measured on clean training images after each epoch. s_p: mean cosine within a class, s_n: between classes, to "
        "proxies or over pairs of images; effective classes: exp(entropy) of the softmax; turns are medians."
    )
    return [Section(f"{prefix}angles", "Angles and similarities", [words, Row(figures)])] if figures else []


def _curves(study: Study, metrics: list[str], prefix: str, seed_points: int) -> tuple[Figure, ...]:
    figures: list[Figure] = []
    for metric in metrics:
        points = learning_curves.points(study, metric)
        if points.empty:
            continue
        # A long legend under every figure would be most of the page.
        bare = bool(figures) and len(learning_curves.shown(points)) > LEGENDS
        words = learning_curves.caption(points, metric, seed_points)
        drawn = learning_curves.draw(points, metric, seed_points)
        if bare:
            words += " Colors as in the first figure here."
            drawn.update_layout(showlegend=False)
        name, title = f"{prefix}learning-{slug(metric)}", learning_curves.title(metric)
        figures.append(Figure(name, title, words, drawn, learning_curves.table(points)))
    return tuple(figures)


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
