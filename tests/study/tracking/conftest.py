"""A prepared MLflow database, made once and copied, since its first use costs seconds."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from study.tracking.mlflow_store import prepare, sqlite_path

# MLflow's own modules use what SQLAlchemy 2.1 and others deprecate; nothing of ours can change that.
_FOREIGN = (
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",
    "ignore::DeprecationWarning:mlflow.*",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in _FOREIGN:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="session")
def prepared_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "mlflow.db"
    prepare(f"sqlite:///{path}")
    return path


@pytest.fixture
def uri(tmp_path: Path, prepared_database: Path) -> str:
    shutil.copy(prepared_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def dump(uri: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows that runs have in the database, by table."""
    tables = ("experiments", "runs", "tags", "params", "metrics", "latest_metrics")
    path = sqlite_path(uri)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return {table: sorted(database.execute(f"select * from {table}"), key=repr) for table in tables}


@pytest.fixture(name="dump")
def dump_fixture() -> Callable[[str], dict[str, list[tuple[Any, ...]]]]:
    return dump
