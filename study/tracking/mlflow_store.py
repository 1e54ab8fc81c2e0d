"""MLflow's client, set up to be quiet and impatient, and its database, created before anybody uses it."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from search_spaces.load import ConfigError
from study.ledger.write import make_private
from study.words import in_one_line

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds, not 120: the ledger holds everything, so a slow server may wait
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the mirror tries again itself
    "MLFLOW_TRUNCATE_LONG_VALUES": "false",  # refuse what is too long; we shorten with a mark
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a server would get two lines for each run
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # it prints tracebacks of faults that we report in a line
    # With a pool, a connection would outlive the deletion of its database and write to nowhere.
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
}
_PATIENCE_S = 120
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql")
_SECRET_NAME = re.compile(
    "passw|passphrase|passcode|pwd|token|secret|credential|apikey|accesskey|privatekey|^(pass|key|auth)$"
)


class TrackingError(Exception):
    """MLflow cannot be used, or says no. One line."""


def check_uri(uri: str, where: str = "--tracking-uri") -> str:
    """`uri`, if MLflow can be reached by it and it holds no password; `where` it was given stands in the message.

    Raises: ConfigError, which never repeats the URI.
    """
    scheme, _, rest = uri.partition("://")
    scheme = scheme.lower().split("+")[0]
    if scheme in _SCHEMES and holds_secret(uri):
        raise ConfigError(
            f"{where}: holds a password, which would end up in logs; leave it out and set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD (a server), PGPASSWORD or ~/.pgpass (PostgreSQL)"
        )
    if scheme not in _SCHEMES or (scheme != "sqlite" and not _can_be_read(uri, scheme)):
        raise ConfigError(
            f"{where}: no tracking URI; give sqlite:///<file>, http(s)://<host>:<port> or postgresql://..."
        )
    if scheme == "sqlite" and not re.match(r"/[^?#]", rest):
        raise ConfigError(f"{where}: names no file; give sqlite:///<file>")
    return uri


def holds_secret(uri: str) -> bool:
    """Whether `uri` holds what may be a password; in doubt it does.

    No parser is asked: they disagree on where a password with `#`, `?`, `/`, `[` or a letter that Unicode folds into
    one of them ends, or raise errors that repeat it.
    """
    scheme, _, rest = unquote(unicodedata.normalize("NFKC", uri)).partition("://")
    before_at, at, _ = rest.rpartition("@")
    is_path = scheme.lower() == "sqlite" and rest.startswith("/")
    if at and not is_path and (":" in before_at or scheme.lower().startswith("http")):
        return True
    _, *settings = re.split(r"[?#&;]", rest)
    names = [unquote(setting.partition("=")[0]).lower() for setting in settings if "=" in setting]
    return any(_SECRET_NAME.search(re.sub(r"[^a-z]", "", name)) for name in names)


def shown(uri: str) -> str:
    """`uri` as a message may print it, whoever made it."""
    return f"{uri.partition('://')[0]}://..." if holds_secret(uri) else uri


def _can_be_read(uri: str, scheme: str) -> bool:
    """Whether those who will use `uri` understand it: their own errors would repeat all of it."""
    if scheme in ("http", "https"):
        try:
            parts = urlsplit(uri)
            return bool(parts.hostname) and parts.port != 0  # asking for the port reads it
        except ValueError:
            return False
    from sqlalchemy.engine import make_url  # half a second, so only where a database server is named
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri).password is None
    except (ValueError, ArgumentError):
        return False


def sqlite_path(uri: str) -> Path | None:
    """The file of an sqlite URI, None for others."""
    return Path(unquote(uri.removeprefix("sqlite:///"))) if uri.startswith("sqlite:///") else None


def artifact_root(beside: Path) -> Path:
    """Where artifacts lie: beside the sqlite file that holds the experiments, or a study's folder where none does."""
    return beside.resolve().parent / "mlartifacts"


def prepare(uri: str) -> None:
    """Create or migrate the database at `uri`; call it in the foreground before anything else uses the database.

    Several processes that use a fresh sqlite file at once fail, so this takes a lock beside it. 3 to 9 s for a new
    database, 1 s for one that stands; nothing for a server. Raises: ConfigError, TrackingError.
    """
    check_uri(uri)
    path = sqlite_path(uri)
    if path is None:
        return
    try:
        make_private(artifact_root(path))
        with FileLock(f"{path}.lock", timeout=_PATIENCE_S, mode=0o600), mlflow_errors(uri):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            quiet()
            from mlflow.exceptions import MlflowException
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            try:
                SqlAlchemyStore(uri, artifact_root(path).as_uri())
            except MlflowException as error:
                if "out-of-date" not in str(error):
                    raise
                _migrate(uri, path)
    except Timeout as error:
        raise TrackingError(f"{path}: another process has been preparing it for {_PATIENCE_S} s; end it") from error
    except OSError as error:
        raise TrackingError(f"{path}: cannot be created ({error.strerror}); give another place") from error


def _migrate(uri: str, path: Path) -> None:
    """Bring an older MLflow's database up to date, a copy of it kept beside it."""
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(f"{path}.before_upgrade")) as copy:
        old.backup(copy)
    Path(f"{path}.before_upgrade").chmod(0o600)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise TrackingError(f"{path}: MLflow could not migrate it ({last}); a copy is {path}.before_upgrade")


def has_tables(path: Path) -> bool:
    """Whether the sqlite file `path` still is an MLflow database."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=1)) as database:
            return bool(database.execute("select 1 from sqlite_master where name = 'experiments'").fetchall())
    except sqlite3.OperationalError as error:
        return "locked" in str(error)  # somebody is at work in it; nothing says that it is gone


def quiet() -> None:
    """Import MLflow with our settings, where the user has not chosen others."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401 - a second or two, so only when it is needed

    for logger in ("mlflow", "alembic"):
        logging.getLogger(logger).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])


def client(uri: str) -> Any:
    """MLflow's client for `uri`. Raises: ConfigError, TrackingError."""
    check_uri(uri)
    with mlflow_errors(uri):
        quiet()
        from mlflow import MlflowClient

        if sqlite_path(uri) is None and not uri.lower().startswith("http"):
            _knock(uri)
        return MlflowClient(tracking_uri=uri)


def _knock(uri: str) -> None:
    """Connect to a database server once; where nobody answers MLflow tries for two minutes. Raises: SQLAlchemyError."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turns what MLflow raises (its own, SQLAlchemy's, the network's, a missing driver's) into TrackingError."""
    quiet()
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException) as error:
        said = type(error).__name__ if holds_secret(uri) else in_one_line(error)  # it may repeat the URI
        raise TrackingError(f"MLflow at {shown(uri)}: {said}") from error
    except ModuleNotFoundError as error:
        raise TrackingError(f"MLflow at {shown(uri)}: needs the Python package {error.name}; install it") from error
