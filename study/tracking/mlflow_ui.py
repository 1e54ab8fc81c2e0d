"""MLflow's own UI on the studies' store, for this machine only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO

from search_spaces.load import ConfigError
from study.tracking.mlflow_store import (
    TrackingError,
    artifact_root,
    check_uri,
    client,
    mlflow_errors,
    prepare,
    shown,
    sqlite_path,
)

LOCAL_PORT = 5000
"""MLflow's own; taken where it is free, so that the links of reports lead somewhere."""
LOCAL_ADDRESS = f"http://127.0.0.1:{LOCAL_PORT}"
_START_S = 120.0
_GRACE_S = 5.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(uri: str, host: str = "127.0.0.1", port: int | None = None, announce: Callable[[str], None] = print) -> None:
    """Serve the UI on `uri`'s store until Ctrl-C or SIGTERM; `announce` gets the line with its address once it answers.

    A tracking server (http) has a UI already: its address is announced, nothing started. port: None takes 5000
    or, where that is in use, a free one.
    Raises: ConfigError for a host beyond loopback or a port in use; TrackingError if the server does not come up.
    """
    check_uri(uri)
    if uri.startswith("http"):
        announce(f"MLflow's UI is at {shown(uri)}")
        return
    try:
        with server(uri, host, port) as (process, url):
            announce(f"MLflow's UI is at {url} (Ctrl-C ends it)")
            code = process.wait()
    except KeyboardInterrupt:
        return  # how the user says that it is enough
    raise TrackingError(f"MLflow's server ended by itself with exit code {code}; start it again")


@contextmanager
def server(uri: str, host: str = "127.0.0.1", port: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server on `uri`'s store that answers, and its address; it is gone when the block ends.

    For the main thread; SIGTERM then acts as Ctrl-C, so that it leaves no server behind. Raises: as serve.
    """
    if host not in _LOOPBACK:
        raise ConfigError(
            f"--host {host}: would show the studies to the network; give 127.0.0.1 and tunnel with ssh -L"
        )
    prepare(uri)
    port = _free_port(host, port)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with TemporaryFile() as log:
            command, environment = _command(uri, host, port, address), _environment()
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            try:
                _await(process, f"http://{address}", uri, log)
                yield process, f"http://{address}"
            finally:
                _end(process)
    finally:
        signal.signal(signal.SIGTERM, before)


def _command(uri: str, host: str, port: int, address: str) -> list[str]:
    database = sqlite_path(uri)
    root = ["--default-artifact-root", artifact_root(database).as_uri()] if database else []
    return [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, *root, "--no-serve-artifacts"),
        *("--host", host, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"),
        # Its default lets every private address through, so that a page elsewhere could reach the UI by DNS rebinding.
        *("--allowed-hosts", f"{address},localhost:{port}"),
        *("--cors-allowed-origins", f"http://{address},http://localhost:{port}"),
    ]


def _environment() -> dict[str, str]:
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return {**os.environ, **settings, "MLFLOW_LOGGING_LEVEL": "ERROR"}


def _free_port(host: str, port: int | None) -> int:
    for wanted in (LOCAL_PORT, 0) if port is None else (port,):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((host, wanted))
                return int(probe.getsockname()[1])
    raise ConfigError(f"--port {port}: is in use; leave it out to get a free one")


def _await(process: subprocess.Popen[bytes], url: str, uri: str, log: IO[bytes]) -> None:
    """Wait until the server answers. Raises: TrackingError if it ends or takes too long, or is not ours."""
    deadline = time.monotonic() + _START_S
    while not _healthy(url):
        if process.poll() is not None:
            log.seek(0)
            said = (log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise TrackingError(f"MLflow's server ended (exit code {process.returncode}) before it answered: {said}")
        if time.monotonic() > deadline:
            raise TrackingError(f"MLflow's server did not answer at {url} within {_START_S:.0f} s")
        time.sleep(0.2)
    # Somebody else may have taken the port between our look and the server's: only ours knows our database.
    with mlflow_errors(uri):
        ours = client(uri).get_experiment("0").creation_time
    shown = json.loads(_get(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0") or b"{}")
    if shown.get("experiment", {}).get("creation_time") != ours:
        raise TrackingError(f"{url} is somebody else's server; start again")


def _healthy(url: str) -> bool:
    return _get(f"{url}/health") is not None


def _get(url: str) -> bytes | None:
    """What stands at `url` on this machine (so no proxy is asked), None where nothing answers."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:  # urllib's errors are OSErrors
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
