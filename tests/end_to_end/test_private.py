"""A study on this machine: who can reach it, who can read it, and how it ends when its whole process group is told."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import lines, study_command, write_study
from .test_kills import STUDY, alive, children_of, epochs_recorded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks at Linux's /proc"),
]

SECRET = "hunter2-correct-horse"


@dataclass
class Stopped:
    """A study that was stopped by SIGTERM to its whole group, with what was seen of it while it ran."""

    home: Path
    output: str
    code: int
    listening: set[str]
    beyond_loopback: set[str]
    left: list[int]


def listening(pids: Iterable[int]) -> tuple[set[str], set[str]]:
    """Addresses (as /proc/net/tcp spells them) on which processes listen, and those of them beyond loopback."""
    inodes = set()
    for pid in pids:
        try:
            inodes |= {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue  # it ended while we looked
    every, beyond = set(), set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                every.add(fields[1])
                address = fields[1].rpartition(":")[0]
                mapped = address.startswith("0" * 16 + "FFFF0000") and address.endswith("7F")
                if not (address.endswith("7F") if table == "tcp" else address == "0" * 24 + "01000000" or mapped):
                    beyond.add(fields[1])
    return every, beyond


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    folder = tmp_path_factory.mktemp("private")
    home = folder / "home"
    path = write_study(folder, "k", STUDY.replace("max_trials: 8", "max_trials: 90"))
    driver = subprocess.Popen(
        [sys.executable, "-m", "study", "run", str(path), "--cpus", "1"],
        env={
            **os.environ,
            "STUDY_HOME": str(home),
            "MLFLOW_TRACKING_PASSWORD": SECRET,
            "PGPASSWORD": SECRET,
            "RAY_AUTH_MODE": "disabled",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
        },
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=0o022,
    )
    deadline = time.monotonic() + 600
    while epochs_recorded(home) < 4 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    processes = [driver.pid, *children_of(driver.pid)]
    every, beyond = listening(processes)
    os.killpg(driver.pid, signal.SIGTERM)
    time.sleep(0.3)
    os.killpg(driver.pid, signal.SIGTERM)
    output, _ = driver.communicate(timeout=240)
    return Stopped(home, output, driver.returncode, every, beyond, alive(processes))


def test_sigterm_to_the_whole_group_ends_cleanly(stopped: Stopped) -> None:
    assert stopped.code == 143, stopped.output
    assert lines(stopped.output) == [f"stopped; go on with `python -m study resume k --home {stopped.home} --cpus 1`"]
    assert stopped.left == [], "no process outlives the study"
    verified = study_command("verify", "k", home=stopped.home)
    assert verified.stdout == "k: ledger, Optuna and MLflow agree\n"


def test_nothing_listens_beyond_loopback(stopped: Stopped) -> None:
    assert len(stopped.listening) > 3, "Ray's own servers were seen at all"
    assert stopped.beyond_loopback == set()


def test_all_that_a_study_writes_is_private(stopped: Stopped) -> None:
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [stopped.home, *stopped.home.rglob("*")]}
    assert len(modes) > 10
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def test_no_secret_of_the_environment_is_written(stopped: Stopped) -> None:
    files = [path for path in stopped.home.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in stopped.output
