"""A worker's memory does not grow with the trials that it trained; where there is too little, the ledger says so."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from study.ledger.read import read_study
from study.records import Status

from .conftest import study_command, write_study
from .test_kills import children_of, cmdline, epochs_recorded, start

pytestmark = pytest.mark.slow

TRIALS = 14
STUDY = f"""
trial:
  dataset: {{kind: glyphs}}
  split: {{train_classes: 20, val_classes: 10, test_classes: 10}}
  loss: {{kind: normalized_softmax, scale: {{kind: constant, value: 20}}}}
  epochs: 2
seeds: {list(range(TRIALS))}
"""


def own_mib(pid: int) -> float:
    """Memory of a process that it shares with none; 0 once it has ended."""
    try:
        return int(re.findall(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) / 1024
    except (OSError, IndexError):
        return 0.0


def test_a_workers_memory_does_not_grow_with_its_trials(tmp_path: Path, home: Path) -> None:
    driver = start(home, "run", write_study(tmp_path, "k", STUDY))
    seen: dict[int, float] = {}
    while driver.poll() is None:
        for pid in children_of(driver.pid):
            if b"ray::Implicit" in cmdline(pid) and (mib := own_mib(pid)):
                seen[epochs_recorded(home) // 2] = mib
        time.sleep(0.05)
    output, _ = driver.communicate()
    assert driver.returncode == 0, output
    early = max(mib for trials, mib in seen.items() if trials <= 4)
    late = max(mib for trials, mib in seen.items() if trials >= 10)
    assert late - early < 60, f"six trials more, with their threads' own arenas 25 MiB each: {seen}"


def test_a_trial_that_ray_kills_for_memory_says_oom(tmp_path: Path, home: Path) -> None:
    path = write_study(tmp_path, "k", STUDY.replace(f"seeds: {list(range(TRIALS))}", "seeds: [0]"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", "0.001")  # of the machine: every worker is too much
        ran = study_command("run", path, "--cpus", "1", home=home)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    (trial,) = read_study(home / "k").trials.values()
    assert trial.end is not None
    assert trial.status is Status.FAILED
    assert trial.end.reason == ("oom: Ray killed its process, because the node ran low on memory (3 attempts)")
