"""A study whose driver or worker is killed in the middle goes on, and ends as an uninterrupted one."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.ledger.read import LEDGER_NAME, StudyRecord, read_study
from study.records import Status

from .conftest import home_with, lines, study_command, write_study

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "10"))
"""Of driver, workers and nodes of a cluster, in turn; and a fifth as many of a driver with a Ray of its own."""
OF_DRIVER = max(2, KILLS // 5)
STUDY = """
trial:
  dataset: {kind: glyphs}
  split: {train_classes: 8, val_classes: 6, test_classes: 6}
  loss: {kind: normalized_softmax, scale: {kind: constant, value: 20}}
  epochs: 9
vary:
  loss.scale.value: {kind: float, low: 1, high: 64, log: true}
  optimizer.lr: {kind: float, low: 0.0003, high: 0.01, log: true}
search:
  sampler: {kind: tpe, startup_trials: 3}
  scheduler: {kind: asha, grace_epochs: 1, factor: 3}
  max_trials: 8
confirm: {best: 1, seeds: [101]}
"""


def start(home: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "study", *map(str, arguments), "--cpus", "1"],
        env={**os.environ, "STUDY_HOME": str(home)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=hear_signals,
    )


def hear_signals() -> None:
    """Whoever started the tests may ignore some: nohup does, and so does a shell's `&`."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def epochs_recorded(home: Path) -> int:
    path = home / "k" / LEDGER_NAME
    return path.read_bytes().count(b'"event":"epoch"') if path.exists() else 0


def starts_recorded(home: Path) -> int:
    path = home / "k" / LEDGER_NAME
    return path.read_bytes().count(b'"event":"start"') if path.exists() else 0


def await_epochs(home: Path, count: int) -> None:
    """Until the study has recorded so many epochs, or two minutes have passed."""
    deadline = time.monotonic() + 120
    while epochs_recorded(home) < count and time.monotonic() < deadline:
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    """Processes that descend from `pid`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    found, frontier = [], [pid]
    while frontier:
        parent = frontier.pop()
        mine = [child for child, its in parents.items() if its == parent]
        found += mine
        frontier += mine
    return found


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and _state(pid) not in ("Z", "X", "")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return ""


def essence(record: StudyRecord) -> dict[str, object]:
    return {
        trial.trial.configuration: (
            trial.trial.seed,
            trial.status,
            trial.end and trial.end.value,
            [result.metrics for result in trial.results],
            [(rung.epochs_done, rung.value, rung.cutoff, rung.decision) for rung in trial.rungs],
        )
        for trial in record.trials.values()
    }


def test_kills_of_the_driver_lose_nothing_and_train_nothing_twice(tmp_path: Path, drawn: Path) -> None:
    path = write_study(tmp_path, "k", STUDY.replace("max_trials: 8", f"max_trials: {max(8, OF_DRIVER)}"))
    whole, killed = home_with(drawn, tmp_path / "whole"), home_with(drawn, tmp_path / "killed")
    assert study_command("run", path, "--cpus", "1", home=whole).returncode == 0
    total = epochs_recorded(whole)
    draws = random.Random(0)
    ready: list[float] = []
    for at in sorted(draws.sample(range(total - 2), OF_DRIVER)):
        begun: int | None = starts_recorded(killed)
        began = time.monotonic()
        driver = start(killed, *(["resume", "k"] if (killed / "k" / LEDGER_NAME).exists() else ["run", path]))
        deadline = time.monotonic() + 120
        while epochs_recorded(killed) <= at and driver.poll() is None and time.monotonic() < deadline:
            if begun is not None and starts_recorded(killed) > begun:
                ready.append(time.monotonic() - began)
                begun = None
            time.sleep(0.02)
        processes = children_of(driver.pid)
        driver.kill()
        output, _ = driver.communicate()
        assert "Traceback" not in output
        deadline = time.monotonic() + 15
        while alive(processes) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert alive(processes) == [], "the driver's death ends all that it started"
    result = study_command("resume", "k", "--cpus", "1", home=killed)
    assert result.returncode == 0, result.stderr
    record, expected = read_study(killed / "k"), read_study(whole / "k")
    assert essence(record) == essence(expected)
    assert epochs_recorded(killed) == total, "an epoch that was recorded is not trained again"
    verified = study_command("verify", "k", home=killed)
    assert verified.stdout == "k: ledger, Optuna and MLflow agree\n"
    print(f"{OF_DRIVER} kills; a trial is up again after {statistics.median(ready):.1f} s, {max(ready):.1f} at most")


def test_a_killed_worker_is_replaced_and_its_trial_goes_on(tmp_path: Path, home: Path) -> None:
    path = write_study(tmp_path, "k", STUDY)
    driver = start(home, "run", path)
    await_epochs(home, 5)
    (busy,) = [pid for pid in children_of(driver.pid) if b"ray::Implicit" in cmdline(pid)]
    os.kill(busy, signal.SIGKILL)
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    assert "Traceback" not in output
    record = read_study(home / "k")
    assert record.finished
    assert Status.FAILED not in {trial.status for trial in record.trials.values()}
    assert any(len(trial.starts) > 1 for trial in record.trials.values())


@pytest.mark.parametrize(("part", "name"), [(b"raylet/raylet", "raylet"), (b"gcs_server", "server (GCS)")])
def test_where_ray_itself_is_killed_the_study_stops_with_the_line_that_resumes(
    tmp_path: Path, home: Path, part: bytes, name: str
) -> None:
    driver = start(home, "run", write_study(tmp_path, "k", STUDY.replace("epochs: 9", "epochs: 900")))
    await_epochs(home, 5)
    processes = children_of(driver.pid)
    (victim,) = [pid for pid in processes if cmdline(pid).split(b"\0")[0].endswith(part)]
    os.kill(victim, signal.SIGKILL)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 2, output
    assert "Traceback" not in output
    again = f"`python -m study resume k --home {home} --cpus 1`"
    assert lines(output)[-1] == f"Ray's {name} died (was there too little memory?); go on with {again}"
    assert Status.FAILED not in {trial.status for trial in read_study(home / "k").trials.values()}
    deadline = time.monotonic() + 15
    while alive(processes) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(processes) == []


def test_ctrl_c_stops_cleanly_and_the_printed_line_resumes(tmp_path: Path, home: Path) -> None:
    path = write_study(tmp_path, "k", STUDY)
    driver = start(home, "run", path)
    await_epochs(home, 4)
    os.killpg(driver.pid, signal.SIGINT)
    os.killpg(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 130, output
    assert lines(output) == [f"stopped; go on with `python -m study resume k --home {home} --cpus 1`"]
    assert study_command("verify", "k", home=home).returncode == 0
    again = study_command("run", path, home=home)
    assert again.returncode == 2
    assert "this study is unfinished; go on with `python -m study resume k" in again.stderr
    assert study_command("resume", "k", home=home).returncode == 0
    assert read_study(home / "k").finished


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_first_trial_is_told(tmp_path: Path, number: signal.Signals) -> None:
    path, home = write_study(tmp_path, "k", STUDY), tmp_path / "a home"
    driver = start(home, "run", path)
    while not home.exists() and driver.poll() is None:  # made once signals are looked after
        time.sleep(0.01)
    driver.send_signal(number)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 128 + number, output
    begun = (home / "k" / LEDGER_NAME).exists()
    again = f"go on with `python -m study resume k --home '{home}' --cpus 1`" if begun else "nothing was begun"
    assert lines(output) == [f"stopped; {again}"]


def test_a_second_driver_is_told_who_runs_the_study(tmp_path: Path, home: Path) -> None:
    path = write_study(tmp_path, "k", STUDY.replace("max_trials: 8", "max_trials: 90"))
    driver = start(home, "run", path)
    await_epochs(home, 1)
    second = study_command("resume", "k", home=home)
    os.kill(driver.pid, signal.SIGTERM)
    driver.communicate(timeout=120)
    assert second.returncode == 2
    assert len(lines(second.stderr)) == 1
    assert f"process {driver.pid} on " in second.stderr
    assert driver.returncode == 143


def test_a_laptop_that_sleeps_for_a_minute_goes_on(tmp_path: Path, home: Path) -> None:
    path = write_study(tmp_path, "k", STUDY)
    driver = start(home, "run", path)
    await_epochs(home, 5)
    asleep = [driver.pid, *children_of(driver.pid)]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in asleep:
            os.kill(pid, number)
        before = epochs_recorded(home)
        if number == signal.SIGSTOP:
            time.sleep(60)
            assert epochs_recorded(home) == before, "everything sleeps"
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    record = read_study(home / "k")
    assert record.finished
    assert Status.FAILED not in {trial.status for trial in record.trials.values()}
    assert all(len(trial.starts) == 1 for trial in record.trials.values()), "no worker was lost"
    assert study_command("verify", "k", home=home).returncode == 0
