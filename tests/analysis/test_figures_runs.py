from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import compare, load, runs, thesis_report
from analysis.answer import answer
from analysis.figures import (
    against,
    configurations,
    embeddings,
    gamma,
    learning_curves,
    parallel,
    proxy_cosines,
    rungs,
    scale_curve,
    schedules,
    search,
)
from analysis.load import Study
from analysis.page import Cards, Figure, Page, Row, render
from analysis.report import build
from analysis.runs import Condition
from benchmarks.made_up import curve, plan_config, search_config, thesis_config, trial_fields, write_plan, write_search
from search_spaces.losses import Circle
from search_spaces.trial_config import TrialConfig

PHASE = 4
THREE = {"loss.scale.value": [5, 10, 20]}


@pytest.fixture(scope="module")
def thesis(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("studies") / "all"
    return load(write_plan(folder, thesis_config(phase=PHASE), array_epochs=(0, 1, 4, 8), diagnostics=True))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load(write_search(tmp_path_factory.mktemp("studies") / "search", search_config(), 30))


def test_scale_curve_has_mean_and_interval_over_seeds(tmp_path: Path) -> None:
    study = load(write_plan(tmp_path / "s", plan_config(seeds=[0, 1, 2])))
    frame = scale_curve.points(study)
    table = scale_curve.table(frame)
    part = table[(table["scale"] == 5) & (table["split"] == "validation")]
    assert part["n"].tolist() == [3, 3, 3]
    assert part["mean"].to_numpy() == pytest.approx(np.full(3, part["recall"].mean()))
    assert (part["low"] < part["mean"]).all()
    drawn = scale_curve.draw(frame, 100)
    names = [trace.name for trace in drawn.data if trace.showlegend is not False]
    assert names[:2] == ["validation", "test"]
    assert "AdaCos fixed, √2 ln(C−1) = 6.5" in names


def test_adacos_stands_beside_the_curve_and_schedules_stay_out_of_it(tmp_path: Path) -> None:
    cases = [
        {"name": "s=5", "loss.scale.value": 5},
        {"name": "s=20", "loss.scale.value": 20},
        {"name": "AdaCos", "loss": {"kind": "adacos"}},
        {"name": "switch", "loss.scale": {"kind": "switch", "before": 20, "after": 5, "switch_epoch": 2}},
    ]
    study = load(write_plan(tmp_path / "s", plan_config(vary={}, cases=cases)))
    frame = scale_curve.points(study)
    assert set(frame.loc[frame["own_scale"], "scale"].round(2)) == {6.5}
    assert set(frame.loc[~frame["own_scale"], "scale"]) == {5.0, 20.0}
    assert scale_curve.applies(frame)


def test_curves_are_named_as_the_cases_are(tmp_path: Path) -> None:
    cases = [{"name": "small"}, {"name": "wide, of 512", "model": {"kind": "small_cnn", "embedding_dim": 512}}]
    study = load(write_plan(tmp_path / "s", plan_config(cases=cases)))
    assert set(scale_curve.points(study)["group"]) == {"small", "wide, of 512"}
    rates = {"loss.scale.value": [5, 20], "optimizer.lr": [1e-3, 1e-2]}
    gridded = load(write_plan(tmp_path / "g", plan_config(vary=rates)))
    assert set(scale_curve.points(gridded)["group"]) == {"lr=0.001", "lr=0.01"}


def test_any_varied_number_gets_a_curve(tmp_path: Path) -> None:
    trial = trial_fields(loss={"kind": "circle"})
    study = load(write_plan(tmp_path / "s", plan_config(trial=trial, vary={"loss.gamma": [16, 64, 256]})))
    assert against.numeric_paths(study) == ["loss.gamma"]
    frame = against.points(study, "loss.gamma")
    drawn = against.draw(frame, "loss.gamma")
    assert drawn.layout.xaxis.type == "log"
    assert drawn.layout.xaxis.title.text == "gamma (log axis)"
    assert not scale_curve.applies(scale_curve.points(study))


def test_configurations_are_ordered_by_their_mean(tmp_path: Path) -> None:
    study = load(write_plan(tmp_path / "s", plan_config(seeds=[0, 1, 2])))
    drawn = configurations.draw(configurations.points(study.trials))
    order = study.trials.groupby("configuration")["value"].mean().sort_values()
    assert list(drawn.layout.yaxis.ticktext) == list(order.index)


def test_learning_curves_average_the_seeds_of_each_epoch(tmp_path: Path) -> None:
    study = load(write_plan(tmp_path / "s", plan_config()))
    frame = learning_curves.points(study, "loss")
    mean = learning_curves.means(frame)
    assert len(mean) == 6
    own = frame[(frame["configuration"] == "s=5") & (frame["epochs_done"] == 2)]
    assert mean.loc[(mean["configuration"] == "s=5") & (mean["epochs_done"] == 2), "value"].iloc[0] == pytest.approx(
        own["value"].mean()
    )
    assert learning_curves.points(study, "nothing").empty


def test_rungs_say_who_was_stopped_where(searched: Study) -> None:
    frame = rungs.points(searched)
    stopped = frame[frame["decision"] == "stop"]
    assert set(stopped["fate"]) == {"pruned"}
    saved = (searched.trials["epochs_planned"] - searched.trials["epochs_done"]).sum()
    assert f"saved {saved} epochs of 300 planned" in rungs.caption(searched)
    assert len(rungs.draw(frame, rungs.curves(searched)).data) == 4


def test_a_search_history_never_falls(searched: Study) -> None:
    frame = search.points(searched)
    assert frame["best"].dropna().is_monotonic_increasing
    assert len(frame) == 30


def test_the_optuna_study_holds_the_completed_proposals_with_the_files_ranges(searched: Study) -> None:
    rebuilt = search.optuna_study(searched)
    complete = searched.trials[(searched.trials["phase"] == "search") & (searched.trials["status"] == "complete")]
    assert [trial.value for trial in rebuilt.trials] == pytest.approx((100 * complete["value"]).tolist())
    distribution = rebuilt.trials[0].distributions["loss.scale.value"]
    assert (distribution.low, distribution.high, distribution.log) == (1, 64, True)  # type: ignore[attr-defined]


def test_parallel_coordinates_leave_a_gap_where_a_parameter_is_missing(searched: Study) -> None:
    frame = parallel.points(search.points(searched))
    frame["only_some"] = [None, *["a"] * (len(frame) - 1)]
    drawn = parallel.draw(frame)
    assert sum(value is None for trace in drawn.data for value in trace.y) == len(frame) + 1
    assert list(drawn.layout.xaxis.ticktext)[-1].startswith("Recall@1")


def test_thesis_figures_find_their_runs_by_what_they_trained(thesis: Study) -> None:
    frame = runs.curves([thesis])
    found = {
        figure.number: [str(condition) for condition in fitting[0][2]]
        for figure in schedules.FIGURES
        if (fitting := schedules.fitting(figure, frame))
    }
    assert set(found["4.5"]) == {"constant 6.5", "constant 20"}
    assert set(found["4.6"]) == {"constant 20", "linear 20 to 10", "linear 20 to 5"}
    assert set(found["4.7"]) == {"linear 20 to 5", "switch 20 to 5"}
    assert set(found["5.3"]) == {"linear 20 to 5", "linear from start 20 to 5"}
    assert set(found["5.4"]) == {"linear 20 to 5", "quadratic 20 to 5"}


def test_a_thesis_figure_without_its_control_is_a_gap() -> None:
    linear = Condition("linear", 20, 5)
    by_number = {figure.number: figure for figure in schedules.FIGURES}
    assert schedules.shown(by_number["4.6"], [linear, Condition("constant", 10, 10)]) == []
    assert schedules.shown(by_number["4.7"], [linear, Condition("switch", 20, 10)]) == []
    assert "search_spaces/thesis/exp3-glyphs.yaml" in schedules.gap(by_number["4.7"])


def test_a_thesis_figure_counts_epochs_up_to_its_phases(thesis: Study) -> None:
    frame = runs.curves([thesis])
    figure = schedules.FIGURES[1]
    setting, part, conditions = schedules.fitting(figure, frame)[0]
    points = schedules.points(figure, part, conditions, "loss")
    assert points["epochs_done"].max() == 2 * PHASE
    assert points["epochs_done"].min() == 1
    drawn = schedules.draw(points, "loss", PHASE)
    assert [shape.x0 for shape in drawn.layout.shapes] == [PHASE]
    assert "phases of 4 epochs" in schedules.caption(figure, setting, part, PHASE)


def test_printed_numbers_stand_beside_and_are_never_drawn_as_ours() -> None:
    figure = schedules.FIGURES[1]
    frame = schedules.printed_points(figure, "test_recall_at_1")
    assert set(frame["epochs_done"]) == {50, 100}
    assert all("CUB" in trace.name or "Cars" in trace.name for trace in schedules.draw_printed(frame, "loss").data)
    assert "2.033 nats at epoch 100" in schedules.loss_maxima()


def test_without_any_study_every_thesis_figure_is_a_gap_that_names_its_file() -> None:
    parts = thesis_report.sections([])
    gaps = [block for part in parts for block in part.blocks if isinstance(block, Figure) and block.missing]
    assert {gap.id for gap in gaps} == {
        *("figure-4-5", "figure-4-6", "figure-4-7", "figure-5-1", "figure-5-2", "figure-5-3", "figure-5-4"),
        "figure-a-3",
    }
    assert all(".yaml" in gap.missing for gap in gaps)


def test_proxy_histograms_are_densities_and_shared_epochs_count_once(thesis: Study) -> None:
    frame = proxy_cosines.points([thesis])
    part = frame[(frame["condition"] == "constant 20") & (frame["epochs_done"] == 4) & (frame["definition"] == "all")]
    assert (part["density"].sum() * 2 / 200) == pytest.approx(1)
    assert set(part["seeds"]) == {2}
    assert set(frame.loc[frame["epochs_done"] == 0, "condition"]) == {"untrained"}
    x, density = proxy_cosines.random_density(part["cosine"].to_numpy(), 64)
    variance = float((density * x**2).sum() / density.sum())
    assert variance == pytest.approx(1 / 64, rel=0.01)


def test_proxy_histograms_of_two_settings_are_not_mixed_and_the_thesis_scales_are_drawn(
    thesis: Study, tmp_path: Path
) -> None:
    fields = trial_fields(model={"kind": "small_cnn", "embedding_dim": 8}, epochs=PHASE)
    other = load(write_plan(tmp_path / "other", plan_config("other", trial=fields), array_epochs=(1, 2)))
    frame = proxy_cosines.points([thesis, other])
    assert list(dict.fromkeys(frame["setting"])) == [
        "glyphs, soft_triple, C=100, D=64",
        "glyphs, normalized_softmax, C=100, D=8",
    ]
    alone = proxy_cosines.points([thesis])
    pd.testing.assert_frame_equal(frame[frame["dim"] == 64].reset_index(drop=True), alone)
    mine = {kept.number: alone[kept.has(alone["epochs_done"], alone["phase"])] for kept in proxy_cosines.FIGURES}
    shown = {kept.number: mine[kept.number][kept.shows(mine[kept.number])] for kept in proxy_cosines.FIGURES}
    assert {number: list(dict.fromkeys(part["condition"])) for number, part in shown.items()} == {
        "5.1": ["untrained"],
        "5.2": ["constant 20", "constant 6.5"],
        "A.3": [
            "constant 20",
            "linear 20 to 10",
            "linear 20 to 5",
            "linear from start 20 to 5",
            "quadratic 20 to 5",
            "switch 20 to 5",
        ],
    }


def test_embeddings_lie_in_the_plane_of_their_main_directions(tmp_path: Path) -> None:
    study = load(write_plan(tmp_path / "s", plan_config(vary={"loss.scale.value": [5]}), array_epochs=(1, 3)))
    frame = embeddings.points(study)
    assert set(frame["epochs_done"]) == {1, 3}
    part = frame[(frame["number"] == 0) & (frame["epochs_done"] == 3)]
    assert part["x"].var() >= part["y"].var()
    section = thesis_report.embedding_section(study, "")[0]
    assert isinstance(section.blocks[0], Row)


def test_the_thesis_page_has_no_gap_where_all_was_run(thesis: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which runs each figure finds is tested above; two of them are enough to draw.
    chosen = [figure for figure in schedules.FIGURES if figure.number in ("4.7", "5.4")]
    monkeypatch.setattr(schedules, "FIGURES", chosen)
    parts = thesis_report.sections([thesis])
    assert not [block for part in parts for block in part.blocks if isinstance(block, Figure) and block.missing]
    text = render(Page("t", "", "", [], [], parts))
    assert "Figure 4.7, ours (glyphs, soft_triple, C=100, D=64; 2 seeds)" in text
    assert "Printed loss maxima on CUB" in text


def gamma_study(folder: Path, circle_drop: float) -> Study:
    """Circle and AM-Softmax at 8, 32, 128, Recall falling by circle_drop and by .1 per step."""
    values = (8, 32, 128)
    cases = [
        *({"name": f"c{x}", "loss": {"kind": "circle", "level": "class", "m": 0.25, "gamma": x}} for x in values),
        *(
            {"name": f"a{x}", "loss": {"kind": "cosface", "margin": 0.25, "scale": {"kind": "constant", "value": x}}}
            for x in values
        ),
    ]

    def measured(trial: TrialConfig, seed: int, epochs_done: int) -> dict[str, float]:
        is_circle = isinstance(trial.loss, Circle)
        x = trial.loss.gamma if isinstance(trial.loss, Circle) else trial.loss.scale.value  # type: ignore[union-attr]
        lost = (circle_drop if is_circle else 0.1) * values.index(x)
        return {**curve(trial, seed, epochs_done), "val_recall_at_1": 0.9 - lost + 0.001 * ((seed * 3 + x) % 5)}

    return load(write_plan(folder, plan_config(vary={}, cases=cases, seeds=[0, 1, 2]), measured))


def test_gamma_and_scale_share_an_axis_and_the_flatter_curve_is_named(tmp_path: Path) -> None:
    study = gamma_study(tmp_path / "s", 0.01)
    frame = gamma.points(study)
    assert gamma.applies(frame)
    assert set(frame["group"]) == {gamma.CIRCLE, gamma.AM_SOFTMAX}
    drawn = gamma.draw(frame)
    assert drawn.layout.xaxis.type == "log"
    assert f"{gamma.CIRCLE}, validation" in [trace.name for trace in drawn.data]
    assert gamma.steadiness(frame).endswith("3 seeds paired): Circle is steadier.")
    assert gamma.steadiness(frame) in answer(study).sentences
    page = build([study])[0]
    assert "gamma" in [figure.id for figure in page.figures()]
    assert "configurations" not in [figure.id for figure in page.figures()]


def test_steadiness_is_undecided_for_equal_spreads_and_silent_without_common_values(tmp_path: Path) -> None:
    frame = gamma.points(gamma_study(tmp_path / "s", 0.1))
    assert gamma.steadiness(frame).endswith("undecided.")
    assert "one seed cannot tell" in gamma.steadiness(frame[frame["seed"] == 0])
    assert gamma.steadiness(frame[(frame["group"] == gamma.CIRCLE) | (frame["x"] < 100)]) == ""
    assert not gamma.applies(frame[frame["group"] == gamma.CIRCLE])


def test_a_wide_band_does_not_flatten_the_curve(tmp_path: Path) -> None:
    frame = against.points(load(write_plan(tmp_path / "s", plan_config(vary=THREE))), "loss.scale.value")
    low, high = against.draw(frame, "loss.scale.value").layout.yaxis.range
    assert high - low < 4 * 100 * (frame["recall"].max() - frame["recall"].min()) + 4
    assert "cut where it leaves the picture" in against.caption(frame, "loss.scale.value")


def test_optuna_plots_fit_the_page_and_few_proposals_have_no_importance(searched: Study) -> None:
    rebuilt = search.optuna_study(searched)
    slices = search.slices(rebuilt)
    assert [name for name, _ in slices] == ["loss.scale.value", "optimizer.lr"]
    assert all(figure.layout.width is None for _, figure in slices)
    assert len(rebuilt.trials) < search.FEWEST_IMPORTANCE
    assert search.importance(rebuilt) is None


def test_measurements_of_one_prediction_share_a_card_and_keep_their_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    common = {"section": "8", "prediction": "p", "setting": "s", "predicted": "1", "rule": "r", "assumption": "a"}
    rows = [
        {**common, "measured": "constant 1: 2", "verdict": "disagrees"},
        {**common, "measured": "constant 3: 1", "verdict": "agrees"},
        {**common, "setting": "other", "measured": "val_recall_at_1: 1", "verdict": "agrees"},
    ]
    monkeypatch.setattr(compare, "confrontation", lambda frame: pd.DataFrame(rows))
    block = thesis_report.confrontation(pd.DataFrame())[0].blocks[-1]
    assert isinstance(block, Cards)
    assert (block.title, block.note) == ("8. p", "Rule: r. Assumes: a.")
    assert [(card.title, card.verdict) for card in block.cards] == [("s", "mixed"), ("other", "agrees")]
    measured = [dict(card.lines)["Measured"] for card in block.cards]
    assert measured == ["constant 1: 2 (disagrees); constant 3: 1 (agrees)", "validation Recall@1: 1"]


def test_disagreement_is_shown_first_and_what_is_more_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    common = {"section": "8", "prediction": "p", "predicted": "1", "rule": "r", "assumption": "", "measured": "m"}
    verdicts = ["undecided", "agrees", "agrees", "agrees", "disagrees"]
    rows = [{**common, "setting": str(place), "verdict": verdict} for place, verdict in enumerate(verdicts)]
    monkeypatch.setattr(compare, "confrontation", lambda frame: pd.DataFrame(rows))
    section = thesis_report.confrontation(pd.DataFrame())[0]
    block = section.blocks[-1]
    assert isinstance(block, Cards)
    open_, closed = block.parts
    assert [card.title for card in open_] == ["4", "1", "2"]
    assert [card.title for card in closed] == ["3", "0"]
    text = render(Page("t", "", "", [], [], [section]))
    assert text.index("<summary>2 more</summary>") < text.index("undecided</span>")
    assert text.count("Rule: r.") == 1
