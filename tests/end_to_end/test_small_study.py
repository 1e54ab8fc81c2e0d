"""YAML to report through Ray, Optuna and MLflow, once, on real images; then what a user asks of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.ledger.read import load_arrays, read_study
from study.records import Status

from .conftest import SMALL, Ran, command, lines, study_command, write_study


def test_a_study_runs_from_a_file_to_a_report(small: Ran) -> None:
    assert small.result.returncode == 0, small.result.stderr
    assert small.result.stderr == ""
    assert "2 seeds" in small.result.stdout
    assert "report: home/small/report.html" in small.result.stdout
    assert lines(small.result.stdout)[-1] == "MLflow:  python -m study ui --home home"
    page = (small.folder / "report.html").read_text(encoding="utf-8")
    assert "Does the whole path work?" in page
    assert "<script src=" not in page


def test_the_ledger_holds_every_trial_with_its_end(small: Ran) -> None:
    record = read_study(small.folder)
    assert record.finished
    assert [(trial.trial.configuration, trial.trial.seed, trial.status) for trial in record.trials.values()] == [
        (name, seed, Status.DIVERGED if name == "diverges" else Status.COMPLETE)
        for seed in (0, 1)
        for name in ("constant 20", "switch to 5", "diverges")
    ]
    diverged = record.trials[2].end
    assert diverged is not None
    assert diverged.reason.startswith("epoch 0, batch ")
    last = record.trials[0].epochs[3]
    assert record.trials[0].end is not None
    assert record.trials[0].end.value == last.result.metrics["val_recall_at_1"]
    assert set(last.result.metrics) >= {f"{part}_recall_at_{k}" for part in ("val", "test") for k in (1, 2, 4, 8)}
    assert last.arrays is not None
    hits = load_arrays(small.folder, last.arrays)
    assert hits["val_class_hits"].sum() / 72 == pytest.approx(last.result.metrics["val_recall_at_1"])


def test_the_switch_inherits_the_constants_first_epochs(small: Ran) -> None:
    record = read_study(small.folder)
    constant, switch = record.trials[0], record.trials[1]
    assert switch.starts[0].from_epochs == 2
    assert switch.starts[0].from_trial == constant.number
    for epochs in (1, 2):
        assert switch.epochs[epochs].result.inherited
        assert switch.epochs[epochs].result.metrics == constant.epochs[epochs].result.metrics
    assert switch.epochs[3].result.metrics != constant.epochs[3].result.metrics
    assert list((small.folder / "stages").glob("*")) == [], "no state is kept that nobody needs"


def test_ledger_optuna_and_mlflow_agree(small: Ran) -> None:
    result = small.again("verify", "small")
    assert (result.returncode, result.stdout) == (0, "small: ledger, Optuna and MLflow agree\n")


def test_a_second_sync_changes_nothing(small: Ran) -> None:
    before = (small.home / "mlflow.db").read_bytes()
    assert small.again("sync", "small").returncode == 0
    assert (small.home / "mlflow.db").read_bytes() == before


def test_starting_a_finished_study_again_runs_nothing(small: Ran) -> None:
    before = (small.folder / "ledger.jsonl").read_bytes()
    result = small.again("run", str(small.home.parent / "small.yaml"))
    assert result.returncode == 0
    assert (small.folder / "ledger.jsonl").read_bytes() == before


def test_a_changed_file_is_refused_with_the_fields_that_differ(small: Ran, tmp_path: Path) -> None:
    text = (small.home.parent / "small.yaml").read_text(encoding="utf-8")
    changed = write_study(tmp_path, "small", text.replace("epochs: 3", "epochs: 4").replace("[0, 1]", "[0]"))
    result = small.again("run", str(changed))
    assert result.returncode == 2
    assert len(lines(result.stderr)) == 1
    assert "holds a study with other seeds, trial.epochs; give the changed file another name" in result.stderr


def test_status_counts_trials(small: Ran) -> None:
    result = small.again("status")
    assert lines(result.stdout) == ["small: finished; 12 of 12 epochs; 4 complete, 2 diverged"]


def test_an_unknown_study_is_one_line_with_a_suggestion(small: Ran) -> None:
    for module, arguments in (
        ("study", ("verify", "smal")),
        ("study", ("resume", "smal")),
        ("analysis", ("report", "smal")),
    ):
        result = command(module, *arguments, home=small.home)
        assert result.returncode == 2
        assert result.stdout == ""
        assert len(lines(result.stderr)) == 1
        assert "small" in result.stderr


def test_export_writes_tables(small: Ran, tmp_path: Path) -> None:
    result = small.again("export", "small", "--to", str(tmp_path))
    assert result.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} >= {
        "trials.csv",
        "trials.parquet",
        "epochs.csv",
        "epochs.parquet",
    }


def test_a_malformed_file_is_named_before_anything_runs(tmp_path: Path) -> None:
    path = write_study(tmp_path, "bad", "trial: {dataset: {kind: glyphs}, epohcs: 3}\n")
    for subcommand in ("check", "run"):
        result = study_command(subcommand, path, home=tmp_path / "home")
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert f"{path}: trial.epohcs: unknown field; did you mean epochs?" in lines(result.stderr)
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dataset: {kind: glyphs}", "dataset: {kind: cub200}", "neither CUB_200_2011 nor CUB_200_2011.tgz is there"),
        ("epochs: 3", "epochs: 3\n  compute: {device: cuda, gpus: 1}", "a trial takes 1 CPUs and 1 GPUs, and there"),
        ("epochs: 3", "epochs: 3\n  compute: {threads: 999}", "a trial takes 999 CPUs and 0 GPUs, and there are"),
        (
            "epochs: 3",
            "epochs: 3\n  model: {kind: torchvision, architecture: resnet18,\n"
            f"    weights: {{kind: file, path: nowhere.pth, sha256: '{'0' * 64}'}}}}",
            "nowhere.pth: cannot be read (No such file or directory)",
        ),
    ],
    ids=["data", "gpu", "threads", "weights"],
)
def test_what_a_trial_lacks_is_one_line_and_nothing_is_recorded(
    tmp_path: Path, field: str, value: str, said: str
) -> None:
    text = SMALL.replace(field, value)
    if "cub200" in text:
        text = text.replace("  epochs", "  augment: {kind: random_crop}\n  epochs")
    path = write_study(tmp_path, "lacks", text)
    ran = study_command("run", path, "--data", tmp_path / "data", home=tmp_path)
    assert ran.returncode == 2
    assert len(lines(ran.stderr)) == 1, ran.stderr
    assert said in ran.stderr
    assert not (tmp_path / "lacks" / "ledger.jsonl").exists()
