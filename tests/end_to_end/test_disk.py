"""A disk that takes no more in the middle of a study: it stops with one line, and goes on when there is room."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from study.ledger.read import LEDGER_NAME, read_study
from study.records import Status

from .conftest import home_with, lines, study_command, write_study
from .test_kills import STUDY, await_epochs, children_of, cmdline, epochs_recorded, essence, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    """The home of the study that no disk stopped."""
    folder = tmp_path_factory.mktemp("whole")
    home = home_with(drawn, folder / "home")
    assert study_command("run", write_study(folder, "k", STUDY), "--cpus", "1", home=home).returncode == 0
    return home


@pytest.mark.parametrize("whose", ["driver", "worker"])
def test_a_full_disk_stops_the_study_with_one_line_and_loses_nothing(
    whole: Path, tmp_path: Path, home: Path, whose: str
) -> None:
    path = write_study(tmp_path, "k", STUDY)
    driver = start(home, "run", path)
    await_epochs(home, 5)
    # Files of one process may not grow: what a full disk does, to one process and to no test beside this one.
    pid, folder = driver.pid, home / "k"
    if whose == "worker":
        (pid,) = [child for child in children_of(driver.pid) if b"ray::Implicit" in cmdline(child)]
    size = (folder / LEDGER_NAME).stat().st_size if whose == "driver" else 1000
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 2, output
    (said,) = [line for line in lines(output) if "cannot be written" in line]
    named = folder / LEDGER_NAME if whose == "driver" else folder / "stages"
    assert said == f"{named}: cannot be written ({os.strerror(errno.EFBIG)}); make room, then resume the study"
    assert "Traceback" not in output
    assert Status.FAILED not in {trial.status for trial in read_study(folder).trials.values()}
    result = study_command("resume", "k", "--cpus", "1", home=home)
    assert result.returncode == 0, result.stderr
    assert essence(read_study(folder)) == essence(read_study(whole / "k"))
    assert epochs_recorded(home) == epochs_recorded(whole), "an epoch that was recorded is not trained again"
    assert study_command("verify", "k", home=home).returncode == 0
