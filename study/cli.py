"""python -m study: check, run, resume, status, verify, sync, export, ui, schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource

from search_spaces.load import ConfigError, load_study, parse_study, schema
from search_spaces.study_config import StudyConfig
from study.home import Home, Options
from study.ledger.lock import DriverLock, StudyLocked, is_driven
from study.ledger.read import LEDGER_NAME, LedgerError, read_study
from study.stopping import on_stop
from study.tracking.mlflow_store import TrackingError, check_uri

_HOME = click.option(
    "--home",
    envvar="STUDY_HOME",
    default="studies",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that holds all studies (or STUDY_HOME).",
)
_DATA = click.option(
    "--data",
    envvar="STUDY_DATA",
    default="data",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that holds downloaded data sets (or STUDY_DATA).",
)
_TRACKING = click.option(
    "--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow's store; by default mlflow.db in the home folder."
)
_CPUS = click.option("--cpus", type=click.IntRange(1), help="Processors to use; by default all.")
_GPUS = click.option("--gpus", type=click.IntRange(0), help="GPUs to use; by default all, if trials use any.")
_ADDRESS = click.option(
    "--address", help="Run on the Ray cluster at HOST:PORT, of which this machine is a node (docs/cluster.md)."
)
_SEPARATE = click.option(
    "--separate", is_flag=True, help="Train every trial from its first epoch; the results are the same."
)
_FILE = click.argument("file", type=click.Path(path_type=Path))
_NAME = click.argument("name", metavar="STUDY")


def _clean_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a person did wrong, and what is wrong on the disk, is told in one line each, with exit code 2."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(problem, err=True)
        except (LedgerError, StudyLocked, TrackingError) as error:
            click.echo(str(error), err=True)
        except OSError as error:
            if error.filename is None or error.strerror is None:
                raise
            click.echo(f"{error.filename}: {error.strerror}; mend that, or name another place", err=True)
        sys.exit(2)

    return guarded


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Hyperparameter studies in deep metric learning, from a YAML file to a report.

    Exit codes: 0 done; 2 a fault in what was given, named in one line; 129, 130, 143 stopped by the end of the
    terminal, Ctrl-C, SIGTERM, each with the line that resumes; 1 from verify, where something differs.
    """
    os.umask(0o077)  # nothing that a study writes is for others


@main.command()
@_FILE
@_CPUS
@click.option("--measure", is_flag=True, help="Load the data and time two short epochs here; nothing is recorded.")
@_HOME
@_DATA
@_clean_errors
def check(file: Path, cpus: int | None, measure: bool, home: Path, data: Path) -> None:
    """Validate FILE and print its plan: trials, epochs, cost. Runs nothing, but with --measure."""
    from study.plan import describe, measured_epoch

    study_config = load_study(file)
    epoch_s = measured_epoch(study_config, data, Home(home).cache) if measure else None
    for line in describe(study_config, cpus or os.cpu_count() or 1, epoch_s):
        click.echo(line)


def _checked_uri(tracking_uri: str | None, home: Home) -> str:
    """Where MLflow's runs stand. Raises: ConfigError, which names the option or the variable."""
    source = click.get_current_context().get_parameter_source("tracking_uri")
    where = "MLFLOW_TRACKING_URI" if source is ParameterSource.ENVIRONMENT else "--tracking-uri"
    return check_uri(tracking_uri or home.mlflow_uri, where)


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where and how to run, gathered from the command line into `options`."""

    @_HOME
    @_DATA
    @_TRACKING
    @_CPUS
    @_GPUS
    @_ADDRESS
    @_SEPARATE
    @wraps(command)
    def gathered(
        *args: Any,
        home: Path,
        data: Path,
        tracking_uri: str | None,
        cpus: int | None,
        gpus: int | None,
        address: str | None,
        separate: bool,
        **kwargs: Any,
    ) -> Any:
        place = Home(home)
        uri = _checked_uri(tracking_uri, place)
        if address is not None and (cpus is not None or gpus is not None):
            raise ConfigError("--address: the cluster says what its nodes have; leave --cpus and --gpus out")
        options = Options(
            place, data_dir=data, tracking_uri=uri, cpus=cpus, gpus=gpus, share=not separate, address=address
        )
        return command(*args, options=options, **kwargs)

    return gathered


@main.command()
@_FILE
@click.option("--max-trials", type=click.IntRange(1), help="A search's budget in trials, in place of the file's.")
@_clean_errors
@_with_options
def run(file: Path, max_trials: int | None, options: Options) -> None:
    """Run the study that FILE describes, then write its report."""
    study_config = load_study(file)
    if max_trials is not None:
        if study_config.search is None:
            raise ConfigError("--max-trials: the study has no search; its plan is its cases, grid and seeds")
        study_config = study_config.replace(search=study_config.search.replace(max_trials=max_trials))
    _run(study_config, file.read_text(encoding="utf-8"), options, resume=False)


@main.command()
@_NAME
@click.option("--file", type=click.Path(path_type=Path), help="The study file, with a larger budget or more seeds.")
@_clean_errors
@_with_options
def resume(name: str, file: Path | None, options: Options) -> None:
    """Go on with a study that was stopped or killed, or whose budget grew."""
    record = read_study(options.home.existing(name))
    assert record.study is not None
    if file is None:
        study_config, source = parse_study(record.config_json, name, name), record.study.source
        if study_config.name != name:
            place = options.home.folder(name)
            raise ConfigError(f"{place}: holds the study {study_config.name}; give the folder that name again")
    else:
        study_config, source = load_study(file), file.read_text(encoding="utf-8")
        if study_config.name != name:
            raise ConfigError(f"{file}: describes {study_config.name}, not {name}; set `name: {name}`")
    _run(study_config, source, options, resume=True)


class _Signalled(KeyboardInterrupt):
    """A signal came while there was nothing to stop cleanly: before the first trial, or after the last."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _raise_signalled(number: int, frame: FrameType | None) -> None:
    raise _Signalled(number)


def _run(study_config: StudyConfig, source: str, options: Options, *, resume: bool) -> None:
    if options.address is not None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "1"  # Ray reads it at import: it may listen beyond loopback
    on_stop(_raise_signalled)
    name = study_config.name
    try:
        stopped_by = _run_and_report(study_config, source, options, resume=resume)
    except _Signalled as signalled:
        stopped_by = signalled.number
    on_stop(lambda number, frame: None)  # what is left is a line and the exit code
    if stopped_by is not None:
        begun = (options.home.folder(name) / LEDGER_NAME).exists()
        click.echo(
            f"stopped; go on with `{options.command('resume', name)}`" if begun else "stopped; nothing was begun"
        )
        sys.exit(128 + stopped_by)


def _run_and_report(study_config: StudyConfig, source: str, options: Options, *, resume: bool) -> int | None:
    """The signal that stopped the study, None if none did."""
    from rich.console import Console

    from study.console import Watch
    from study.tuning.session import run_session

    options.home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    with Watch(Console()).running() as watch:
        outcome = run_session(study_config, source, options, resume=resume, watch=watch)
    behind = outcome.mirror_error
    if outcome.stopped_by is None:
        behind = _report(study_config.name, options, behind)
    if behind:
        click.echo(
            f"MLflow's view is behind ({behind}); complete it with `{options.command('sync', study_config.name)}`",
            err=True,
        )
    if outcome.stopped_by is None:
        click.echo(f"MLflow:  {options.command('ui')}")
    return outcome.stopped_by


def _report(name: str, options: Options, behind: str) -> str:
    """Write the report, with links into MLflow, and give MLflow report and kept weights.

    behind: why MLflow is to be left alone, empty if it is not. Returns it, or why MLflow took none of these.
    """
    from study.tracking.links import keep_links
    from study.tracking.mlflow_mirror import log_artifact

    folder, uri = options.home.folder(name), options.tracking_uri
    if not behind:
        try:
            keep_links(folder, uri)
        except TrackingError as error:
            behind = str(error)
    report = [sys.executable, "-m", "analysis", "report", name, "--home", str(options.home.path)]
    if subprocess.run(report, check=False).returncode == 0 and not behind:
        try:
            for path in (folder / "report.html", *sorted((folder / "weights").glob("*"))):
                log_artifact(uri, name, path)
        except TrackingError as error:
            behind = str(error)
    return behind


@main.command()
@click.argument("name", metavar="[STUDY]", required=False)
@_HOME
@_clean_errors
def status(name: str | None, home: Path) -> None:
    """Say how STUDY stands, or all studies."""
    from rich.console import Console

    from study.console import progress, trial_table

    place, damaged = Home(home), False
    for each in [name] if name else place.names():
        try:
            record = read_study(place.existing(each))
        except LedgerError as error:
            click.echo(str(error), err=True)
            damaged = True
            continue
        config = record.config
        done, total = progress(record, config.trial.epochs)
        live = is_driven(place.folder(each))
        counts = Counter(trial.status.value for trial in record.trials.values())
        if not live and "running" in counts:
            counts["interrupted"] = counts.pop("running")
        words = ", ".join(f"{count} {status}" for status, count in counts.items())
        state = "running" if live else "finished" if record.finished else "unfinished"
        click.echo(f"{each}: {state}; {done} of {total} epochs; {words}")
        if name:
            Console().print(trial_table(record, config.trial.objective, live=live))
    if not name and not place.names():
        click.echo(f"{home}: no study yet; start one with `python -m study run FILE`")
    if damaged:
        sys.exit(2)


@main.command()
@_NAME
@_HOME
@_TRACKING
@_clean_errors
def sync(name: str, home: Path, tracking_uri: str | None) -> None:
    """Build MLflow's view of STUDY from its ledger; a second time changes nothing."""
    from study.tracking.links import keep_links
    from study.tracking.mlflow_mirror import sync as sync_mlflow

    place = Home(home)
    uri = _checked_uri(tracking_uri, place)
    folder = place.existing(name)
    with DriverLock(folder):
        counts = sync_mlflow(folder, uri)
        keep_links(folder, uri)
    made, gone, metrics = counts.runs_created, counts.runs_removed, counts.metrics_logged
    click.echo(f"{name}: {made} runs made, {gone} removed, {metrics} metrics logged")


@main.command()
@_NAME
@_HOME
@_TRACKING
@_clean_errors
def verify(name: str, home: Path, tracking_uri: str | None) -> None:
    """Say where STUDY's ledger, Optuna's study and MLflow differ; exit code 1 if they do."""
    from study.tracking.mlflow_mirror import verify as verify_mlflow
    from study.tuning.verify import verify_optuna

    place = Home(home)
    uri = _checked_uri(tracking_uri, place)
    folder = place.existing(name)
    differences = [*verify_optuna(folder), *verify_mlflow(folder, uri)]
    for difference in differences:
        click.echo(difference)
    if differences:
        sys.exit(1)
    click.echo(f"{name}: ledger, Optuna and MLflow agree")


@main.command()
@_NAME
@_HOME
@click.option(
    "--to", "target", type=click.Path(path_type=Path, file_okay=False), help="Folder; by default STUDY's own."
)
@click.option("--weights", is_flag=True, help="The networks of confirmed winners too, with the line that loads each.")
@_clean_errors
def export(name: str, home: Path, target: Path | None, weights: bool) -> None:
    """Write STUDY's trials and epochs as parquet and CSV."""
    from study.tracking.export import export as write

    folder = Home(home).existing(name)
    target = target or folder / "export"
    for path in write(folder, target):
        click.echo(path)
    if weights:
        _export_weights(name, folder, target)


def _export_weights(name: str, folder: Path, target: Path) -> None:
    from study.data.build import image_shape
    from study.stages.store import StageDamaged, StageStore
    from study.training.weights import export_weights

    kept = sorted((folder / "weights").glob("*"))
    if not kept:
        raise ConfigError(f"{name}: no weights are kept; a search keeps those of the winners that it confirms")
    trials, store = read_study(folder).trials, StageStore(folder / "weights")
    for path in kept:
        trial = trials[int(path.stem)]
        words = f"{trial.trial.configuration} seed {trial.trial.seed}"
        written = target / "weights" / f"{path.stem}.pt"
        try:
            export_weights(store.load(path.stem), written, trial.config, image_shape(trial.config.dataset))
        except StageDamaged as error:
            raise ConfigError(f"{error}; restore it from a copy, or delete it") from error
        click.echo(f'{written}: {words}; study.training.weights.load_network("{written}")')


@main.command()
@_HOME
@_TRACKING
@click.option("--port", type=click.IntRange(1, 65535), help="By default 5000, or a free one where that is in use.")
@_clean_errors
def ui(home: Path, tracking_uri: str | None, port: int | None) -> None:
    """Open MLflow's UI on the studies' store, on this machine only."""
    from study.tracking.mlflow_ui import serve

    serve(_checked_uri(tracking_uri, Home(home)), port=port)


@main.command(name="schema")
def print_schema() -> None:
    """Print the JSON schema of a study file, for editors."""
    click.echo(json.dumps(schema(), indent=1))
