"""python -m tests.faults --seeds N: run the fault simulator on many seeds and say what befell them."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from .seeds import play
from .simulator import Wrong


@click.command()
@click.option("--seeds", default=2000, show_default=True, type=click.IntRange(1))
@click.option("--first", default=0, show_default=True, type=click.IntRange(0))
def main(seeds: int, first: int) -> None:
    """Play SEEDS seeds; exit code 1 and the line that replays it for each that broke a promise."""
    befell: Counter[str] = Counter()
    wrong = 0
    began = time.monotonic()
    for seed in range(first, first + seeds):
        with tempfile.TemporaryDirectory() as folder:
            try:
                befell.update(
                    " ".join(words for words in event.split(": ")[0].split()[:3]) for event in play(seed, Path(folder))
                )
            except Wrong as error:
                wrong += 1
                click.echo(f"seed {seed}: {error}")
    click.echo(f"{seeds} seeds from {first}: {wrong} wrong, in {time.monotonic() - began:.0f} s; {dict(befell)}")
    raise SystemExit(bool(wrong))


main()
