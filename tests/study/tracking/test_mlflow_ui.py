from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search_spaces.load import ConfigError
from study.tracking.mlflow_mirror import sync, verify
from study.tracking.mlflow_store import TrackingError
from study.tracking.mlflow_ui import serve, server

ROOT = Path(__file__).parents[3]


def test_a_tracking_server_has_a_ui_already() -> None:
    said: list[str] = []
    serve("http://127.0.0.1:5000", announce=said.append)
    assert said == ["MLflow's UI is at http://127.0.0.1:5000"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::"])
def test_nothing_is_served_beyond_loopback(uri: str, host: str) -> None:
    with pytest.raises(ConfigError, match="would show the studies to the network"):
        serve(uri, host=host)


def test_a_port_in_use_is_named(uri: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: is in use; leave it out to get a free one"):
            serve(uri, port=port)


def status(url: str, host: str | None = None) -> int:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def listening_beyond_loopback(group: int) -> set[str]:
    """Local addresses on which processes of `group` listen, without 127.x and ::1. Linux only."""
    inodes = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) == group:
                inodes |= {str(file.readlink()) for file in (process / "fd").iterdir()}
        except OSError:
            continue  # it ended while we looked
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address = fields[1].rpartition(":")[0]
            loopback = address.endswith("7F") if table == "tcp" else address == "0" * 24 + "01000000"
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes and not loopback:
                found.add(fields[1])
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks at Linux's /proc")
def test_a_real_server_answers_only_here_and_takes_a_study_by_http(
    tmp_path: Path, uri: str, make_study: Callable[..., Any]
) -> None:
    folder = tmp_path / "made_up"
    make_study(folder).whole()
    sync(folder, uri)
    with server(uri) as (process, url):
        assert status(f"{url}/health") == 200
        port = url.rpartition(":")[2]
        experiments = f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert status(experiments, f"localhost:{port}") == 200
        for host in ("10.anything.example", "evil.example", "127.0.0.1", f"192.168.0.1:{port}"):
            assert status(experiments, host) == 403, host
        assert listening_beyond_loopback(process.pid) == set()
        assert verify(folder, url) == []
        counts = sync(folder, url)
        assert (counts.runs_created, counts.metrics_logged) == (0, 0)
    with pytest.raises((urllib.error.URLError, OSError)):
        status(f"{url}/health")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back_gets_what_it_missed(
    tmp_path: Path, uri: str, make_study: Callable[..., Any]
) -> None:
    from study.tracking.mirror import Mirror
    from study.tracking.mlflow_mirror import MlflowView

    folder = tmp_path / "made_up"
    made_up = make_study(folder)
    made_up.first_line()
    made_up.driver("opened")
    with server(uri) as (_, url):
        mirror = Mirror(folder, MlflowView(url, "made_up", folder), pause_s=0.0, poll_s=0.05, max_wait_s=1.0)
        mirror.start()
        made_up.run(0)
    made_up.run(1)
    made_up.driver("closed", "finished")
    with server(uri, port=int(url.rpartition(":")[2])):
        assert mirror.close(60.0), mirror.last_error
        assert verify(folder, url) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_the_server_too(uri: str, number: signal.Signals) -> None:
    program = (
        "from study.tracking.mlflow_ui import serve; "
        f"serve({uri!r}, announce=lambda line: print(line, flush=True)); print('ended')"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        url = child.stdout.readline().split()[4]
        assert status(f"{url}/health") == 200
        child.send_signal(number)
        assert child.stdout.read() == "ended\n"
        assert child.wait(20) == 0
    with pytest.raises((urllib.error.URLError, OSError)):
        status(f"{url}/health")


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from study.tracking import mlflow_ui

    monkeypatch.setattr(mlflow_ui, "_command", lambda *args: [sys.executable, "-c", "raise SystemExit('no room')"])
    with pytest.raises(TrackingError, match=r"ended \(exit code 1\) before it answered: no room"):
        serve(uri)
