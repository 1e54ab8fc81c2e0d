"""The part of a page that recreates the thesis: its figures and tables, ours beside the printed numbers, gaps named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from analysis import runs, tables
from analysis.figures import embeddings, proxy_cosines, schedules, style, thesis_curve
from analysis.page import Block, Figure, Row, Section, Table, slug

if TYPE_CHECKING:
    from analysis.load import Study

SETTINGS = 3  # settings (data set, loss, C, D) that a figure shows; the CSV files of the studies hold the others


def concerns(studies: Sequence[Study]) -> bool:
    """Whether any study trained what a thesis figure other than 4.5 shows: a changing scale, or kept proxy cosines."""
    return any(
        study.trials["schedule_kind"].isin(["linear", "quadratic", "switch"]).any()
        or any(name.startswith("proxy_cos_hist") for file in study.arrays["file"] for name in file.names)
        for study in studies
    )


def sections(studies: Sequence[Study]) -> list[Section]:
    """Figures 4.5 to 5.4 and A.3, and the tables. No study at all leaves printed numbers and gaps."""
    frame = runs.curves(studies)
    parts = [Section("thesis-figures", "The thesis's figures", _figures(frame, studies))]
    blocks: list[Block] = [
        "Ours beside the printed values; 50, 100 and 150 epochs of the thesis are one, two and three phases of ours. "
        "Intervals are 95 % t intervals over seeds; the thesis ran each condition once."
    ]
    blocks += [_table(table) for table in tables.all_tables(frame)]
    parts.append(Section("thesis-tables", "The thesis's tables", blocks))
    return parts


def _figures(frame: pd.DataFrame, studies: Sequence[Study]) -> list[Block]:
    blocks: list[Block] = []
    for figure in schedules.FIGURES:
        blocks += _schedule(figure, frame)
    histograms = proxy_cosines.points(studies)
    for kept in proxy_cosines.FIGURES:
        blocks.append(_histograms(kept, histograms))
    return blocks


def _schedule(figure: schedules.ThesisFigure, frame: pd.DataFrame) -> list[Block]:
    name = f"figure-{slug(figure.number)}"
    title = f"Figure {figure.number}: {figure.title}"
    blocks: list[Block] = []
    fitting = schedules.fitting(figure, frame)
    for place, (setting, part, conditions) in enumerate(fitting[:SETTINGS]):
        phase = runs.phase_of(part)
        drawn: list[Figure] = []
        metrics = [*figure.metrics, *(["val_recall_at_1"] if "val_recall_at_1" in part else [])]
        for metric in metrics:
            points = schedules.points(figure, part, conditions, metric)
            if points.empty:
                continue
            words = f"{title}. {style.metric_name(metric)}" if not drawn else style.metric_name(metric)
            plot = schedules.draw(points, metric, phase)
            drawn.append(Figure(f"{name}-{place}-{slug(metric)}", words, "", plot, points))
        blocks.append(Row(tuple(drawn), schedules.caption(figure, setting, part, phase)))
    if not fitting:
        blocks.append(Figure(name, title, figure.words, missing=schedules.gap(figure)))
    blocks += _printed(figure, name)
    return blocks


def _printed(figure: schedules.ThesisFigure, name: str) -> list[Block]:
    """The thesis's printed numbers of this figure, where there are any."""
    if figure.number == "4.5":
        points = thesis_curve.points()
        caption = thesis_curve.caption(points)
        return [Figure(f"{name}-printed", "Table 4.1 (printed)", caption, thesis_curve.draw(points), points)]
    if figure.number == "5.4":
        return [schedules.loss_maxima()]
    drawn: list[Figure] = []
    for metric in figure.metrics:
        points = schedules.printed_points(figure, metric)
        if points.empty:
            continue
        title = f"Printed: {style.metric_name(metric)}"
        plot = schedules.draw_printed(points, metric)
        drawn.append(Figure(f"{name}-printed-{slug(metric)}", title, "", plot, points))
    caption = f"Sato 2021, table {' and '.join(figure.printed)}: one run each, so no interval."
    return [Row(tuple(drawn), caption)] if drawn else []


def _histograms(kept: proxy_cosines.Kept, frame: pd.DataFrame) -> Block:
    name, title = f"figure-{slug(kept.number)}", f"Figure {kept.number}: {kept.title}"
    mine = frame[kept.has(frame["epochs_done"], frame["phase"])] if len(frame) else frame
    if mine.empty:
        return Figure(name, title, kept.words, missing=proxy_cosines.GAP)
    drawn = []
    for dim in sorted(mine["dim"].unique()):
        for definition in ("all", "between"):
            part = mine[(mine["dim"] == dim) & (mine["definition"] == definition)]
            if part.empty:
                continue
            words = f"{title}, D = {dim}, {proxy_cosines.DEFINITIONS[definition]}"
            drawn.append(
                Figure(
                    f"{name}-{dim}-{definition}",
                    words,
                    proxy_cosines.caption(kept, part, definition, int(dim)),
                    proxy_cosines.draw(part, int(dim)),
                    mine[mine["dim"] == dim],
                )
            )
    return Row(tuple(drawn))


def _table(table: tables.Table) -> Table:
    shown = table.shown()
    header = [str(column) for column in shown.columns]
    numeric = frozenset(
        place for place, name in enumerate(header) if name.startswith(("ours", "printed", "seeds", "start", "end"))
    )
    rows = [[str(cell) for cell in row] for row in shown.itertuples(index=False)]
    note = " ".join([table.caption, *(f"Not run: {gap}" for gap in table.gaps)])
    return Table(f"table-{slug(table.number)}", f"Table {table.number}", header, rows, numeric, len(rows) > 12, note)


def embedding_section(study: Study, prefix: str) -> list[Section]:
    """Embeddings in the plane, where a study kept them."""
    frame = embeddings.points(study)
    if frame.empty:
        return []
    dims = study.trials.set_index("number")["embedding_dim"]
    figures: list[Figure] = []
    for number, epochs_done in frame[["number", "epochs_done"]].drop_duplicates().itertuples(index=False):
        part = frame[(frame["number"] == number) & (frame["epochs_done"] == epochs_done)]
        title = f"{part['configuration'].iloc[0]}, epoch {epochs_done}"
        name = f"{prefix}embeddings-{number}-{epochs_done}"
        figures.append(Figure(name, title, "", embeddings.draw(part), part))
    return [Section(f"{prefix}embeddings", "Embeddings", [Row(tuple(figures), embeddings.caption(frame, int(dims.iloc[0])), small=True)])]
