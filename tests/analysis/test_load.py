from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis import cache
from analysis.load import NoSuchStudy, find
from benchmarks.made_up import START, curve, plan_config, study_event, trial_event, trial_lines, write_plan
from study.ledger.read import LedgerError
from study.ledger.write import LedgerWriter
from study.records import DriverEvent, Phase, RungEvent, Status


def test_a_row_per_trial_with_its_value_and_its_varied_path(tmp_path: Path) -> None:
    study = analysis.load(write_plan(tmp_path / "made-up", plan_config()))
    assert list(study.trials["loss.scale.value"]) == [5, 5, 20, 20]
    assert list(study.trials["seed"]) == [0, 1, 0, 1]
    config = study.trial_configs[0]
    assert study.trials["value"][0] == pytest.approx(curve(config, 0, 3)["val_recall_at_1"])
    assert study.trials["value_last_5"][0] == pytest.approx(
        sum(curve(config, 0, done)["val_recall_at_1"] for done in (1, 2, 3)) / 3
    )
    assert study.trials["test_value"][0] == pytest.approx(curve(config, 0, 3)["test_recall_at_1"])
    assert study.trials["wall_s"][0] == pytest.approx(3 * 0.6)
    assert study.config == plan_config()
    assert study.objective == "val_recall_at_1"


def test_a_row_per_epoch_with_every_metric(tmp_path: Path) -> None:
    study = analysis.load(write_plan(tmp_path / "made-up", plan_config()))
    assert len(study.epochs) == 12
    assert study.epochs["epochs_done"].tolist() == [1, 2, 3] * 4
    assert {"loss", "scale", "val_recall_at_1", "test_recall_at_8"} <= set(study.epochs)
    assert study.epochs["scale"].tolist() == [5.0] * 6 + [20.0] * 6


def test_a_restarted_trial_counts_the_later_line_and_metrics_may_differ_between_trials(tmp_path: Path) -> None:
    config = plan_config()
    trial = config.configurations()[0].trial
    with LedgerWriter(tmp_path / "s") as writer:
        writer.append(study_event(config), DriverEvent(at=START, what="opened", host="h", pid=1))
        writer.append(trial_event(0, "s=5", trial, 0, Phase.PLAN, {"loss.scale.value": 5.0}))
        writer.append(*trial_lines(0, trial, 0, lambda *_: {"loss": 9.0}, epochs=2, status=Status.RUNNING))
        again = trial_lines(0, trial, 0, lambda *_: {"loss": 1.0, "extra": 2.0}, epochs=1, status=Status.RUNNING)
        writer.append(*again)
    study = analysis.load(tmp_path / "s")
    assert study.epochs["loss"].tolist() == [1.0, 9.0]
    assert study.epochs["extra"].isna().tolist() == [False, True]
    assert study.trials["status"].tolist() == ["running"]
    assert study.trials["attempts"].tolist() == [2]
    assert pd.isna(study.trials["value"][0])


def test_inherited_epochs_are_counted_but_cost_nothing(tmp_path: Path) -> None:
    config = plan_config()
    trial = config.configurations()[0].trial
    with LedgerWriter(tmp_path / "s") as writer:
        writer.append(study_event(config), trial_event(0, "s=5", trial, 0, Phase.PLAN, {}))
        writer.append(*trial_lines(0, trial, 0, inherited=2))
    study = analysis.load(tmp_path / "s")
    assert study.trials["epochs_inherited"].tolist() == [2]
    assert study.trials["wall_s"].tolist() == [pytest.approx(0.6)]


def test_rungs_are_rows(tmp_path: Path) -> None:
    config = plan_config()
    trial = config.configurations()[0].trial
    with LedgerWriter(tmp_path / "s") as writer:
        writer.append(study_event(config), trial_event(0, "s=5", trial, 0, Phase.SEARCH, {}))
        writer.append(RungEvent(at=1.0, number=0, epochs_done=1, value=0.2, cutoff=None, decision="continue"))
        writer.append(RungEvent(at=2.0, number=0, epochs_done=3, value=0.3, cutoff=0.4, decision="stop"))
    rungs = analysis.load(tmp_path / "s").rungs
    assert rungs["decision"].tolist() == ["continue", "stop"]
    assert rungs["cutoff"].isna().tolist() == [True, False]


def test_a_mapping_that_varies_stands_as_json_text(tmp_path: Path) -> None:
    cases = [
        {"name": "constant", "loss.scale": {"kind": "constant", "value": 20}},
        {"name": "switch", "loss.scale": {"kind": "switch", "before": 20, "after": 5, "switch_epoch": 2}},
    ]
    study = analysis.load(write_plan(tmp_path / "s", plan_config(vary={}, cases=cases, seeds=[0])))
    assert study.trials["loss.scale"][1] == '{"after":5,"before":20,"kind":"switch","switch_epoch":2}'
    assert study.trials["schedule_kind"].tolist() == ["constant", "switch"]
    assert study.trials["scale_last"].tolist() == [20.0, 5.0]


def test_a_torn_last_line_is_read_up_to_it(tmp_path: Path) -> None:
    folder = write_plan(tmp_path / "s", plan_config())
    ledger = folder / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-20])
    assert len(analysis.load(folder).trials) == 4


def test_an_unknown_schema_version_is_refused_in_one_line(tmp_path: Path) -> None:
    event = study_event(plan_config())
    with LedgerWriter(tmp_path / "s") as writer:
        writer.append(event.replace(schema_version=99))
    with pytest.raises(LedgerError, match=r"99.*update") as error:
        analysis.load(tmp_path / "s")
    assert "\n" not in str(error.value)


def test_a_name_is_found_in_the_home_folder_and_a_wrong_one_suggests(tmp_path: Path) -> None:
    folder = write_plan(tmp_path / "made-up", plan_config())
    assert find("made-up", tmp_path) == folder
    assert find(folder / "ledger.jsonl") == folder
    with pytest.raises(NoSuchStudy, match="did you mean made-up"):
        find("maid-up", tmp_path)
    with pytest.raises(NoSuchStudy, match="there are made-up"):
        find("zzz", tmp_path)
    with pytest.raises(NoSuchStudy, match="holds none"):
        find("zzz", tmp_path / "empty")


def test_home_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(tmp_path / "made-up", plan_config())
    monkeypatch.setenv("STUDY_HOME", str(tmp_path))
    assert analysis.load("made-up").name == "made-up"


def test_a_cached_study_is_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LEAST_ROWS", 1)
    folder = write_plan(tmp_path / "s", plan_config(), array_epochs=(1, 3))
    cold = analysis.load(folder)
    assert cache.path_of(folder).exists()
    monkeypatch.setattr("study.ledger.read.read_events", lambda _: pytest.fail("read again"))
    warm = analysis.load(folder)
    for name in ("trials", "epochs", "rungs", "arrays"):
        pd.testing.assert_frame_equal(getattr(cold, name), getattr(warm, name))
    assert cold.record == warm.record


def test_a_cache_of_another_ledger_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LEAST_ROWS", 1)
    folder = write_plan(tmp_path / "s", plan_config())
    analysis.load(folder)
    with LedgerWriter(folder) as writer:
        trial = plan_config().configurations()[0].trial
        writer.append(trial_event(4, "s=5", trial, 9, Phase.PLAN, {}), *trial_lines(4, trial, 9))
    assert len(analysis.load(folder).trials) == 5
    cache.path_of(folder).write_bytes(b"no parquet")
    assert len(analysis.load(folder).trials) == 5
    assert cache.read(folder, cache.key_of(folder / "ledger.jsonl")) is not None
