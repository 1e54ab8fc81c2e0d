"""One self-contained page: sections of text, figures and tables, plotly.js embedded once. It opens offline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd
import plotly.graph_objects as go
import plotly.offline
from markupsafe import Markup


@dataclass(frozen=True)
class Figure:
    """A figure with its caption; `frame` is what it shows, written as CSV beside it.

    id: file name and anchor. missing: in place of a figure, why there is none and which study to run.
    """

    id: str
    title: str
    caption: str
    figure: go.Figure | None = None
    frame: pd.DataFrame | None = None
    missing: str = ""

    @property
    def json(self) -> Markup:
        """The figure for a script element: nothing in it can close the element."""
        text = self.figure.to_json() if self.figure is not None else "null"
        return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))

    @property
    def height(self) -> int:
        """Height in CSS pixels that the page keeps free."""
        return int(self.figure.layout.height or 420) if self.figure is not None else 0


@dataclass(frozen=True)
class Table:
    """Rows of text. numeric: columns to align right. folded: closed until asked for. note: under the table.

    links: where each row's first cell leads, '' nowhere; hrefs are ours, never a user's.
    """

    id: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    folded: bool = False
    note: str = ""
    links: Sequence[str] = ()

    def link(self, row: int) -> str:
        """Where the first cell of zero-based `row` leads, '' nowhere."""
        return self.links[row] if self.links else ""


@dataclass(frozen=True)
class Row:
    """Figures side by side where there is room, below each other where there is not.

    caption: one for all of them, under the row. small: four across instead of two.
    """

    figures: tuple[Figure, ...]
    caption: str = ""
    small: bool = False


@dataclass(frozen=True)
class Card:
    """A statement with its verdict, and what stands behind it, as (name, text). Long texts are folded."""

    title: str
    verdict: str
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cards:
    """Statements below each other: for rows whose cells are sentences, which a table would squeeze.

    shown: how many are open at once, the others are closed until asked for; None: all.
    """

    id: str
    title: str
    cards: tuple[Card, ...]
    note: str = ""
    shown: int | None = None

    @property
    def parts(self) -> tuple[Sequence[Card], Sequence[Card]]:
        """The cards that are open, and those that are closed."""
        count = len(self.cards) if self.shown is None or len(self.cards) <= self.shown + 1 else self.shown
        return self.cards[:count], self.cards[count:]


@dataclass(frozen=True)
class Text:
    """Preformatted text: a study file, a command. folded: closed until asked for."""

    id: str
    title: str
    text: str
    folded: bool = False


@dataclass(frozen=True)
class Link:
    """A sentence with one link at its end. href is ours, never a user's."""

    text: str
    href: str
    label: str


Block = Figure | Table | Row | Cards | Text | Link | str


@dataclass
class Section:
    """A heading with its blocks."""

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Page:
    """A report. lead: question and answer; warnings: what weakens it, shown before anything else."""

    title: str
    subtitle: str
    question: str
    answer: list[str]
    warnings: list[str]
    sections: list[Section]
    foot: str = ""

    def figures(self) -> Iterator[Figure]:
        """All figures, in order."""
        for section in self.sections:
            for block in section.blocks:
                if isinstance(block, Figure):
                    yield block
                elif isinstance(block, Row):
                    yield from block.figures


def slug(text: str) -> str:
    """`text` as an anchor or file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def render(page: Page) -> str:
    """The page as HTML. Everything but plotly's own script is escaped by jinja."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["kind"] = lambda block: type(block).__name__
    plotly_js = Markup(plotly.offline.get_plotlyjs())
    return environment.get_template("report.html").render(page=page, plotly_js=plotly_js)


def write_csvs(page: Page, folder: Path) -> None:
    """Each figure's frame as `folder`/<id>.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    for figure in page.figures():
        if figure.frame is not None:
            figure.frame.to_csv(folder / f"{figure.id}.csv", index=False)
