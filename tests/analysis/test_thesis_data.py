"""The printed numbers: against the project's own transcription where it is at hand, and against themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import thesis_data

SPEC = Path(__file__).resolve().parents[3] / "shared" / "spec" / "tables"
needs_spec = pytest.mark.skipif(
    not SPEC.is_dir(), reason="the first transcription of the tables is not beside this tree"
)
METRICS = {"recall_at_1": "test_recall_at_1", "accuracy": "train_accuracy"}
SCHEDULES = {"linear_additional": "linear", "switch_additional": "switch"}


def spec_table(number: str) -> pd.DataFrame:
    return pd.read_csv(SPEC / f"table_{number.replace('.', '_')}.csv", dtype={"errata": str, "thesis_reference": str})


@needs_spec
@pytest.mark.parametrize("number", ["4.1", "4.3", "4.4", "4.5", "5.2"])
def test_scale_tables_hold_what_the_first_transcription_holds(number):
    theirs, ours = spec_table(number), thesis_data.load(number)
    metric = theirs["metric"].str.removesuffix("_change")
    expected = pd.DataFrame(
        {
            "dataset": theirs["dataset"],
            "schedule": theirs["schedule"].replace(SCHEDULES),
            "start": theirs["scale"].fillna(theirs["scale_inferred"]).astype(float),
            "end": theirs["final_scale"].fillna(theirs["final_scale_inferred"]).astype(float),
            "epochs_done": theirs["epoch"],
            "since": theirs["baseline_epoch"].astype(float),
            "metric": metric.replace(METRICS),
            "value": theirs["value"],
            "errata": theirs["errata"].fillna(""),
        }
    )
    columns = list(expected.columns)
    pd.testing.assert_frame_equal(
        ours.astype({"start": float, "end": float, "since": float})[columns], expected, check_dtype=False
    )


@needs_spec
def test_cited_table_holds_what_the_first_transcription_holds() -> None:
    theirs, ours = spec_table("4.2"), thesis_data.load("4.2")
    assert ours["percent"].tolist() == theirs["value"].tolist()
    assert ours["alpha"].tolist() == theirs["scale"].tolist()
    assert ours["delta"].tolist() == theirs["margin"].tolist()


@needs_spec
def test_proxy_variances_hold_what_the_first_transcription_holds() -> None:
    theirs, ours = spec_table("5.1"), thesis_data.load("5.1")
    for mine, other in (
        ("value", "value"),
        ("s", "scale_corrected"),
        ("dim", "dim_corrected"),
        ("printed_s", "scale_printed"),
        ("printed_dim", "dim_printed"),
        ("epochs_done", "epoch"),
    ):
        np.testing.assert_array_equal(ours[mine].astype(float), theirs[other].astype(float), err_msg=mine)
    assert ours["errata"].tolist() == theirs["errata"].fillna("").tolist()


@needs_spec
def test_complexities_hold_what_the_first_transcription_holds() -> None:
    theirs, ours = spec_table("3.1"), thesis_data.load("3.1")
    assert ours["printed"].fillna("").tolist() == theirs["complexity_printed"].fillna("").tolist()
    assert ours["corrected"].fillna("").tolist() == theirs["complexity_corrected"].fillna("").tolist()
    assert ours["errata"].tolist() == theirs["errata"].fillna("").tolist()


@needs_spec
def test_text_values_hold_what_the_first_transcription_holds() -> None:
    theirs = pd.read_csv(SPEC / "text_values.csv")
    values = []
    for row in theirs.itertuples():
        datasets = str(row.dataset).split()
        values += [row.value / 100 if row.unit == "point" else row.value] * len(datasets)
    assert thesis_data.load("text")["value"].tolist() == pytest.approx(values)


# Internal consistency ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["4.3", "4.4", "4.5"])
def test_printed_changes_are_differences_of_printed_values(number):
    frame = thesis_data.load(number)
    changes = frame[frame["since"].notna() & frame["value"].notna()]
    assert len(changes) == {"4.3": 6, "4.4": 4, "4.5": 4}[number]
    for change in changes.itertuples():
        ends = [
            thesis_data.value(number, change.dataset, change.schedule, change.end, epoch, change.metric)
            for epoch in (change.epochs_done, int(change.since))
        ]
        assert ends[0] - ends[1] == pytest.approx(change.value, abs=1e-9)


def test_the_change_that_the_constant_rows_leave_out() -> None:
    for dataset, change in (("cub200", -0.0010), ("cars196", -0.0017)):
        after, before = (
            thesis_data.value("4.3", dataset, "constant", 20, epoch, "test_recall_at_1") for epoch in (100, 50)
        )
        assert after - before == pytest.approx(change, abs=1e-9)


def test_the_cub_run_at_20_is_one_run_in_two_tables_and_the_cars_run_is_not() -> None:
    for dataset, same in (("cub200", True), ("cars196", False)):
        one, other = (
            thesis_data.value(number, dataset, "constant", 20, 100, "test_recall_at_1") for number in ("4.1", "4.3")
        )
        assert (one == other) is same


@pytest.mark.parametrize(("dataset", "best"), [("cub200", 20), ("cars196", 15)])
def test_the_best_constant_scale_of_the_text_is_the_table_s(dataset, best):
    frame = thesis_data.load("4.1")
    frame = frame[frame["dataset"] == dataset]
    assert frame.loc[frame["value"].idxmax(), "start"] == best


def test_five_of_the_six_baselines_come_from_decays_and_one_from_the_constant() -> None:
    frame = thesis_data.scale_tables("4.3", "4.4", "4.5")
    start = frame[(frame["epochs_done"] == 50) & (frame["metric"] == "test_recall_at_1")]
    assert start.groupby("dataset").size().to_dict() == {"cub200": 6, "cars196": 6}
    assert (start["start"] == 20).all()


def test_every_fraction_is_a_fraction_and_every_row_names_its_page() -> None:
    frame = thesis_data.scale_tables()
    assert frame["value"].between(0, 1).all()
    assert len(frame) == 14 + 32 + 12 + 12 + 16
    for number in thesis_data.TABLES:
        assert thesis_data.load(number)["page"].between(15, 37).all()


def test_an_unknown_table_is_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"4\.9.*4\.1"):
        thesis_data.load("4.9")
    with pytest.raises(ValueError, match="prints 0 values"):
        thesis_data.value("4.1", "cub200", "constant", 7, 100, "test_recall_at_1")
