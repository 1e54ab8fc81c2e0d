"""Each figure and table of a report as files of its own."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio

from analysis import runs, tables
from analysis.load import Study
from analysis.page import Page, slug

IMAGES = ("png", "svg")
IMAGE_SIZE = (900, 520)


class NoChrome(Exception):
    """kaleido found no Chrome or Chromium to draw pictures with. One line."""


def write_figures(page: Page, folder: Path, images: tuple[str, ...]) -> list[Path]:
    """Every drawn figure of `page` as HTML (plotly.js once beside them), JSON and CSV, and `images` (png, svg).

    Raises: NoChrome, after the other files are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    drawn = [(figure, figure.figure) for figure in page.figures() if figure.figure is not None]
    for figure, plot in drawn:
        path = folder / f"{figure.id}.html"
        plot.write_html(path, include_plotlyjs="directory", full_html=True)
        plot.write_json(folder / f"{figure.id}.json")
        if figure.frame is not None:
            figure.frame.to_csv(folder / f"{figure.id}.csv", index=False)
        written.append(path)
    if drawn and images:
        _write_images({folder / f"{figure.id}.{kind}": plot for figure, plot in drawn for kind in images})
    return written


def _write_images(plots: dict[Path, go.Figure]) -> None:
    """One browser draws them all. Raises: NoChrome."""
    width, height = IMAGE_SIZE
    try:
        pio.write_images(fig=list(plots.values()), file=list(plots), width=width, height=height)
    except Exception as error:  # kaleido tells a missing browser by several types of its own
        if "chrome" in str(error).lower() or "chrome" in type(error).__name__.lower():
            raise NoChrome(
                "pictures need Chrome or Chromium, and kaleido found none; install one (Debian: apt install "
                "chromium), or leave --images out"
            ) from error
        raise


def write_tables(studies: list[Study], folder: Path) -> list[Path]:
    """The thesis's tables with what `studies` measured, as CSV, Markdown and LaTeX."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables.all_tables(runs.curves(studies)):
        name = f"table-{slug(table.number)}"
        for suffix, text in (("csv", table.csv()), ("md", table.markdown()), ("tex", table.latex())):
            (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
        written.append(folder / f"{name}.md")
    return written
