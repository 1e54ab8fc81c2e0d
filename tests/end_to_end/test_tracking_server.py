"""A study that tracks on a real MLflow server on a real PostgreSQL, each of them gone for a while."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from study.ledger.read import read_study

from .conftest import command, lines, write_study
from .test_cluster import STUDY
from .test_kills import epochs_recorded

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PASSWORD = "pg-secret-7f3a9c"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAMS and os.environ.get("CI") != "true", reason="needs PostgreSQL (.ci/apt.txt)"),
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Postgres:
    """A database server of its own in a new folder, with the database and user `mlflow`; root's runs as postgres."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._user = "postgres" if os.getuid() == 0 else None
        password = self.folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        if self._user:
            for path in (self.folder, password):
                shutil.chown(path, self._user, self._user)
        self._call("initdb", "-U", "mlflow", "-A", "scram-sha-256", "-E", "UTF8", f"--pwfile={password}", "-N")
        self.start()
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow")

    @property
    def uri(self) -> str:
        return f"postgresql://mlflow@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        self._call("pg_ctl", "-w", "-t", "120", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-m", "immediate", "stop")

    def close(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [PROGRAMS[-1] / program, *arguments],
            check=True,
            user=self._user,
            cwd=self.folder,
            env={**os.environ, "PGDATA": str(self.folder / "data"), "PGPASSWORD": PASSWORD},
            stdout=subprocess.DEVNULL,
        )


class Server:
    """An MLflow server on a PostgreSQL, whose password it has by environment."""

    def __init__(self, uri: str, folder: Path) -> None:
        self._port, self._uri, self._folder = free_port(), uri, folder
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--backend-store-uri", self._uri, "--artifacts-destination", str(self._folder / "artifacts")]
        arguments += ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *arguments],
                env={
                    **os.environ,
                    "PGPASSWORD": PASSWORD,
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 240
        while not self._answers():
            assert self._process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not come up"
            time.sleep(0.5)

    def stop(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    database = Postgres()
    yield database
    database.close()


@pytest.fixture
def server(postgres: Postgres, tmp_path: Path) -> Iterator[Server]:
    running = Server(postgres.uri, tmp_path)
    running.start()
    yield running
    running.stop()


def test_server_and_database_may_go_and_come_back(
    postgres: Postgres, server: Server, tmp_path: Path, home: Path
) -> None:
    path = write_study(tmp_path, "k", STUDY)
    driver = subprocess.Popen(
        [sys.executable, "-m", "study", "run", str(path), "--cpus", "1", "--tracking-uri", server.url],
        env={**os.environ, "STUDY_HOME": str(home), "MLFLOW_TRACKING_USERNAME": "me", "PGPASSWORD": PASSWORD}
        | {"MLFLOW_TRACKING_PASSWORD": PASSWORD},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def wait_for(epochs: int) -> None:
        while epochs_recorded(home) < epochs and driver.poll() is None:
            time.sleep(0.05)

    wait_for(5)
    server.stop()
    wait_for(20)
    server.start()
    wait_for(epochs_recorded(home) + 5)
    postgres.stop()
    wait_for(epochs_recorded(home) + 15)
    postgres.start()
    output, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, output
    assert read_study(home / "k").finished
    assert "Traceback" not in output
    synced = command("study", "sync", "k", "--tracking-uri", server.url, home=home)
    assert synced.returncode == 0, synced.stderr
    assert len(lines(synced.stdout)) == 1
    verified = command("study", "verify", "k", "--tracking-uri", server.url, home=home)
    assert verified.stdout == "k: ledger, Optuna and MLflow agree\n"
    written = [file for file in home.rglob("*") if file.is_file()]
    assert [file for file in written if PASSWORD.encode() in file.read_bytes()] == []
    assert PASSWORD not in output
    assert not (home / "mlflow.db").exists(), "nothing was tracked elsewhere"


def test_a_study_may_track_on_postgresql_itself(postgres: Postgres, tmp_path: Path, home: Path) -> None:
    path = write_study(tmp_path, "k")
    pgpass = tmp_path / "pgpass"
    pgpass.write_text(f"127.0.0.1:{postgres.port}:mlflow:mlflow:{PASSWORD}\n", encoding="utf-8")
    pgpass.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSFILE", str(pgpass))
        ran = command("study", "run", path, "--cpus", "1", "--tracking-uri", postgres.uri, home=home, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert lines(ran.stderr) == []
        verified = command("study", "verify", "k", "--tracking-uri", postgres.uri, home=home)
    assert {path.name for path in tmp_path.iterdir()} == {"k.yaml", "home", "pgpass"}, "artifacts lie in the home"
    assert list((home / "mlartifacts" / "k").rglob("report.html"))
    assert verified.stdout == "k: ledger, Optuna and MLflow agree\n"
    with_password = postgres.uri.replace("mlflow@", f"mlflow:{PASSWORD}@")
    refused = command("study", "verify", "k", "--tracking-uri", with_password, home=home)
    assert refused.returncode == 2
    (line,) = lines(refused.stderr)
    assert "holds a password" in line
    assert PASSWORD not in line
