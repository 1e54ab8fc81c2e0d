from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import ArgumentError

from search_spaces.load import ConfigError
from study.tracking.mlflow_store import (
    TrackingError,
    check_uri,
    client,
    has_tables,
    mlflow_errors,
    prepare,
    shown,
    sqlite_path,
)

ROOT = Path(__file__).parents[3]
PASSWORD = "hunter2"


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///studies/mlflow.db",
        "sqlite:////home/me/mlflow.db",
        "http://127.0.0.1:5000",
        "https://mlflow.example/path",
        "postgresql://me@database/mlflow",
        "postgresql+psycopg2://me@database:5432/mlflow?sslmode=require",
        "postgresql://me@db:5432/mlflow",
        "postgresql:///mlflow?host=/run/postgresql&passfile=/home/me/.pgpass&sslkey=/home/me/key.pem",
        "http://host:5000",
        "http://[::1]:5000",
        "sqlite:///a.db",
        "sqlite:////home/10:30@work/mlflow.db",
    ],
)
def test_a_uri_without_a_secret_is_taken(uri: str) -> None:
    assert check_uri(uri) == uri


@pytest.mark.parametrize(
    "uri",
    [
        f"postgresql://me:{PASSWORD}@database/mlflow",
        "postgresql://me:@database/mlflow",
        f"postgresql+psycopg2://database/mlflow?user=me&password={PASSWORD}",
        f"http://me:{PASSWORD}@127.0.0.1:5000",
        f"https://{PASSWORD}@mlflow.example",
        f"mysql+pymysql://me:{PASSWORD}@database/mlflow",
        f"https://mlflow.example/?access_token={PASSWORD}",
        f"postgresql://me:p#{PASSWORD}@db/x",
        f"postgresql://me:{PASSWORD}?w@db/x",
        f"postgresql://me:p/{PASSWORD}@db/x",
        f"postgresql://me:[{PASSWORD}@db/x",
        f"postgresql://me:{PASSWORD}]@db/x",
        f"postgresql://me:p@{PASSWORD}@db/x",
        f"postgresql://me:{PASSWORD}／w@db/x",
        f"postgresql://me：{PASSWORD}＠db/x",
        f"postgresql://me%3A{PASSWORD}@db/x",
        f"POSTGRESQL://me:{PASSWORD}@db/x",
        f"http://me:p#{PASSWORD}@h",
        f"http://me:{PASSWORD}／w@h",
        f"http://{PASSWORD}/w@h",
        f"http://h:5000/?passw%6Frd={PASSWORD}",
        f"http://h:5000/?api_key={PASSWORD}",
        f"http://h:5000/?X-Api-Key={PASSWORD}",
        f"http://h:5000/#token={PASSWORD}",
        f"http://h:5000/#/?token={PASSWORD}",
        f"http://h:5000/;pwd={PASSWORD}",
        f"mysql://db/x?ssl_mode=on;passwd={PASSWORD}",
        f"postgresql://db/x?sslpassword={PASSWORD}",
        f"postgresql://db/x?secret={PASSWORD}",
        f"postgresql://db/x?apikey={PASSWORD}",
        f"postgresql://db/x?aws_access_key_id={PASSWORD}",
        f"postgresql://db/x?dsn=postgresql%3A//me%3A{PASSWORD}%40db",
        f"sqlite+pysqlcipher://:{PASSWORD}@/a.db",
    ],
)
def test_a_uri_with_a_password_is_refused_in_one_line_that_does_not_repeat_it(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_uri(uri, "MLFLOW_TRACKING_URI")
    text = str(caught.value)
    assert text.startswith("MLFLOW_TRACKING_URI: holds a password")
    assert PASSWORD not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "uri",
    [
        f"http://me:{PASSWORD}",
        f"http://[{PASSWORD}",
        f"http://h／{PASSWORD}",
        f"http:me:{PASSWORD}@h",
        f"postgresql://me:{PASSWORD}",
        f"postgresql:me:{PASSWORD}@h",
        f"postgresql://h:{PASSWORD}/db",
        f"ftp://me:{PASSWORD}@h",
    ],
)
def test_what_no_parser_reads_is_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^--tracking-uri: no tracking URI; ") as caught:
        check_uri(uri)
    assert PASSWORD not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_no_message_prints_a_password_of_a_uri_that_nobody_checked() -> None:
    uri = f"postgresql://me:{PASSWORD}@h/db"
    assert shown(uri) == "postgresql://..."
    with pytest.raises(TrackingError, match=r"^MLflow at postgresql://...: ArgumentError$"), mlflow_errors(uri):
        raise ArgumentError(f"Could not parse {uri}")


@pytest.mark.parametrize(
    "uri", ["", "mlruns", "file:///tmp/mlruns", "databricks", "sqlite://", "sqlite:///", "sqlite://host/x.db"]
)
def test_what_is_no_store_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^--tracking-uri: "):
        check_uri(uri)


def test_an_sqlite_uri_names_its_file() -> None:
    assert sqlite_path("sqlite:////tmp/a%20b.db") == Path("/tmp/a b.db")
    assert sqlite_path("http://127.0.0.1") is None


def test_importing_tracking_imports_neither_mlflow_nor_pandas() -> None:
    modules = ["mirror", "mlflow_mirror", "mlflow_store", "mlflow_ui", "export", "flatten", "mlflow_runs"]
    program = "; ".join(f"import study.tracking.{name}" for name in modules)
    program += "; import sys; print([name for name in ('mlflow', 'pandas', 'scipy', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_database_and_its_folder_are_private(prepared_database: Path) -> None:
    assert has_tables(prepared_database)
    assert stat.S_IMODE(prepared_database.stat().st_mode) == 0o600
    assert stat.S_IMODE((prepared_database.parent / "mlartifacts").stat().st_mode) == 0o700


def test_a_file_that_is_gone_or_empty_has_no_tables(tmp_path: Path) -> None:
    assert not has_tables(tmp_path / "mlflow.db")
    (tmp_path / "mlflow.db").touch()
    assert not has_tables(tmp_path / "mlflow.db")


def test_a_place_that_cannot_hold_a_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrackingError, match=r"cannot be created \(File exists\); give another place$"):
        prepare(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")


def test_what_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database, surely" * 100)
    with pytest.raises(TrackingError, match=r"^MLflow at sqlite:[^\n]*file is not a database[^\n]*$"):
        prepare(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.mark.slow
def test_four_processes_may_use_a_fresh_database_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}"
    program = f"from study.tracking.mlflow_store import prepare; prepare({uri!r})"
    processes = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert has_tables(tmp_path / "home" / "mlflow.db")


def version(path: Path) -> str:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return str(database.execute("select version_num from alembic_version").fetchone()[0])


@pytest.mark.slow
def test_an_older_mlflows_database_is_migrated(tmp_path: Path, prepared_database: Path) -> None:
    path = tmp_path / "mlflow.db"
    older = (
        "import sys; from alembic import command; from mlflow.store.db import utils; "
        "from mlflow.store.tracking.dbmodels.initial_models import Base; "
        "engine = utils.create_sqlalchemy_engine(sys.argv[1]); Base.metadata.create_all(engine); "
        "command.upgrade(utils._get_alembic_config(sys.argv[1]), 'heads-1')"
    )
    subprocess.run([sys.executable, "-c", older, f"sqlite:///{path}"], capture_output=True, check=True)
    assert version(path) != version(prepared_database)
    prepare(f"sqlite:///{path}")
    assert version(path) == version(prepared_database)


@pytest.mark.slow
def test_a_newer_mlflows_database_is_left_as_it_is_with_a_copy(tmp_path: Path, prepared_database: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(prepared_database, path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("update alembic_version set version_num = 'of_the_future'")
        database.commit()
    with pytest.raises(
        TrackingError, match=rf"^{path}: MLflow could not migrate it [^\n]*of_the_future[^\n]*a copy is"
    ):
        prepare(f"sqlite:///{path}")
    copy = path.with_name("mlflow.db.before_upgrade")
    assert version(path) == version(copy) == "of_the_future"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_database_driver_that_is_missing_is_one_line() -> None:
    with (
        pytest.raises(TrackingError, match=r"^MLflow at mysql://h/db: needs the Python package MySQLdb; install it$"),
        mlflow_errors("mysql://h/db"),
    ):
        raise ModuleNotFoundError("No module named 'MySQLdb'", name="MySQLdb")


def test_a_database_server_that_is_down_is_told_before_mlflow_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("mlflow.MlflowClient", lambda tracking_uri: asked.append(tracking_uri))
    with pytest.raises(TrackingError) as caught:
        client("postgresql://mlflow@127.0.0.1:1/mlflow")
    assert str(caught.value).startswith("MLflow at postgresql://mlflow@127.0.0.1:1/mlflow: ")
    assert "refused" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert asked == []
    client("http://127.0.0.1:1")
    assert asked == ["http://127.0.0.1:1"], "a server's own answer says what is wrong"
