"""The line that goes on with a study where and how it ran."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from search_spaces.load import parse_study
from study import cli
from study.home import Home, Options
from study.stopping import on_stop
from study.tuning import session

STUDY = """
trial:
  dataset: {kind: digits}
  split: {train_classes: 5, val_classes: 2, test_classes: 3}
  loss: {kind: softmax}
  epochs: 1
"""


def options(**fields: Any) -> Options:
    home = Home(Path("studies"))
    return replace(Options(home, data_dir=Path("data"), tracking_uri=home.mlflow_uri), **fields)


def test_defaults_are_not_said_again() -> None:
    assert options().command("resume", "k") == "python -m study resume k"
    assert options().command("sync", "k") == "python -m study sync k"
    assert options().command("ui") == "python -m study ui"


def test_everything_that_was_given_is_given_again() -> None:
    given = options(
        home=Home(Path("my studies")),
        data_dir=Path("/photos"),
        tracking_uri="http://server:5000",
        cpus=3,
        gpus=0,
        share=False,
        address="10.0.0.1:6379",
    )
    line = given.command("resume", "k")
    assert shlex.split(line) == [
        *("python", "-m", "study", "resume", "k", "--home", "my studies", "--tracking-uri", "http://server:5000"),
        *("--data", "/photos", "--cpus", "3", "--gpus", "0", "--address", "10.0.0.1:6379", "--separate"),
    ]
    assert given.command("sync", "k") == (
        "python -m study sync k --home 'my studies' --tracking-uri http://server:5000"
    )


def test_a_study_that_mlflow_did_not_follow_gets_its_report_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []
    outcome = SimpleNamespace(mirror_error="it is down", stopped_by=None)
    monkeypatch.setattr(session, "run_session", lambda *_, **__: outcome)
    monkeypatch.setattr(subprocess, "run", lambda words, **_: ran.append(words) or SimpleNamespace(returncode=0))
    given = options(home=Home(tmp_path))
    config = parse_study(yaml.safe_load(STUDY), "a", "a")
    assert cli._run_and_report(config, "", given, resume=False) is None
    assert [words[2:5] for words in ran] == [["analysis", "report", "a"]]
    assert f"MLflow's view is behind (it is down); complete it with `{given.command('sync', 'a')}`" in (
        capsys.readouterr().err
    )


def test_under_nohup_the_end_of_the_terminal_means_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen: list[int] = []
    try:
        handlers = on_stop(lambda number, frame: seen.append(number))
        for number in (signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert seen == [signal.SIGTERM]
        for number, handler in handlers.items():
            signal.signal(number, handler)
    finally:
        signal.signal(signal.SIGHUP, before)


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "study", *arguments]
    return subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("verb", ["run", "sync", "verify", "ui"])
def test_a_tracking_uri_that_is_refused_is_named_as_it_was_given(tmp_path: Path, verb: str) -> None:
    words = [verb] if verb == "ui" else [verb, "a"]
    by_variable = command(*words, cwd=tmp_path, MLFLOW_TRACKING_URI="http://me:hunter2@h")
    by_option = command(*words, "--tracking-uri", "http://me:hunter2@h", cwd=tmp_path)
    for ran, name in ((by_variable, "MLFLOW_TRACKING_URI"), (by_option, "--tracking-uri")):
        assert ran.returncode == 2
        assert ran.stderr.startswith(f"{name}: holds a password")
        assert len(ran.stderr.splitlines()) == 1
        assert "hunter2" not in ran.stdout + ran.stderr


def test_a_home_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    study = tmp_path / "a.yaml"
    study.write_text(STUDY, encoding="utf-8")
    ran = command("run", "a.yaml", "--home", "file/x", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "file/x: Not a directory; mend that, or name another place\n"


def test_status_shows_the_studies_beside_a_damaged_one(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "fixtures" / "ledger_1_finished" / "ledger.jsonl"
    for name in ("aaa", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ledger.jsonl").write_bytes(old.read_bytes())
    lines = old.read_bytes().splitlines(keepends=True)
    (tmp_path / "aaa" / "ledger.jsonl").write_bytes(b"".join([lines[0], b"damage\n", *lines[2:]]))
    ran = command("status", "--home", str(tmp_path), cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stdout.startswith("old: finished; ")
    assert len(ran.stderr.splitlines()) == 1
    assert "aaa/ledger.jsonl" in ran.stderr
