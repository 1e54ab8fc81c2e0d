"""Seconds that a trial costs beyond its training: ledger, Optuna, MLflow and Ray together, beside plain Ray Tune.

Both sides run the same trials of `--epochs` reports that train nothing, on the same number of processors, in one go:
ours as `python -m study run` does, the other as a user of Ray Tune writes it, with its OptunaSearch and its
MLflowLoggerCallback on a SQLite store. A warm-up study starts the workers first; it is not counted.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import ray
from ray import tune
from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe_machine
from search_spaces.load import parse_study
from study.home import Home, Options
from study.records import EpochResult
from study.tuning.session import run_session
from study.tuning.worker import EpochReport

EPOCHS = 10


def no_training(config: dict[str, Any]) -> None:
    """A trial that reports and trains nothing."""
    for epoch in range(json.loads(config["job"])["trial"]["epochs"]):
        metrics = {"loss": 1.0 / (epoch + 1), "scale": 20.0, "lr": 1e-3, "val_recall_at_1": 0.5 + epoch / 100}
        result = EpochResult(epochs_done=epoch + 1, metrics=metrics, train_s=0.0, eval_s=0.0)
        tune.report({"report": EpochReport(result, {}, stands=False)})


def no_training_plain(config: dict[str, Any]) -> None:
    """The same for plain Ray Tune."""
    for epoch in range(EPOCHS):
        tune.report(
            {"loss": 1.0 / (epoch + 1), "scale": config["scale"], "lr": 1e-3, "val_recall_at_1": 0.5 + epoch / 100}
        )


def ours(trials: int, cpus: int, folder: Path) -> float:
    """Seconds for `trials` trials as a study of ours, MLflow complete at the end; a running Ray is reused."""
    study_config = parse_study(
        {
            "name": f"overhead-{trials}",
            "trial": {
                "dataset": {"kind": "glyphs"},
                "split": {"train_classes": 10, "val_classes": 5, "test_classes": 5},
                "loss": {"kind": "normalized_softmax", "scale": {"kind": "constant", "value": 20}},
                "epochs": EPOCHS,
            },
            "vary": {"loss.scale.value": {"kind": "float", "low": 1, "high": 64, "log": True}},
            "search": {"sampler": {"kind": "random"}, "max_trials": trials},
        },
        "overhead",
        "overhead",
    )
    home = Home(folder)
    options = Options(home=home, data_dir=folder, tracking_uri=home.mlflow_uri, cpus=cpus)
    started = time.perf_counter()
    outcome = run_session(study_config, "", options, resume=False, trainable=no_training)
    seconds = time.perf_counter() - started
    assert len(outcome.record.trials) == trials
    if outcome.mirror_error:
        raise click.ClickException(f"MLflow's view is behind: {outcome.mirror_error}")
    return seconds


def plain(trials: int, folder: Path) -> float:
    """Seconds for `trials` trials of Ray Tune with its own OptunaSearch and MLflow callback; needs a running Ray."""
    import mlflow
    import optuna
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    uri = f"sqlite:///{folder / 'plain.db'}"
    mlflow.set_tracking_uri(uri)
    started = time.perf_counter()
    tune.Tuner(
        tune.with_resources(no_training_plain, {"cpu": 1}),
        param_space=None,
        tune_config=tune.TuneConfig(
            num_samples=trials,
            reuse_actors=True,
            search_alg=OptunaSearch(
                space={"scale": optuna.distributions.FloatDistribution(1, 64, log=True)},
                metric="val_recall_at_1",
                mode="max",
                sampler=optuna.samplers.RandomSampler(seed=0),
            ),
        ),
        run_config=tune.RunConfig(
            name=f"plain-{trials}",
            storage_path=str(folder / "plain"),
            verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name=f"plain-{trials}")],
        ),
    ).fit()
    return time.perf_counter() - started


@click.command()
@click.option("--trials", "counts", multiple=True, type=int, default=(100,), show_default=True, help="Repeatable.")
@click.option("--cpus", default=2, show_default=True)
@click.option("--plain/--no-plain", "with_plain", default=True, show_default=True)
def main(counts: tuple[int, ...], cpus: int, with_plain: bool) -> None:
    """Measure, print a table, and as the last line one JSON object."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    console = Console()
    table = Table("trials", "ours, s", "ours, s a trial", "Ray Tune, s", "Ray Tune, s a trial")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours(2 * cpus, cpus, folder / "warm-up")
        empty = ours(1, cpus, folder / "empty")
        for trials in counts:
            mine = ours(trials, cpus, folder / "ours") - empty
            theirs = None
            if with_plain:
                ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
                try:
                    plain(2 * cpus, folder)
                    theirs = plain(trials, folder)
                finally:
                    ray.shutdown()
            table.add_row(
                str(trials),
                f"{mine:.1f}",
                f"{mine / trials:.3f}",
                "-" if theirs is None else f"{theirs:.1f}",
                "-" if theirs is None else f"{theirs / trials:.3f}",
            )
            result = {
                "trials": trials,
                "overhead_s_per_trial": round(mine / trials, 4),
                "ray_tune_s_per_trial": None if theirs is None else round(theirs / trials, 4),
            }
    console.print(describe_machine())
    console.print(
        f"{EPOCHS} reports a trial; ours less the time of a study of one trial ({empty:.1f} s: Ray's start, "
        "imports, MLflow's database)"
    )
    console.print(table)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
