from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from study.ledger.read import LedgerError
from study.tracking.export import export


def test_a_study_becomes_tables_with_the_ledgers_numbers(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path / "made_up").whole()
    paths = export(tmp_path / "made_up", tmp_path / "out")
    assert sorted(path.name for path in paths) == sorted(
        ["trials.parquet", "trials.csv", "epochs.parquet", "epochs.csv", "study.json"]
    )
    trials = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    assert trials["status"].tolist() == ["complete"] * 3 + ["pruned", "diverged", "complete"]
    assert trials["loss.scale.value"].tolist() == [1.0] * 3 + [20.0] * 3
    assert trials["value"][:3].tolist() == [made_up.recall(n, 3) for n in range(3)]
    assert pd.isna(trials["value"][4])
    assert trials["last.val_recall_at_1"][5] == made_up.recall(5, 3)
    assert trials["from_trial"].tolist()[3:] == [pd.NA, pd.NA, 3]
    assert trials["inherited_epochs"].tolist() == [0, 0, 0, 0, 0, 2]
    assert trials["reason"][4] == "loss was nan in epoch 1"
    assert trials["measure.recall_at"][0] == "[1,2,4,8]"
    epochs = pd.read_parquet(tmp_path / "out" / "epochs.parquet")
    assert len(epochs) == 13
    one = epochs[epochs["trial"] == 1]
    assert one["epochs_done"].tolist() == [1, 2, 3]
    assert one["val_recall_at_1"].tolist() == [made_up.recall(1, n) for n in (1, 2, 3)]
    assert one["at"].tolist() == [epoch.at for epoch in made_up.writer.record.trials[1].epochs.values()]
    assert epochs["inherited"].sum() == 2
    study = json.loads((tmp_path / "out" / "study.json").read_text())
    assert (study["git_commit"], study["finished"], study["trials"]) == ("c0ffee", True, 6)
    assert study["config"]["name"] == "made_up"


@pytest.mark.parametrize("table", ["trials", "epochs"])
def test_csv_and_parquet_hold_the_same_numbers(tmp_path: Path, make_study: Callable[..., Any], table: str) -> None:
    make_study(tmp_path / "made_up").whole()
    export(tmp_path / "made_up", tmp_path / "out")
    parquet = pd.read_parquet(tmp_path / "out" / f"{table}.parquet")
    with (tmp_path / "out" / f"{table}.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(parquet.columns)
    for column in parquet.select_dtypes("number"):
        cells = [None if pd.isna(value) else float(value) for value in parquet[column]]
        assert [float(row[column]) if row[column] else None for row in rows] == cells


def test_only_the_formats_asked_for_are_written_privately_and_again(
    tmp_path: Path, make_study: Callable[..., Any]
) -> None:
    make_study(tmp_path / "made_up").whole()
    for _ in range(2):
        export(tmp_path / "made_up", tmp_path / "out", ["csv"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["epochs.csv", "study.json", "trials.csv"]
    assert stat.S_IMODE((tmp_path / "out" / "trials.csv").stat().st_mode) == 0o600


def test_a_study_without_trials_is_exported_too(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    make_study(tmp_path / "made_up").first_line()
    export(tmp_path / "made_up", tmp_path / "out", ["parquet"])
    assert pd.read_parquet(tmp_path / "out" / "trials.parquet").empty


def test_columns_of_several_types_are_spelled_as_text(tmp_path: Path, make_study: Callable[..., Any]) -> None:
    made_up = make_study(tmp_path / "made_up")
    made_up.first_line()
    made_up.trial(0)
    event = made_up.writer.record.trials[0].trial
    for number, odd in enumerate([[1, 2], "word", True, 2.5], start=1):
        made_up.write(lambda at, n=number, o=odd: event.replace(at=at, number=n, trial={**event.trial, "odd": o}))
    export(tmp_path / "made_up", tmp_path / "out")
    trials = pd.read_parquet(tmp_path / "out" / "trials.parquet")
    assert trials["odd"].tolist() == [pd.NA, "[1,2]", "word", "true", "2.5"]


def test_a_target_that_cannot_be_written_is_one_line(
    tmp_path: Path, make_study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(tmp_path / "made_up").whole()
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"cannot be written \(File exists\); give another folder"):
        export(tmp_path / "made_up", tmp_path / "file")

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LedgerError, match=r"cannot be written \(No space left on device\)"):
        export(tmp_path / "made_up", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
