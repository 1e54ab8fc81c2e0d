"""The thesis's programme with its shared epochs trained once, and with every run trained anew, one after the other.

All its cases at D = 64 (Sato 2021, chapters 4 and 5) with phases of `--phase` epochs ask for 38p epochs a seed; sharing
trains 24p - 5. The three runs that the thesis trained twice are asked for twice here too. Both ways end with the same
numbers, which is checked.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from search_spaces.study_config import StudyConfig
from study.data.build import load_trial_data
from study.home import Home, Options
from study.ledger.read import StudyRecord
from study.stages.store import StageStore
from study.training.train import Trainer
from study.tuning.session import run_session


def programme(p: int, seeds: int, classes: int) -> StudyConfig:
    """The thesis's runs on glyphs with phases of `p` epochs."""
    ramp = {"start": 20, "first_epoch": p, "epochs": p}

    def case(name: str, epochs: int, **scale: Any) -> dict[str, Any]:
        return {"name": name, "overrides": {"epochs": epochs, "loss.scale": scale}}

    def ramp_case(name: str, epochs: int, kind: str, end: float) -> dict[str, Any]:
        return {"name": name, "overrides": {"epochs": epochs, "loss.scale": {"kind": kind, "end": end, **ramp}}}

    from_start = {"kind": "linear", "start": 20, "end": 5, "first_epoch": 0, "epochs": p}
    cases = [
        *(case(f"exp1 constant {s}", 2 * p, kind="constant", value=s) for s in (1, 3, 6.5, 10, 15, 20, 30)),
        case("exp2 constant 20", 2 * p, kind="constant", value=20),
        *(ramp_case(f"exp2 linear to {b}", 2 * p, "linear", b) for b in (10, 5, 2.5)),
        ramp_case("exp3 linear to 5", 3 * p, "linear", 5),
        case("exp3 switch to 5", 3 * p, kind="switch", before=20, after=5, switch_epoch=p),
        case("5.1 constant 6.5", p, kind="constant", value=6.5),
        ramp_case("5.1 linear to 5", 2 * p, "linear", 5),
        {"name": "5.2 linear from the start", "overrides": {"epochs": 2 * p, "loss.scale": from_start}},
        ramp_case("5.2 linear to 5", 2 * p, "linear", 5),
        ramp_case("5.3 quadratic to 5", 3 * p, "quadratic", 5),
    ]
    raw = {
        "name": "programme",
        "trial": {
            "dataset": {"kind": "glyphs"},
            "split": {"train_classes": classes, "val_classes": 50, "test_classes": 100},
            "loss": {"kind": "soft_triple", "scale": {"kind": "constant", "value": 20}},
            "epochs": 2 * p,
        },
        "seeds": list(range(seeds)),
        "cases": cases,
    }
    return StudyConfig.model_validate_json(json.dumps(raw))


def measure(study_config: StudyConfig, folder: Path, cpus: int, *, share: bool) -> tuple[float, StudyRecord]:
    """Wall-clock seconds of a whole session (Ray's start included), and the study that it recorded."""
    home = Home(folder)
    options = Options(home=home, data_dir=folder, tracking_uri=home.mlflow_uri, cpus=cpus, share=share)
    started = time.perf_counter()
    outcome = run_session(study_config, "", options, resume=False)
    return time.perf_counter() - started, outcome.record


def restore_seconds(record: StudyRecord, folder: Path) -> tuple[float, float]:
    """Seconds to read, check and take over a stored state, and of a trained epoch (medians): what a branch costs."""
    trial = record.trials[0].config
    place = Home(folder).cache
    trainer = Trainer(trial, 0, load_trial_data(trial, folder, place))
    store = StageStore(folder / "restore")
    store.save("state", trainer.state(), {})
    times = []
    for _ in range(9):
        started = time.perf_counter()
        trainer.load_state(store.load("state"))
        times.append(time.perf_counter() - started)
    epochs = [
        event.result.train_s + event.result.eval_s
        for each in record.trials.values()
        for event in each.epochs.values()
        if not event.result.inherited
    ]
    return statistics.median(times), statistics.median(epochs)


def trained(record: StudyRecord) -> int:
    """Epochs that a worker trained."""
    return sum(not event.result.inherited for trial in record.trials.values() for event in trial.epochs.values())


def results(record: StudyRecord) -> dict[tuple[str, int], list[dict[str, float]]]:
    """Every metric of every epoch, by configuration and seed."""
    return {
        (trial.trial.configuration, trial.trial.seed): [result.metrics for result in trial.results]
        for trial in record.trials.values()
    }


@click.command()
@click.option("--phase", default=10, show_default=True, help="Epochs of a phase (the thesis: 50).")
@click.option("--seeds", default=2, show_default=True)
@click.option("--classes", default=100, show_default=True, help="Training classes.")
@click.option("--cpus", default=2, show_default=True)
def main(phase: int, seeds: int, classes: int, cpus: int) -> None:
    """Measure, print a table, and as the last line one JSON object."""
    study_config = programme(phase, seeds, classes)
    with tempfile.TemporaryDirectory() as name:
        shared_s, shared = measure(study_config, Path(name) / "shared", cpus, share=True)
        separate_s, separate = measure(study_config, Path(name) / "separate", cpus, share=False)
        restore_s, epoch_s = restore_seconds(separate, Path(name) / "separate")
    epochs_shared, epochs_separate = trained(shared), trained(separate)
    equal = results(shared) == results(separate)
    console = Console()
    console.print(describe_machine())
    table = Table("", "epochs trained", "wall-clock s")
    table.add_row("shared", str(epochs_shared), f"{shared_s:.1f}")
    table.add_row("separate", str(epochs_separate), f"{separate_s:.1f}")
    table.add_row("ratio", f"{epochs_shared / epochs_separate:.3f}", f"{shared_s / separate_s:.3f}")
    console.print(table)
    console.print(
        f"phase p = {phase}: 24p - 5 = {24 * phase - 5} of 38p = {38 * phase} epochs a seed, {seeds} seeds; "
        f"all metrics of all epochs {'are equal' if equal else 'DIFFER'}"
    )
    console.print(
        f"restoring a stage takes {1000 * restore_s:.1f} ms, {100 * restore_s / epoch_s:.1f} % of an epoch "
        f"({1000 * epoch_s:.0f} ms)"
    )
    print(
        json.dumps(
            {
                "epochs_shared": epochs_shared,
                "epochs_separate": epochs_separate,
                "wall_shared_s": round(shared_s, 1),
                "wall_separate_s": round(separate_s, 1),
                "equal": equal,
                "restore_s": round(restore_s, 4),
                "epoch_s": round(epoch_s, 4),
            }
        )
    )
    if not equal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
