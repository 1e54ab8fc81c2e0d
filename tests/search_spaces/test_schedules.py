from __future__ import annotations

import itertools
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from search_spaces.schedules import (
    ConstantScale,
    LearnedScale,
    LinearScale,
    QuadraticScale,
    ScaleSchedule,
    StepsScale,
    SwitchScale,
    last_change,
    scale_at,
)

Kind = Literal["linear", "quadratic"]
Ends = Literal["inclusive", "step", "exclusive"]
Ramp = LinearScale | QuadraticScale


def a_ramp(
    kind: Kind = "linear",
    *,
    start: float = 20,
    end: float = 5,
    first_epoch: int = 0,
    epochs: int = 50,
    ends: Ends = "inclusive",
) -> Ramp:
    ramp = LinearScale if kind == "linear" else QuadraticScale
    return ramp(start=start, end=end, first_epoch=first_epoch, epochs=epochs, ends=ends)


@pytest.mark.parametrize("first_epoch", [0, 50])
@pytest.mark.parametrize(
    ("kind", "ends", "expected"),
    [
        ("linear", "inclusive", [20, 19.693878, 16.938776, 12.653061, 12.346939, 7.755102, 5.306122, 5, 5]),
        ("quadratic", "inclusive", [20, 19.394002, 14.502291, 8.904623, 8.598501, 5.506039, 5.006247, 5, 5]),
        ("linear", "step", [19.7, 19.4, 16.7, 12.5, 12.2, 7.7, 5.3, 5, 5]),
        ("linear", "exclusive", [20, 19.7, 17, 12.8, 12.5, 8, 5.6, 5.3, 5]),
    ],
)
def test_worked_values(kind: Kind, ends: Ends, expected: list[float], first_epoch: int) -> None:
    ramp = a_ramp(kind, first_epoch=first_epoch, ends=ends)
    found = [scale_at(ramp, first_epoch + epoch) for epoch in (0, 1, 10, 24, 25, 40, 48, 49, 50)]
    assert found == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(
    ("end", "expected"), [(10, [19.795918, 15.102041, 10.204082]), (2.5, [19.642857, 11.428571, 2.857143])]
)
def test_worked_values_for_other_ends(end: float, expected: list[float]) -> None:
    found = [scale_at(a_ramp(end=end), epoch) for epoch in (1, 24, 48)]
    assert found == pytest.approx(expected, abs=5e-7)


def test_means_over_the_ramp_and_first_epochs_below_ten() -> None:
    assert sum(scale_at(a_ramp(), epoch) for epoch in range(50)) / 50 == pytest.approx(12.5, abs=1e-9)
    assert sum(scale_at(a_ramp("quadratic"), epoch) for epoch in range(50)) / 50 == pytest.approx(10.051020, abs=5e-7)
    additional = [a_ramp("linear", first_epoch=50), a_ramp("quadratic", first_epoch=50)]
    found = [next(epoch for epoch in itertools.count() if scale_at(ramp, epoch) < 10) for ramp in additional]
    assert found == [83, 71]


@pytest.mark.parametrize(("kind", "expected"), [("linear", 0.300), ("quadratic", 0.594)])
def test_the_step_option_differs_by_little(kind: Kind, expected: float) -> None:
    default, step = a_ramp(kind), a_ramp(kind, ends="step")
    gap = max(abs(scale_at(default, epoch) - scale_at(step, epoch)) for epoch in range(60))
    assert gap == pytest.approx(expected, abs=5e-4)


def test_a_switch_changes_at_its_epoch() -> None:
    switch = SwitchScale(before=20, after=5, switch_epoch=50)
    assert [scale_at(switch, epoch) for epoch in (0, 49, 50, 149)] == [20, 20, 5, 5]


def test_heated_up_softmaxs_schedules() -> None:
    heated = SwitchScale(before=16, after=4, switch_epoch=61)
    assert [scale_at(heated, epoch) for epoch in (60, 61)] == [16, 4]
    staged = StepsScale(initial=16, factor=1 / 1.41, every=10)
    found = [scale_at(staged, epoch) for epoch in (0, 9, 10, 20, 40)]
    assert found == pytest.approx([16, 16, 11.3475, 8.0479, 4.048], abs=5e-4)


def test_a_constant_and_a_learned_scale_have_one_value() -> None:
    assert {scale_at(ConstantScale(value=6.5), epoch) for epoch in range(100)} == {6.5}
    assert {scale_at(LearnedScale(), epoch) for epoch in range(100)} == {10.0}
    assert LearnedScale().floor == 0.01


@st.composite
def falling_ramps(draw: st.DrawFn, kind: Kind) -> Ramp:
    end = draw(st.floats(0.01, 100))
    return a_ramp(
        kind,
        start=end + draw(st.floats(1e-3, 100)),
        end=end,
        first_epoch=draw(st.integers(0, 60)),
        epochs=draw(st.integers(2, 60)),
        ends=draw(st.sampled_from(["inclusive", "step", "exclusive"])),
    )


@settings(deadline=None)
@given(falling_ramps("linear") | falling_ramps("quadratic"))
def test_both_ends_of_a_ramp_are_exact_and_it_falls_between_them(ramp: Ramp) -> None:
    values = [scale_at(ramp, epoch) for epoch in range(ramp.hold_epoch + 5)]
    untouched = ramp.first_epoch + (0 if ramp.ends == "step" else 1)
    assert values[:untouched] == [ramp.start] * untouched
    assert values[ramp.hold_epoch :] == [ramp.end] * 5
    between = values[max(untouched - 1, 0) : ramp.hold_epoch + 1]
    assert all(before > after for before, after in itertools.pairwise(between))
    assert last_change(ramp) == ramp.hold_epoch


@settings(deadline=None)
@given(falling_ramps("linear"))
def test_a_quadratic_ramp_lies_below_the_linear_one_with_its_ends(ramp: Ramp) -> None:
    fast = a_ramp(
        "quadratic",
        start=ramp.start,
        end=ramp.end,
        first_epoch=ramp.first_epoch,
        epochs=ramp.epochs,
        ends=ramp.ends,
    )
    for epoch in range(ramp.hold_epoch + 2):
        assert scale_at(fast, epoch) <= scale_at(ramp, epoch) * (1 + 1e-12)


@settings(deadline=None)
@given(falling_ramps("linear"))
def test_a_linear_ramp_may_rise_the_way_it_falls(ramp: Ramp) -> None:
    rising = ramp.replace(start=ramp.end, end=ramp.start)
    for epoch in range(ramp.hold_epoch + 2):
        assert scale_at(rising, epoch) + scale_at(ramp, epoch) == pytest.approx(ramp.start + ramp.end)


def test_last_change_is_where_the_scale_stays() -> None:
    assert last_change(ConstantScale(value=3)) == 0
    assert last_change(SwitchScale(before=20, after=5, switch_epoch=50)) == 50
    assert last_change(a_ramp(first_epoch=50)) == 99
    assert last_change(a_ramp(first_epoch=50, ends="exclusive")) == 100
    assert last_change(StepsScale(initial=16, factor=0.5, every=10)) is None
    assert last_change(LearnedScale()) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "constant", "value": 0.0}, "greater than 0"),
        ({"kind": "switch", "before": 5.0, "after": 5.0, "switch_epoch": 3}, "use kind: constant"),
        ({"kind": "switch", "before": 20.0, "after": 5.0, "switch_epoch": 0}, "greater than or equal to 1"),
        ({"kind": "linear", "start": 20.0, "end": 5.0, "first_epoch": 0, "epochs": 1}, "greater than or equal to 2"),
        ({"kind": "linear", "start": 5.0, "end": 5.0, "first_epoch": 0, "epochs": 9}, "use kind: constant"),
        ({"kind": "linear", "start": 20.0, "end": 5.0, "first_epoch": -1, "epochs": 9}, "greater than or equal to 0"),
        ({"kind": "quadratic", "start": 5.0, "end": 20.0, "first_epoch": 0, "epochs": 9}, "use kind: linear to rise"),
    ],
)
def test_a_schedule_that_is_another_or_none_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter[ScaleSchedule](ScaleSchedule).validate_python(values)
