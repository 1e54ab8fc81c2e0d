"""A worker's memory does not grow with the number of trials that it has trained."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from .conftest import write_study
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
