"""python -m analysis: what studies mean. pandas and plotly load inside the commands, so that --help answers at once."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from analysis.load import NoSuchStudy, default_home


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Read finished or running studies and say what they mean.

    A STUDY is its name in the home folder, or the path of its folder.
    """
    os.umask(0o077)  # nothing that a study writes is for others, nor what is read out of it


def _home_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--home",
        type=click.Path(path_type=Path),
        default=default_home,
        help="Folder that holds the studies (default: STUDY_HOME, or studies/).",
    )(command)


def _one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a user can mend is told in one line, with exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from analysis.pieces import NoChrome
        from study.ledger.read import LedgerError

        try:
            return command(*args, **kwargs)
        except (NoSuchStudy, LedgerError, NoChrome) as error:
            click.echo(str(error), err=True)
        except OSError as error:
            click.echo(f"{error.filename}: cannot be written ({error.strerror}); choose another --out", err=True)
        sys.exit(2)

    return wrapped


@main.command()
@click.argument("studies", nargs=-1, required=True, metavar="STUDY...")
@_home_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The page (default: in the study's folder)."
)
@_one_line_errors
def report(studies: tuple[str, ...], home: Path, out: Path | None) -> None:
    """Write one page on one or several studies, and print the answer."""
    from rich.console import Console

    from analysis import report as reports
    from analysis.load import load

    loaded = [load(name, home) for name in dict.fromkeys(studies)]
    if out is None:
        out = (loaded[0].folder if len(loaded) == 1 else home) / "report.html"
    answers = reports.write(loaded, out)
    console = Console(highlight=False)
    for study, said in zip(loaded, answers, strict=True):
        console.print(
            f"[bold]{_plain(study.name)}[/bold]"
            + (f"  {_plain(study.config.question)}" if study.config.question else "")
        )
        for sentence in said.sentences:
            console.print(f"  {_plain(sentence)}")
        for warning in said.warnings:
            console.print(f"  [yellow]![/yellow] {_plain(warning)}")
    click.echo(f"report: {out}")


@main.command()
@click.argument("studies", nargs=-1, metavar="[STUDY]...")
@_home_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder (default: figures/ at home).")
@click.option("--images", type=click.Choice(["png", "svg"]), multiple=True, help="Also as pictures; needs Chromium.")
@_one_line_errors
def figures(studies: tuple[str, ...], home: Path, out: Path | None, images: tuple[str, ...]) -> None:
    """Write each figure alone: HTML, JSON, CSV. Without a STUDY those that need no run."""
    from analysis import demo, pieces
    from analysis.load import load
    from analysis.report import build

    page = build([load(name, home) for name in dict.fromkeys(studies)])[0] if studies else demo.build()
    out = out or home / "figures"
    written = pieces.write_figures(page, out, images)
    for figure in page.figures():
        if figure.missing:
            click.echo(f"{figure.title}: {figure.missing}")
    click.echo(f"figures: {len(written)} in {out}")


@main.command()
@click.argument("studies", nargs=-1, metavar="[STUDY]...")
@_home_option
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder (default: tables/ at home).")
@_one_line_errors
def tables(studies: tuple[str, ...], home: Path, out: Path | None) -> None:
    """Write the thesis's tables, ours beside the printed numbers: CSV, Markdown, LaTeX."""
    from analysis import pieces
    from analysis.load import load

    out = out or home / "tables"
    written = pieces.write_tables([load(name, home) for name in dict.fromkeys(studies)], out)
    click.echo(f"tables: {len(written)} in {out}")


@main.command()
@click.argument("first")
@click.argument("second")
@_home_option
@_one_line_errors
def compare(first: str, second: str, home: Path) -> None:
    """Compare the configurations that two studies both completed, paired by seed."""
    from rich.console import Console
    from rich.table import Table

    from analysis import two_studies
    from analysis.load import load

    left, right = load(first, home), load(second, home)
    console = Console(highlight=False)
    changed = two_studies.file_differences(left, right)
    console.print("The common trials differ in:" if changed else "The common trials are the same.")
    for path, mine, other in changed:
        console.print(f"  {_plain(path)}: {_plain(mine) or '-'} -> {_plain(other) or '-'}")
    frame = two_studies.compare(left, right)
    if frame.empty:
        console.print("No configuration was completed by both on a common seed, so nothing can be compared.")
        return
    table = Table(caption=f"{_plain(right.name)} minus {_plain(left.name)}; 95% t interval paired by seed; p by Holm")
    for head in ("Configuration", "Recall@1", "First (%)", "Second (%)", "Difference (points)", "Seeds", "p"):
        table.add_column(head, justify="left" if head in ("Configuration", "Recall@1") else "right")
    where = {"value": "validation" if left.objective == "val_recall_at_1" else "test", "test_value": "test"}
    for row in frame.to_dict("records"):
        # NaN is unequal to itself: one seed gives neither interval nor p.
        ends = f" [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]" if row["low"] == row["low"] else ""
        p = f"{row['p_holm']:.3f}" if row["p_holm"] == row["p_holm"] else ""
        percent = [f"{100 * row[name]:.1f}" for name in ("first", "second")]
        difference = f"{100 * row['difference']:+.1f}{ends}"
        cells = [_plain(str(row["configuration"])), where[str(row["metric"])], *percent, _plain(difference)]
        table.add_row(*cells, str(row["seeds"]), p)
    console.print(table)


@main.command()
@_home_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The page (default: demo/report.html at home)."
)
@_one_line_errors
def demo(home: Path, out: Path | None) -> None:
    """Write the page that needs no run: theory, and what the thesis printed."""
    from analysis import demo as demos
    from analysis.report import write_page

    out = out or home / "demo" / "report.html"
    write_page(demos.build(), out)
    click.echo(f"page: {out}")


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
