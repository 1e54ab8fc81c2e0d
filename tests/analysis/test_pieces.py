from __future__ import annotations

import json
from pathlib import Path

import plotly.graph_objects as go
import pytest
from click.testing import CliRunner
from PIL import Image

from analysis import load, two_studies
from analysis.cli import main
from analysis.page import Figure, Page, Section
from analysis.pieces import NoChrome, write_figures
from benchmarks.made_up import plan_config, trial_fields, write_plan


def test_figures_are_written_alone_and_share_one_plotly(tmp_path: Path) -> None:
    write_plan(tmp_path / "made-up", plan_config())
    result = CliRunner().invoke(main, ["figures", "made-up", "--home", str(tmp_path)])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "figures"
    names = {path.name for path in folder.iterdir()}
    assert {"scale-curve.html", "scale-curve.json", "scale-curve.csv", "plotly.min.js"} <= names
    assert (folder / "scale-curve.html").stat().st_size < 100_000
    assert json.loads((folder / "scale-curve.json").read_text())["layout"]["xaxis"]["type"] == "log"


def test_a_missing_chrome_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chromeless(**_: object) -> None:
        raise RuntimeError("Kaleido requires Google Chrome to be installed.")

    monkeypatch.setattr("plotly.io.write_images", chromeless)
    figure = Figure("f", "F", "", go.Figure())
    with pytest.raises(NoChrome, match="install"):
        write_figures(Page("t", "", "", [], [], [Section("s", "S", [figure])]), tmp_path, ("png",))
    assert (tmp_path / "f.html").exists()


def test_tables_are_written_in_three_forms_without_any_study(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["tables", "--home", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert {path.suffix for path in (tmp_path / "tables").iterdir()} == {".csv", ".md", ".tex"}
    assert "Not run" in (tmp_path / "tables" / "table-4-1.md").read_text(encoding="utf-8")


def test_two_studies_are_compared_by_seed(tmp_path: Path) -> None:
    first = load(write_plan(tmp_path / "first", plan_config("first", seeds=[0, 1, 2])))
    longer = plan_config("second", seeds=[1, 2, 3], trial=trial_fields(epochs=5))
    second = load(write_plan(tmp_path / "second", longer))
    frame = two_studies.compare(first, second)
    assert set(frame["metric"]) == {"value", "test_value"}
    assert set(frame["seeds"]) == {2}
    assert (frame["difference"] > 0).all()
    assert (frame["low"] <= frame["difference"]).all()
    assert two_studies.file_differences(first, second) == [("epochs", "3", "5")]
    result = CliRunner().invoke(main, ["compare", "first", "second", "--home", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "epochs: 3 -> 5" in result.output


def test_studies_that_share_nothing_say_so(tmp_path: Path) -> None:
    write_plan(tmp_path / "first", plan_config("first"))
    write_plan(tmp_path / "second", plan_config("second", vary={"loss.scale.value": [7, 8]}))
    result = CliRunner().invoke(main, ["compare", "first", "second", "--home", str(tmp_path)])
    assert result.exit_code == 0
    assert "No configuration was completed by both" in result.output


@pytest.mark.slow
def test_pictures_are_drawn_by_a_real_browser(tmp_path: Path) -> None:
    write_plan(tmp_path / "made-up", plan_config())
    arguments = ["figures", "made-up", "--home", str(tmp_path), "--images", "png", "--images", "svg"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    png = tmp_path / "figures" / "scale-curve.png"
    with Image.open(png) as picture:
        assert picture.size == (900, 520)
        assert len(set(picture.convert("L").tobytes())) > 20, "something is drawn"
    assert (tmp_path / "figures" / "scale-curve.svg").read_text(encoding="utf-8").startswith("<svg")
