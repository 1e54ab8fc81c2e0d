"""The page that needs no run: closed-form figures, and what the thesis printed."""

from __future__ import annotations

from analysis import thesis_report
from analysis.figures import boundary, center, circle, probability, sharpness, thesis_curve
from analysis.page import Block, Figure, Page, Row, Section
from analysis.report import foot


def theory_section() -> Section:
    """Figures 3.2 to 3.5, by formula."""
    blocks: list[Block] = [
        "These figures need no training: they are the thesis's section 3.2, computed from its formulas (with its "
        "misprints mended)."
    ]
    frame = boundary.points()
    bars = sharpness.points()
    blocks.append(
        Row(
            (
                Figure(
                    "figure-3-2", "Figure 3.2: boundary and temperature", boundary.CAPTION, boundary.draw(frame), frame
                ),
                Figure(
                    "figure-3-5", "Figure 3.5: sharpness of the softmax", sharpness.CAPTION, sharpness.draw(bars), bars
                ),
            )
        )
    )
    curves: list[Figure] = []
    for classes in (*probability.CLASSES, 100):
        frame = probability.points(classes)
        title = f"Figure 3.3: C = {classes}" if classes in probability.CLASSES else f"The same for C = {classes}"
        curves.append(Figure(f"figure-3-3-{classes}", title, "", probability.draw(frame), frame))
    blocks.append(Row(tuple(curves), probability.CAPTION_33))
    margins: list[Figure] = []
    for scale in (20.0, 64.0):
        frame = probability.margin_points(100, scale)
        title = f"Figure 3.4: margins at s = {scale:g}, C = 100"
        margins.append(Figure(f"figure-3-4-{scale:g}", title, "", probability.draw(frame), frame))
    blocks.append(Row(tuple(margins), probability.CAPTION_34))
    return Section("theory", "Theory: figures 3.2 to 3.5", blocks)


def other_losses_section() -> Section:
    """Circle's gradients and boundaries, and a center's step."""
    maps: list[Figure] = []
    for loss in circle.LOSSES:
        frame = circle.points(loss)
        for on, words in (("on_s_p", "s_p"), ("on_s_n", "s_n")):
            name = f"circle-{loss.lower()}-{on.replace('_', '-')}"
            maps.append(Figure(name, f"{loss}: gradient on {words}", "", circle.draw(frame, on), frame))
    line = circle.boundary_points()
    step = center.step_points()
    return Section(
        "other-losses",
        "Circle and Center loss, by formula",
        [
            Row(tuple(maps), circle.CAPTION_GRADIENTS),
            Row(
                (
                    Figure(
                        "circle-boundary",
                        "Decision boundaries",
                        circle.CAPTION_BOUNDARY,
                        circle.draw_boundary(line),
                        line,
                    ),
                    Figure("center-step", "One step of a center", center.CAPTION_STEP, center.draw_step(step), step),
                )
            ),
        ],
    )


def build() -> Page:
    """The page, from printed data and theory alone."""
    printed = thesis_curve.points()
    return Page(
        title="The softmax scale: theory and printed numbers",
        subtitle="No study was run for this page: every figure comes from a formula or from printed numbers.",
        question="Does the scale that AdaCos derives give the best Recall@1 on unseen classes?",
        answer=[
            thesis_curve.caption(printed),
            "To measure it here: python -m study run search_spaces/examples/quickstart.yaml, then python -m analysis "
            "report quickstart.",
        ],
        warnings=["The thesis ran each condition once and chose on the classes that it then reported."],
        sections=[theory_section(), *thesis_report.sections([]), other_losses_section()],
        foot=foot(),
    )
