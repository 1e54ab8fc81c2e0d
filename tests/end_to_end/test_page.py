"""The report and MLflow's page in a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Ran

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def chromium() -> str:
    """A headless browser; where CI says that it must be there, its absence fails."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium, which .ci/apt.txt names")
        pytest.skip("no chromium on this machine; apt-get install chromium")
    return CHROMIUM


def browse(chromium: str, profile: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=10000",
            *options,
            url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_the_report_draws_its_figures_offline_and_fits_the_window(
    small: Ran, chromium: str, tmp_path: Path, width: int
) -> None:
    page = (small.folder / "report.html").resolve()
    shot = tmp_path / "page.png"
    result = browse(
        chromium, tmp_path / "profile", page.as_uri(), f"--screenshot={shot}", f"--window-size={width},3000"
    )
    console = [line for line in result.stderr.splitlines() if ":CONSOLE" in line]
    assert console == []
    assert shot.stat().st_size > 20_000
    dom = browse(chromium, tmp_path / "profile2", page.as_uri(), "--dump-dom", f"--window-size={width},3000").stdout
    assert dom.count("main-svg") >= 3, "plotly has drawn"
    assert "Does the whole path work?" in dom
