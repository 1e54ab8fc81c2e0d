"""python -m analysis: what studies mean. pandas and plotly load inside the commands, so that --help answers at once."""

from __future__ import annotations

import functools
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
        from study.ledger.read import LedgerError

        try:
            return command(*args, **kwargs)
        except (NoSuchStudy, LedgerError) as error:
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
