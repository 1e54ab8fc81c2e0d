"""Studies run through the command line, as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from search_spaces.datasets import Glyphs
from study.data import glyphs

SMALL = """
question: Does the whole path work?
trial:
  dataset: {kind: glyphs}
  split: {train_classes: 8, val_classes: 6, test_classes: 6}
  loss: {kind: normalized_softmax, scale: {kind: constant, value: 20}}
  epochs: 3
seeds: [0, 1]
cases:
  - {name: constant 20}
  - {name: switch to 5, loss.scale: {kind: switch, before: 20, after: 5, switch_epoch: 2}}
  - {name: diverges, optimizer: {kind: sgd, lr: 1.0e+30, proxy_lr: 1.0e+30}}
"""


def study_command(*arguments: str | Path, home: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m study ...` in a process of its own; its output as text."""
    return command("study", *arguments, home=home, cwd=cwd)


def command(
    module: str, *arguments: str | Path, home: Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`python -m module ...` on the studies in `home`, from the folder `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
        env={**os.environ, "STUDY_HOME": str(home)},
    )


def write_study(folder: Path, name: str, text: str = SMALL) -> Path:
    """A study file."""
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of images that holds the drawn characters, which cost seconds in each new home."""
    cache = tmp_path_factory.mktemp("drawn")
    glyphs.load(Glyphs(), cache)
    return cache


def home_with(cache: Path, home: Path) -> Path:
    """A new home whose images are those of `cache`."""
    home.mkdir(mode=0o700)
    (home / ".cache").symlink_to(cache)
    return home


@pytest.fixture
def home(drawn: Path, tmp_path: Path) -> Path:
    """A home without studies, its characters drawn."""
    return home_with(drawn, tmp_path / "home")


class Ran:
    """A study that was run once for all tests of a module."""

    def __init__(self, home: Path, name: str, result: subprocess.CompletedProcess[str]) -> None:
        self.home, self.name, self.result = home, name, result

    @property
    def folder(self) -> Path:
        return self.home / self.name

    def again(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return study_command(*arguments, home=self.home)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The small study, finished; run with a home relative to the working folder, as by default."""
    folder = tmp_path_factory.mktemp("small")
    result = study_command("run", write_study(folder, "small"), home=Path("home"), cwd=folder)
    return Ran(folder / "home", "small", result)


def lines(text: str) -> Sequence[str]:
    """The lines of an output that are not empty."""
    return [line for line in text.splitlines() if line.strip()]
