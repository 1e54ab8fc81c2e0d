from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import best_scales, compare
from analysis.figures import best_scales as figure
from analysis.theory import adacos_fixed

MakeUp = Callable[..., pd.DataFrame]
SCALES = tuple(("constant", s, s) for s in (2, 4, 8, 16, 32))


def peak(best: float) -> Any:
    """Recall@1 with its top at `best` on validation classes, at twice that on test classes; seeds differ a little."""

    def measure(condition: Any, done: np.ndarray, seed: int, rng: np.random.Generator) -> dict[str, Any]:
        def height(top: float) -> float:
            return float(0.5 - 0.03 * np.log(condition[2] / top) ** 2)

        luck = 0.01 * seed + rng.normal(0, 0.001, len(done))
        return {"val_recall_at_1": height(best) + luck, "test_recall_at_1": height(2 * best) + luck}

    return measure


def three_sizes(made_up: MakeUp, seeds: int = 3) -> pd.DataFrame:
    """C = 20, 100, 400 at 12 epochs, and C = 20 and 400 at 60 and 3: as many steps as C = 100 at 12."""
    sizes = [(20, 12, 4.0), (20, 60, 4.0), (100, 12, 8.0), (400, 12, 16.0), (400, 3, 16.0)]
    parts = [
        made_up(peak(best), SCALES, seeds, epochs=epochs, classes=classes, study=f"{classes}-{epochs}")
        for classes, epochs, best in sizes
    ]
    frame = pd.concat(parts, ignore_index=True).sort_values("epochs_planned", kind="stable")
    return frame.drop_duplicates(["classes", "start", "seed", "epochs_done"], ignore_index=True)


def test_scales_are_compared_at_every_length_that_all_were_trained_for(made_up: MakeUp) -> None:
    found = list(best_scales.measured(three_sizes(made_up)))
    assert sorted((row.setting.classes, row.epochs_done) for row in found if row.metric == "val_recall_at_1") == [
        (20, 12),
        (20, 60),
        (100, 12),
        (400, 3),
        (400, 12),
    ]
    of_100 = next(row for row in found if row.setting.classes == 100)
    assert (of_100.best, of_100.seeds, of_100.scales) == (8.0, 3, (2.0, 4.0, 8.0, 16.0, 32.0))
    assert of_100.estimate is None
    assert of_100.interval.mean == 8.0


def test_without_a_common_length_the_last_common_epoch_counts(made_up: MakeUp) -> None:
    frame = made_up(peak(8.0), SCALES, 2, epochs=10)
    frame.loc[frame["start"] == 2, "epochs_planned"] = 7
    frame = frame[(frame["start"] != 2) | (frame["epochs_done"] <= 7)]
    assert best_scales.lengths(frame) == [7]
    assert best_scales.lengths(frame[frame["schedule"] == "linear"]) == []


def test_classes_are_grouped_at_equal_epochs_and_at_equal_steps(made_up: MakeUp) -> None:
    table = figure.points(three_sizes(made_up), "classes")
    groups = {group: part["classes"].tolist() for group, part in table.groupby("group")}
    assert groups == {
        "glyphs, soft_triple, D=64: 12 epochs each": [20, 100, 400],
        "glyphs, soft_triple, D=64: equal steps (1200 epochs x classes)": [20, 100, 400],
    }
    steps = table[table["group"].str.contains("steps")]
    assert steps["epochs_done"].tolist() == [60, 12, 3]
    assert steps["best"].tolist() == [4.0, 8.0, 16.0]
    assert figure.points(three_sizes(made_up), "dim").empty


def test_the_figure_shows_closed_forms_beside_the_marks(made_up: MakeUp) -> None:
    table = figure.points(three_sizes(made_up, seeds=5), "classes")
    assert table["estimated"].all()
    assert table.loc[table["classes"] == 100, "best"].iloc[0] == pytest.approx(8.0, rel=0.1)
    drawn = figure.draw(table, "classes")
    assert [trace.name.split(":")[0] for trace in drawn.data[2:]] == [
        "AdaCos fixed, √2 ln(C−1)",
        "AdaCos at perfect fit, ln(C−1)",
    ]
    assert drawn.data[2].y[-1] == pytest.approx(adacos_fixed(400.0))
    assert drawn.layout.xaxis.type == drawn.layout.yaxis.type == "log"
    assert "estimates over log s" in figure.caption(table, "classes")


def test_dimensions_share_one_flat_prediction(made_up: MakeUp) -> None:
    parts = [made_up(peak(8.0), SCALES, 2, epochs=6, dim=dim, study=str(dim)) for dim in (8, 64)]
    table = figure.points(pd.concat(parts, ignore_index=True), "dim")
    assert table["dim"].tolist() == [8, 64]
    assert set(figure.draw(table, "dim").data[-1].y) == {float(adacos_fixed(100.0))}


def test_theory_is_confronted_at_each_length(made_up: MakeUp) -> None:
    table = compare.confrontation(three_sizes(made_up))
    rows = table[table["prediction"] == compare.BEST_SCALE.prediction]
    assert len(rows) == 10
    assert rows["measured"].str.contains("after 60 epochs").sum() == 2
