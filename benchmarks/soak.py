"""python -m benchmarks.soak: thousands of made-up trials through the driver: time, memory, files, resume.

Without Ray the driver alone is measured. With `--ray` the same trials run as `python -m study run` does, in
Ray's workers, which report and train nothing; MLflow and Optuna are told too; other processes are counted apart.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import psutil

from search_spaces.load import parse_study
from search_spaces.study_config import StudyConfig
from study.home import Home, Options
from study.ledger.read import read_study
from study.ledger.write import LedgerWriter
from study.records import DriverEvent, EpochResult, StudyEvent
from study.stages.shelf import NoStore, Shelf
from study.stages.tree import ANYWHERE
from study.tuning.driver import Driver
from study.tuning.session import run_session

from .machine import describe_machine
from .made_up import trial_fields
from .overhead import no_training

SLOTS = 4
MIB = 2**20


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
                memory = psutil.Process().memory_info().rss / MIB
                rows.append((len(driver.record.trials), time.perf_counter() - began, memory, files_in(folder)))
        ledger.append(DriverEvent(at=time.time(), what="closed", host="here", pid=1, note="stopped"))
    return rows


def soak_on_ray(home: Home, study_config: StudyConfig, step: int) -> list[tuple[int, float, Counter[str], int]]:
    """The same as a study of two workers; a row: trials, seconds, MiB by process, files of ours and Ray's."""
    temp = Path(tempfile.gettempdir())
    rows: list[tuple[int, float, Counter[str], int]] = []
    began = time.perf_counter()

    def watch(driver: Driver) -> None:
        if len(driver.record.trials) >= step * (len(rows) + 1):
            files = files_in(home.path) + sum(files_in(ray) for ray in temp.glob(f"study-ray-{os.getpid()}-*"))
            rows.append((len(driver.record.trials), time.perf_counter() - began, memory_by_process(), files))

    options = Options(home=home, data_dir=home.path, tracking_uri=home.mlflow_uri, cpus=2)
    run_session(study_config, "", options, resume=False, watch=watch, trainable=no_training)
    return rows


def memory_by_process() -> Counter[str]:
    """Memory that no other process shares, in MiB, of this process ("driver") and of all that it started, by name."""
    memory: Counter[str] = Counter()
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            name = "driver" if process == psutil.Process() else process.name().split("::")[0]
            memory[name] += round(process.memory_full_info().uss / MIB)
        except psutil.Error:
            continue  # ended meanwhile
    return memory


def files_in(folder: Path) -> int:
    """Number of files below `folder`."""
    return sum(path.is_file() for path in folder.rglob("*"))


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
@click.option("--ray", "with_ray", is_flag=True, help="In Ray's workers; without it, the driver alone.")
def main(trials: int, epochs: int, with_ray: bool) -> None:
    """Print a Markdown table."""
    study_config = a_search(trials, epochs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:  # MLflow may still be written to
        folder = Path(place) / "soak"
        if with_ray:
            logging.getLogger("mlflow").setLevel(logging.ERROR)
            on_ray = soak_on_ray(Home(Path(place)), study_config, trials // 5)
            kinds = sorted(set().union(*(memory for _, _, memory, _ in on_ray)))
            rows = [(number, at, [memory[kind] for kind in kinds], files) for number, at, memory, files in on_ray]
        else:
            kinds = ["resident"]
            rows = [
                (number, at, [round(memory)], files)
                for number, at, memory, files in soak(folder, study_config, trials // 5)
            ]
        size = (folder / "ledger.jsonl").stat().st_size
        seconds = resume_s(folder, study_config)
        epochs_done = sum(trial.epochs_done for trial in read_study(folder).trials.values())
    click.echo(describe_machine())
    click.echo(f"\n| trials | s so far | {' | '.join(f'{kind}, MiB' for kind in kinds)} | files |")
    click.echo("|---" * (len(kinds) + 3) + "|")
    for number, at, memory, files in rows:
        click.echo(f"| {number} | {at:.1f} | {' | '.join(map(str, memory))} | {files} |")
    click.echo(f"\n{epochs_done} epochs; ledger {size / MIB:.1f} MiB, {size / trials / 1024:.1f} KiB a trial; ")
    click.echo(f"resume: {seconds:.1f} s CPU")


if __name__ == "__main__":
    main()
