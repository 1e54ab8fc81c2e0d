from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from study.records import LINKS_NAME, MlflowLinks
from study.tracking.links import keep_links
from study.tracking.mlflow_mirror import sync


def test_every_trial_of_the_ledger_has_the_address_of_its_run(
    tmp_path: Path, uri: str, make_study: Callable[..., Any]
) -> None:
    folder = tmp_path / "made_up"
    make_study(folder).whole()
    sync(folder, uri)
    keep_links(folder, uri)
    links = MlflowLinks.model_validate_json((folder / LINKS_NAME).read_bytes())
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("made_up").experiment_id
    runs = {run.data.tags["ledger_run"]: run.info.run_id for run in client.search_runs([experiment])}
    assert set(links.runs) == {"study", *(f"trial {number}" for number in range(6))}
    assert links.of_trial(3) == f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{runs['trial 3']}"
    assert links.of_study.endswith(f"/runs/{runs['study']}")
    assert links.of_trial(6) == ""


def test_a_study_that_mlflow_does_not_hold_has_no_links(
    tmp_path: Path, uri: str, make_study: Callable[..., Any]
) -> None:
    folder = tmp_path / "made_up"
    make_study(folder).whole()
    sync(folder, uri)
    MlflowClient(uri).rename_experiment(MlflowClient(uri).get_experiment_by_name("made_up").experiment_id, "other")
    keep_links(folder, uri)
    assert not (folder / LINKS_NAME).exists()
