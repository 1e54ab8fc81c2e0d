"""The thesis's tables on made-up curves, and without any run."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import runs, tables, thesis_data

MakeUp = Callable[..., pd.DataFrame]


def measure(condition: Any, done: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, Any]:
    recall = 0.5 + 0.001 * condition[2] + 0.001 * done + 0.01 * seed
    variance = {f"proxy_cos_var_{name}": 0.01 + 0.0001 * done + 0 * recall for name in ("all", "between", "class_mean")}
    return {"test_recall_at_1": recall, "train_accuracy": 1 - recall / 10, **variance}


def row_of(table: tables.Table, **cells: Any) -> pd.Series:
    """The one row of a table that has these cells; underscores in names stand for spaces."""
    mask = pd.Series(True, index=table.frame.index)
    for name, value in cells.items():
        mask &= table.frame[name.replace("_", " ")] == value
    rows = table.frame[mask]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.fixture(scope="module")
def nothing() -> pd.DataFrame:
    return runs.curves([])


@pytest.mark.parametrize("number", tables.TABLES)
def test_without_a_run_each_table_has_the_printed_numbers_and_names_the_file_to_run(
    number: str, nothing: pd.DataFrame
) -> None:
    table = tables.TABLES[number](nothing)
    assert table.number == number
    assert len(table.frame) > 0
    assert not any(table.frame[name].notna().any() for name in table.frame if str(name).startswith("ours"))
    if number == "3.1":
        assert table.gaps == ()
    elif number == "4.2":
        assert "proxy_anchor" in table.gaps[0]
    else:
        assert table.gaps == (f"search_spaces/thesis/{tables.STUDY_FILES[number]}-glyphs.yaml",)
        assert f"Not run: {table.gaps[0]}" in table.markdown()


@pytest.mark.parametrize("number", ["4.1", "4.3", "4.4", "4.5", "5.2"])
def test_every_printed_number_has_its_place(number: str, nothing: pd.DataFrame) -> None:
    frame = tables.TABLES[number](nothing).frame
    printed = frame[[name for name in frame if str(name).startswith("printed")]].to_numpy().ravel()
    expected = thesis_data.load(number)["value"]
    assert sorted(printed[~np.isnan(printed)]) == sorted(expected.dropna())


def test_measurement_stands_beside_print_with_interval_and_seeds(made_up: MakeUp) -> None:
    table = tables.table_4_3(made_up(measure))
    row = row_of(table, scale="linear 20 to 5", metric="Recall@1, test classes", phases="2")
    assert row["ours"] == pytest.approx(0.5 + 0.005 + 0.02 + 0.02)
    assert row["low"] < row["ours"] < row["high"]
    assert row["seeds"] == 5
    assert row["by seed"] == pytest.approx({seed: 0.525 + 0.01 * seed for seed in range(5)})
    assert row["printed CUB-200-2011"] == 0.5533
    assert row["printed Cars-196"] == 0.7465
    assert row["errata"] == "E27"
    assert table.gaps == ()


def test_a_change_is_the_paired_difference(made_up: MakeUp) -> None:
    table = tables.table_4_4(made_up(measure))
    row = row_of(table, scale="switch 20 to 5", metric="Recall@1, test classes, change", phases="1 to 3")
    assert row["ours"] == pytest.approx(0.02)
    assert row["low"] == pytest.approx(0.02)
    assert row["printed CUB-200-2011"] == 0.0164


def test_a_partly_run_table_keeps_its_gap(made_up: MakeUp) -> None:
    table = tables.table_4_3(made_up(measure, conditions=(("constant", 20, 20),), dataset="omniglot"))
    assert table.gaps == ("search_spaces/thesis/exp2-omniglot.yaml",)
    assert table.frame["ours"].notna().sum() == 5
    assert "omniglot" in table.frame["setting"][0]


def test_a_study_of_the_thesis_s_own_data_stands_beside_its_own_column_only(made_up: MakeUp) -> None:
    frame = tables.table_4_1(made_up(measure, dataset="cub200")).frame
    assert frame["printed CUB-200-2011"].notna().all()
    assert frame["printed Cars-196"].isna().all()


def test_controls_and_other_losses_stay_out_of_the_thesis_s_tables(made_up: MakeUp) -> None:
    main = made_up(measure, seeds=2)
    eps = made_up(measure, seeds=5, other="optimizer.eps=0.01")
    cosine = made_up(measure, seeds=5, loss_kind="normalized_softmax")
    table = tables.table_4_1(pd.concat([main, eps, cosine], ignore_index=True))
    assert len(table.frame) == 7
    assert (table.frame["seeds"] == 2).all()


def test_proxy_variances_by_three_definitions_and_shares_of_the_phase(made_up: MakeUp) -> None:
    table = tables.table_5_1(made_up(measure))
    # a phase of 10 stands for the thesis's 50, so its epoch 20 is 4; its first epoch is the first
    for epoch, ours in ((1, 1), (20, 4), (50, 10), (100, 20)):
        for title in tables.DEFINITIONS.values():
            row = row_of(table, s=20.0, D=64, thesis_epoch=epoch)
            assert row[f"ours {title}"] == pytest.approx(0.01 + 0.0001 * ours)
    assert pd.isna(row_of(table, s=20.0, D=512, thesis_epoch=1)["ours all proxies"])
    assert table.gaps == ("search_spaces/thesis/sec5-1-glyphs.yaml",)


def test_proxy_anchor_by_alpha_and_delta(made_up: MakeUp) -> None:
    alphas = tuple(("constant", alpha, alpha) for alpha in (4.0, 32.0))
    parts = [
        made_up(measure, alphas, loss_kind="proxy_anchor", margin=margin, other=other)
        for margin, other in ((0.0, ""), (0.1, "loss.delta=0.1"))
    ]
    table = tables.table_4_2(pd.concat(parts, ignore_index=True))
    row = row_of(table, alpha=32.0, delta=0.1)
    assert table.frame["ours"].notna().sum() == 4
    assert row["ours"] == pytest.approx(0.5 + 0.032 + 0.03 + 0.02)
    assert row["printed Cars-196"] == pytest.approx(0.8610)


def test_markdown_shows_percent_with_the_interval_in_one_cell(made_up: MakeUp) -> None:
    text = tables.table_4_1(made_up(measure)).markdown()
    line = next(line for line in text.splitlines() if "| constant 20 |" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[4:6] == ["53.51", "72.73"]
    assert cells[6].startswith("56.00 [54.04, 57.96]")
    assert cells[8] == "54.00 55.00 56.00 57.00 58.00"
    assert text.startswith("**Table 4.1.**")


def test_latex_and_csv_can_be_read_back(made_up: MakeUp) -> None:
    table = tables.table_4_1(made_up(measure))
    latex = table.latex()
    assert r"\begin{tabular}" in latex
    assert r"95\% t interval" in latex
    assert r"soft\_triple" in latex
    frame = pd.read_csv(io.StringIO(table.csv()))
    np.testing.assert_allclose(frame["ours"], table.frame["ours"].astype(float))
    assert frame["by seed"][0].startswith("0:0.521;1:")


def test_all_tables_are_those_of_the_thesis(nothing: pd.DataFrame) -> None:
    assert [table.number for table in tables.all_tables(nothing)] == list(thesis_data.TABLES)
