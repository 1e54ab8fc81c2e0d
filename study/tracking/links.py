"""Which MLflow run tells which trial, kept beside the ledger so that a report can link to it without asking MLflow."""

from __future__ import annotations

import itertools
from pathlib import Path

from study.ledger.read import LEDGER_NAME, read_events
from study.ledger.write import write_atomic
from study.records import LINKS_NAME, MlflowLinks
from study.tracking.mlflow_mirror import find_runs
from study.tracking.mlflow_runs import StudyRuns
from study.tracking.mlflow_store import client, mlflow_errors
from study.tracking.mlflow_ui import LOCAL_ADDRESS


def keep_links(folder: Path, uri: str) -> None:
    """Write `folder`/mlflow.json: the UI's address, the experiment's id, run ids by 'study' and 'trial <number>'.

    The address of a local store is the one at which `study ui` serves it where that port is free.
    Raises: LedgerError, ConfigError, TrackingError.
    """
    runs = StudyRuns()
    for event in itertools.islice(read_events(folder / LEDGER_NAME), 1):
        runs.apply(event)
    mlflow = client(uri)
    with mlflow_errors(uri):
        experiment = mlflow.get_experiment_by_name(runs.name)
        if experiment is None:
            return
        found = {
            run.data.tags["ledger_run"]: run.info.run_id
            for run in find_runs(mlflow, experiment.experiment_id, runs.ledger_id)
        }
    links = MlflowLinks(
        server=uri if uri.startswith("http") else LOCAL_ADDRESS,
        experiment=experiment.experiment_id,
        runs={key: run_id for key, run_id in found.items() if key == "study" or key.startswith("trial ")},
    )
    write_atomic(folder / LINKS_NAME, links.model_dump_json().encode())
