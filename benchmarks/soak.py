"""python -m benchmarks.soak: thousands of made-up trials through the driver, without Ray: time, memory, resume."""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import click

from search_spaces.load import parse_study
from search_spaces.study_config import StudyConfig
from study.ledger.read import read_study
from study.ledger.write import LedgerWriter
from study.records import DriverEvent, EpochResult, StudyEvent
from study.stages.shelf import NoStore, Shelf
from study.stages.tree import ANYWHERE
from study.tuning.driver import Driver

from .machine import describe_machine
from .made_up import trial_fields

SLOTS = 4


def a_search(trials: int, epochs: int) -> StudyConfig:
    """A random search with ASHA over two ranges."""
    raw = {
        "trial": trial_fields(epochs=epochs),
        "vary": {
            "loss.scale.value": {"kind": "float", "low": 1, "high": 64, "log": True},
            "optimizer.lr": {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True},
        },
        "search": {"sampler": {"kind": "random"}, "scheduler": {"kind": "asha"}, "max_trials": trials},
    }
    return parse_study(raw, "soak", "soak")


def soak(folder: Path, study_config: StudyConfig, step: int) -> list[tuple[int, float, float, int]]:
    """Run a search to its end; per `step` trials their number, seconds so far, resident MiB, files in `folder`."""
    rows: list[tuple[int, float, float, int]] = []
    began = time.perf_counter()
    with LedgerWriter(folder) as ledger:
        config = study_config.model_dump(mode="json", by_alias=True)
        ledger.append(StudyEvent(at=time.time(), config=config, source="", versions={}, git_commit=None, machine={}))
        driver = Driver(study_config, ledger, ANYWHERE, Shelf(NoStore()))
        working: list[tuple[int, int]] = []
        while True:
            while len(working) < SLOTS and (job := driver.next_job("made-up")) is not None:
                working.append((job.number, job.start))
            if not working:
                break
            number, done = working.pop(0)
            value = (number * 7919 % 1000) / 1000 * (1 - 0.5 ** (done + 1))
            result = EpochResult(
                epochs_done=done + 1, metrics={"loss": 1.0, "val_recall_at_1": value}, train_s=1.0, eval_s=0.1
            )
            if driver.on_epoch(number, result, {}, stands=False):
                working.append((number, done + 1))
            else:
                driver.on_exit(number, None)
            if len(driver.record.trials) >= step * (len(rows) + 1):
                files = sum(path.is_file() for path in folder.rglob("*"))
                rows.append((len(driver.record.trials), time.perf_counter() - began, resident_mib(), files))
        ledger.append(DriverEvent(at=time.time(), what="closed", host="here", pid=1, note="stopped"))
    return rows


def resident_mib() -> float:
    """Memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def resume_s(folder: Path, study_config: StudyConfig) -> float:
    """CPU seconds of this process until a driver that takes the study up knows what is left to do."""
    began = time.process_time()
    with LedgerWriter(folder) as ledger:
        driver = Driver(study_config, ledger, ANYWHERE, Shelf(NoStore()))
        assert driver.next_job("made-up") is None
    return time.process_time() - began


@click.command()
@click.option("--trials", default=5000, show_default=True, type=click.IntRange(10))
@click.option("--epochs", default=9, show_default=True, type=click.IntRange(2))
def main(trials: int, epochs: int) -> None:
    """Print a Markdown table."""
    study_config = a_search(trials, epochs)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "soak"
        rows = soak(folder, study_config, trials // 5)
        size = (folder / "ledger.jsonl").stat().st_size
        seconds = resume_s(folder, study_config)
        epochs_done = sum(trial.epochs_done for trial in read_study(folder).trials.values())
    click.echo(describe_machine())
    click.echo("\n| trials | s so far | resident MiB | files |\n|---|---|---|---|")
    for number, at, memory, files in rows:
        click.echo(f"| {number} | {at:.1f} | {memory:.0f} | {files} |")
    click.echo(f"\n{epochs_done} epochs; ledger {size / 2**20:.1f} MiB, {size / trials / 1024:.1f} KiB a trial; ")
    click.echo(f"resume: {seconds:.1f} s CPU")


if __name__ == "__main__":
    main()
