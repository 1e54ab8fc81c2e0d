from __future__ import annotations

import math

import numpy as np
import pytest

from analysis import demo, theory
from analysis.figures import boundary, center, circle, probability, sharpness, style, thesis_curve
from analysis.page import render


def test_circle_gradients_are_the_worked_ones() -> None:
    # One pair, m = .25, gamma = 4, worked by hand from L = softplus(gamma (a_n (s_n - m) - a_p (s_p - 1 + m))).
    for s_p, s_n, on_p, on_n in (
        (0.8, 0.8, -1.62365615226, 3.78853102195),
        (0.8, 0.2, -0.819217993728, 0.819217993728),
    ):
        found = circle.gradients("Circle", np.array(s_p), np.array(s_n), gamma=4)
        assert found[0] == pytest.approx(on_p)
        assert found[1] == pytest.approx(on_n)


def test_triplet_and_am_softmax_pull_equally_on_both_similarities() -> None:
    line = np.linspace(0, 1, 11)
    s_n, s_p = np.meshgrid(line, line)
    for loss in ("triplet", "AM-Softmax"):
        on_p, on_n = circle.gradients(loss, s_p, s_n)
        assert np.array_equal(on_p, -on_n)
    with pytest.raises(ValueError, match="Circle"):
        circle.gradients("other", s_p, s_n)


def test_circle_boundary_lies_where_its_logit_is_0() -> None:
    frame = circle.boundary_points()
    part = frame[frame["curve"].str.startswith("Circle")]
    radius = (part["s_n"] ** 2 + (1 - part["s_p"]) ** 2).to_numpy()
    assert radius == pytest.approx(np.full(len(part), 2 * circle.CIRCLE_M**2))


def test_a_center_step_divides_by_one_more_than_the_samples() -> None:
    assert center.step(np.zeros(2), np.array(center.SAMPLES), 0.5).tolist() == [1.0, 1.0]
    assert center.step(np.array([5.0, 5.0]), np.empty((0, 2)), 0.5).tolist() == [5.0, 5.0]


def test_figure_3_3_marks_the_scale_that_halves_at_45_degrees() -> None:
    for classes, scale in ((2000, 10.749), (20000, 14.006)):
        frame = probability.points(classes)
        fixed = frame[frame["curve"].str.startswith("AdaCos")]
        assert fixed["s"].iloc[0] == pytest.approx(scale, abs=5e-4)
        assert fixed.loc[fixed["theta_deg"] == 45, "probability"].iloc[0] == pytest.approx(0.5)


def test_figure_3_4_moves_the_half_point_by_the_margin() -> None:
    frame = probability.margin_points(100, 20.0)
    part = frame[frame["curve"].str.startswith("ArcFace")]
    crossing = part.loc[part["probability"] < 0.5, "theta_deg"].min()
    assert crossing == pytest.approx(theory.arcface_half_point_degrees(20.0, 100.0, 0.5), abs=0.5)


def test_figure_3_5_holds_the_worked_outputs() -> None:
    frame = sharpness.points()
    assert frame.loc[frame["s"] == 10, "share"].round(4).tolist() == [0.0321, 0.0871, 0.2369, 0.6439]
    assert frame.groupby("s")["effective_classes"].first().round(4).tolist() == [3.9752, 3.9029, 3.4731, 2.5793]


def test_figure_3_2_names_the_nearer_class_at_every_scale() -> None:
    frame = boundary.points(scales=(1.0, 50.0), steps=9)
    assert frame["probability"].between(0, 1).all()
    near = boundary.points(scales=(50.0,), steps=41)
    at = near.loc[((near["x"] + 1.2).abs() < 0.05) & ((near["y"] - 0.5).abs() < 0.05), "probability"]
    assert (at > 0.99).all()


def test_the_printed_curve_has_the_thesis_best_scales() -> None:
    frame = thesis_curve.points()
    best = frame.loc[frame.groupby("dataset")["recall"].idxmax()].set_index("dataset")["scale"]
    assert best.to_dict() == {"cub200": 20, "cars196": 15}


def test_every_figure_of_the_demo_names_its_axes() -> None:
    page = demo.build()
    for figure in page.figures():
        if figure.figure is None:
            assert "search_spaces/thesis/" in figure.missing
            continue
        assert figure.figure.layout.xaxis.title.text, figure.id
        assert figure.figure.layout.yaxis.title.text, figure.id
    assert len(render(page)) < 8e6


def test_log_ticks_are_round_and_inside() -> None:
    assert style.log_ticks(1, 60) == [1, 2, 5, 10, 20, 50]
    assert style.log_ticks(1e-5, 1) == pytest.approx([10.0**power for power in range(-5, 1)])


def test_colors_follow_the_logarithm_and_fade() -> None:
    dark, middle, light = style.sequence_colors([1, 8, 64], log=True)
    assert len({dark, middle, light}) == 3
    assert style.faded("#0072B2", 0.5) == "rgba(0,114,178,0.5)"
    assert math.isclose(float(style.faded(dark, 0.25).rsplit(",", 1)[1][:-1]), 0.25)
