"""How long a report of a large study takes: python -m benchmarks.report [--trials N] [--epochs N].

The ledger is made up (benchmarks.made_up), its size is what matters. Last line: cold_s (first report of the ledger),
warm_s (again, with the cache), peak_mib (of the cold process).
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import click

from benchmarks.made_up import plan_config, write_plan


@click.command()
@click.option("--trials", default=10_000, show_default=True, help="Trials of the study (10 seeds a configuration).")
@click.option("--epochs", default=100, show_default=True, help="Epochs of each trial.")
def main(trials: int, epochs: int) -> None:
    """Measure a report cold and warm, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        started = time.perf_counter()
        # In a process of its own: a child's peak memory starts at its parent's, and writing needs more than reading.
        code = f"from benchmarks.report import make; make({str(home / 'large')!r}, {trials}, {epochs})"
        subprocess.run([sys.executable, "-c", code], check=True)
        size = (home / "large" / "ledger.jsonl").stat().st_size
        made_s = time.perf_counter() - started
        cold_s, cold_mib = _measure(home)
        warm_s, warm_mib = _measure(home)
        page = (home / "large" / "report.html").stat().st_size
    click.echo(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}", nl=False)
    click.echo("".join(f", {name} {version(name)}" for name in ("pandas", "plotly", "pydantic", "pyarrow")))
    click.echo(
        f"{max(1, trials // 10) * 10} trials x {epochs} epochs: ledger {size / 2**20:.0f} MiB, made in {made_s:.0f} s"
    )
    click.echo(f"cold  {cold_s:6.1f} s  {cold_mib:6.0f} MiB")
    click.echo(f"warm  {warm_s:6.1f} s  {warm_mib:6.0f} MiB")
    click.echo(f"page  {page / 2**20:6.1f} MiB")
    numbers = {"cold_s": round(cold_s, 2), "warm_s": round(warm_s, 2), "peak_mib": round(max(cold_mib, warm_mib))}
    click.echo(json.dumps(numbers))


def make(folder: str, trials: int, epochs: int) -> None:
    """Write the made-up ledger: `trials` / 10 scales on 10 seeds."""
    scales = [round(1 + 63 * place / max(1, trials // 10 - 1), 4) for place in range(max(1, trials // 10))]
    config = plan_config("large", seeds=list(range(10)), vary={"loss.scale.value": scales, "epochs": [epochs]})
    write_plan(Path(folder), config)


def _measure(home: Path) -> tuple[float, float]:
    """Wall-clock seconds and peak memory in MiB of one report in a fresh process."""
    code = (
        "import resource, sys; from analysis.cli import main; main(sys.argv[1:], standalone_mode=False); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    started = time.perf_counter()
    arguments = ["report", "large", "--home", str(home)]
    result = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return time.perf_counter() - started, int(result.stdout.splitlines()[-1]) / _RSS_UNIT


_RSS_UNIT = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss counts bytes on macOS, KiB on Linux

if __name__ == "__main__":
    main()
