from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from analysis.cli import main
from benchmarks.made_up import plan_config, study_event, write_plan
from study.ledger.write import LedgerWriter


def test_report_prints_the_answer_and_the_path(tmp_path: Path) -> None:
    write_plan(tmp_path / "made-up", plan_config(question="Which [scale]?"))
    result = CliRunner().invoke(main, ["report", "made-up", "--home", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "Which [scale]?" in result.output
    assert "validation classes" in result.output
    assert result.output.rstrip().endswith(f"report: {tmp_path / 'made-up' / 'report.html'}")
    assert (tmp_path / "made-up" / "report.html").exists()


def test_home_may_come_from_the_environment_and_out_may_be_elsewhere(tmp_path: Path) -> None:
    write_plan(tmp_path / "studies" / "made-up", plan_config())
    out = tmp_path / "pages" / "page.html"
    environment = {"STUDY_HOME": str(tmp_path / "studies")}
    result = CliRunner().invoke(main, ["report", "made-up", "--out", str(out)], env=environment)
    assert result.exit_code == 0, result.output
    assert out.exists()


def test_all_that_is_written_is_private(tmp_path: Path) -> None:
    write_plan(tmp_path / "made-up", plan_config())
    before = os.umask(0)
    tmp_path.chmod(0o700)
    try:
        for command in (["report", "made-up"], ["tables", "made-up"], ["figures", "made-up"], ["demo"]):
            result = CliRunner().invoke(main, [*command, "--home", str(tmp_path)])
            assert result.exit_code == 0, result.output
            os.umask(0)
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path): stat.S_IMODE(path.lstat().st_mode) for path in tmp_path.rglob("*")}
    assert {"made-up/report.html", "tables", "figures", "demo/report.html"} <= {str(path) for path in modes}
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def test_a_wrong_name_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    write_plan(tmp_path / "made-up", plan_config())
    result = CliRunner().invoke(main, ["report", "made-upp", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "did you mean made-up?" in result.stderr


def test_a_newer_ledger_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with LedgerWriter(tmp_path / "made-up") as writer:
        writer.append(study_event(plan_config()).replace(schema_version=99))
    result = CliRunner().invoke(main, ["report", "made-up", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_help_loads_neither_pandas_nor_plotly() -> None:
    heavy = "('pandas', 'plotly', 'pydantic', 'torch', 'ray')"
    code = f"import sys, analysis.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
