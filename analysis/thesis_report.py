"""The part of a page that recreates the thesis: its figures and tables, ours beside the printed numbers, gaps named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from analysis import claims, compare, differences, reanalysis, runs, tables
from analysis.figures import best_scales, embeddings, proxy_cosines, schedules, style, thesis_curve
from analysis.page import Block, Card, Cards, Figure, Row, Section, Table, slug
from analysis.runs import Setting

if TYPE_CHECKING:
    from analysis.load import Study

HISTOGRAMS = 4  # settings whose proxy cosines are drawn
SETTINGS = 3  # settings (data set, loss, C, D) that a figure shows; the CSV files of the studies hold the others


def concerns(studies: Sequence[Study]) -> bool:
    """Whether any study trained what a thesis figure other than 4.5 shows: a changing scale, or kept proxy cosines."""
    return any(
        study.trials["schedule_kind"].isin(["linear", "quadratic", "switch"]).any()
        or any(name.startswith("proxy_cos_hist") for file in study.arrays["file"] for name in file.names)
        for study in studies
    )


def sections(studies: Sequence[Study], frame: pd.DataFrame | None = None) -> list[Section]:
    """Figures 4.5 to 5.4 and A.3, tables, claims. No study at all leaves printed numbers and gaps.

    frame: runs.curves of `studies`, where it is at hand.
    """
    frame = runs.curves(studies) if frame is None else frame
    parts = [Section("thesis-figures", "The thesis's figures", _figures(frame, studies))]
    blocks: list[Block] = [
        "Ours beside the printed values; 50, 100 and 150 epochs of the thesis are one, two and three phases of ours. "
        "Intervals are 95% t intervals over seeds; the thesis ran each condition once."
    ]
    blocks += [_table(table) for table in tables.all_tables(frame)]
    parts.append(Section("thesis-tables", "The thesis's tables", blocks))
    parts.append(_claims(frame))
    parts.append(_differences(frame))
    return parts


def confrontation(frame: pd.DataFrame) -> list[Section]:
    """Theory beside measurement, for the predictions that the studies can speak of; [] if for none."""
    found = compare.confrontation(frame)
    run = found[found["verdict"] != "not run"]
    if run.empty:
        return []
    silent = sorted(set(found.loc[found["verdict"] == "not run", "prediction"]) - set(run["prediction"]))
    words = "Where a prediction and what was measured part is shown first. Intervals are 95% over seeds."
    blocks: list[Block] = [*_best_scale_figures(frame), words + (f" Not run: {'; '.join(silent)}." if silent else "")]
    blocks += [_predictions(part) for _, part in run.groupby(["section", "prediction"], sort=False)]
    return [Section("theory-confronted", "Theory beside measurement", blocks)]


def _best_scale_figures(frame: pd.DataFrame) -> Iterator[Figure]:
    axes: dict[best_scales.Axis, str] = {"classes": "training classes", "dim": "embedding dimension"}
    for axis, words in axes.items():
        found = best_scales.points(frame, axis)
        if len(found):
            drawn = best_scales.draw(found, axis)
            title = f"The best scale against the {words}"
            yield Figure(f"best-scale-{axis}", title, best_scales.caption(found, axis), drawn, found)


def _predictions(rows: pd.DataFrame) -> Cards:
    """The rows of `confrontation` on one prediction: a card a setting, disagreement first."""
    first = rows.iloc[0]
    once = [(label, name) for name, label in _SAID_ONCE.items() if rows[name].nunique() == 1]
    per_card = {name: label for name, label in _THEORY_LINES.items() if name not in dict(once).values()}
    same = ["setting", "predicted", "rule", "assumption"]
    cards = [_prediction(part, per_card) for _, part in rows.groupby(same, sort=False)]
    cards.sort(key=lambda card: _VERDICTS.index(card.verdict))
    note = " ".join(f"{label}: {first[name]}." for label, name in once if first[name])
    name = f"theory-{slug(f'{first.section} {first.prediction}')}"
    return Cards(name, f"{first['section']}. {first['prediction']}", tuple(cards), note, SETTINGS)


def _prediction(rows: pd.DataFrame, shown: dict[str, str]) -> Card:
    """One card for the rows of `confrontation` that differ in what was measured only. shown: names of the columns."""
    first = rows.iloc[0]
    verdicts = rows["verdict"].unique()
    measured = [
        row["measured"] if len(verdicts) == 1 else f"{row['measured']} ({row['verdict']})"
        for row in rows.to_dict("records")
    ]
    lines = {**first.to_dict(), "measured": "; ".join(measured)}
    return Card(
        str(first["setting"]),
        str(verdicts[0]) if len(verdicts) == 1 else "mixed",
        tuple((label, _recall_in_words(str(lines[name]))) for name, label in shown.items()),
    )


def _recall_in_words(text: str) -> str:
    return text.replace("val_recall_at_1", "validation Recall@1").replace("test_recall_at_1", "test Recall@1")


_VERDICTS = ("disagrees", "mixed", "agrees", "undecided")
_SAID_ONCE = {"rule": "Rule", "assumption": "Assumes"}
_THEORY_LINES = {"predicted": "Predicted", "measured": "Measured", **_SAID_ONCE}
_CLAIM_LINES = {"rule": "Rule", "setting": "Setting", "measured": "Ours", "printed": "Printed"}


def _claims(frame: pd.DataFrame) -> Section:
    found = claims.outcomes(frame)
    cards = tuple(
        Card(
            f"{row['id']} ({row['where']}): {row['says']}",
            str(row["verdict"]),
            tuple((label, str(row[name])) for name, label in _CLAIM_LINES.items()),
        )
        for row in found.to_dict("records")
    )
    return Section(
        "claims",
        "The thesis's claims",
        [
            "Each claim has a rule that stands before the data: paired t over seeds at equal epochs, corrected by Holm "
            "over all inequalities of one data set. What is neither supported nor contradicted is undecided.",
            Cards("claim-cards", "Claims C1 to C17", cards),
        ],
    )


def _differences(frame: pd.DataFrame) -> Section:
    """Every decaying schedule against its controls, and how small a difference these studies can see."""
    blocks: list[Block] = []
    found = differences.differences(frame)
    if len(found):
        header = ["Setting", "Schedule", "Epochs", "Against", "Equal epochs", "Difference (points)", "95% interval"]
        header += ["Seeds", "p (Holm)", "Detectable (points)"]
        rows = [
            [
                str(Setting(*(row[name] for name in Setting._fields))),
                *(str(row[name]) for name in ("condition", "epochs_done", "against")),
                "yes" if row["equal_epochs"] else "no",
                _points(row["mean"]),
                f"{_points(row['low'])} to {_points(row['high'])}" if pd.notna(row["low"]) else "",
                str(row["seeds"]),
                f"{row['p_holm']:.3f}" if pd.notna(row["p_holm"]) else "",
                _points(row["detectable"]).lstrip("+"),
            ]
            for row in found.to_dict("records")
        ]
        note = "Test Recall@1, paired by seed. Detectable: the smallest true difference found with power .8."
        title = "Decaying schedules against their controls"
        numeric = frozenset({2, 5, 6, 7, 8, 9})
        blocks.append(Table("table-differences", title, header, rows, numeric, len(rows) > 12, note))
    noise = reanalysis.baselines()
    header = [str(name).replace("_", " ") for name in noise.columns]
    rows = [
        [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
        for row in noise.itertuples(index=False)
    ]
    note = "From the thesis's own tables: runs of one configuration (constant 20) at epoch 50; fractions, none of ours."
    title = "Noise that the printed tables themselves show"
    blocks.append(Table("table-noise", title, header, rows, frozenset(range(2, len(header))), note=note))
    return Section("differences", "Differences and noise", blocks)


def _points(share: float) -> str:
    """A difference of fractions in points (hundredths of Recall), signed."""
    return "" if pd.isna(share) else f"{100 * share:+.2f}"


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
    tables_words = "table" if len(figure.printed) == 1 else "tables"
    caption = f"Sato 2021, {tables_words} {' and '.join(figure.printed)}: one run each, so no interval."
    return [Row(tuple(drawn), caption)] if drawn else []


def _histograms(kept: proxy_cosines.Kept, frame: pd.DataFrame) -> Block:
    name, title = f"figure-{slug(kept.number)}", f"Figure {kept.number}: {kept.title}"
    mine = frame[kept.has(frame["epochs_done"], frame["phase"]) & (frame["other"] == "")] if len(frame) else frame
    if mine.empty:
        return Figure(name, title, kept.words, missing=proxy_cosines.GAP)
    drawn = []
    for place, setting in enumerate(list(dict.fromkeys(mine["setting"]))[:HISTOGRAMS]):
        of_setting = mine[mine["setting"] == setting]
        dim = int(of_setting["dim"].iloc[0])
        shown = of_setting[kept.shows(of_setting)]
        densities: list[list[float]] = []
        for definition in ("all", "between"):
            part = shown[shown["definition"] == definition]
            density = part["density"].tolist()
            if part.empty or density in densities:  # one proxy a class: all pairs are between classes
                continue
            densities.append(density)
            words = f"{title}, {setting}, {proxy_cosines.DEFINITIONS[definition]}"
            text, plot = proxy_cosines.caption(kept, part, definition), proxy_cosines.draw(part, dim)
            drawn.append(Figure(f"{name}-{place}-{definition}", words, text, plot, of_setting))
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
    return [
        Section(
            f"{prefix}embeddings",
            "Embeddings",
            [Row(tuple(figures), embeddings.caption(frame, int(dims.iloc[0])), small=True)],
        )
    ]
