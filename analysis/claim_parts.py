"""What each of the thesis's claims measures: inequalities with a p value for and a p value against.

analysis.claims states the claims and their rules; here are the quantities, by seed, at equal epochs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import intervals, runs, theory
from analysis.runs import Condition, Setting

Values = NDArray[np.float64]

POINT = 0.01
RECALL = "test_recall_at_1"
ACCURACY = "train_accuracy"
STAYS = 0.25  # C11: a variance within this share of 1/D has stayed
HIGH_DIM = 256  # C12: from here on dimension is high; the thesis has 64 and 512
NEAR_ZERO = 0.1  # C12: cosines whose root mean square is below this are near 0
MUCH = 1.1  # C17: a time more than this factor longer is much longer
START, END = 20.0, 5.0
FINALS = (10.0, 5.0, 2.5)


class Part(NamedTuple):
    """One inequality of a claim. values: by seed, in the unit of the words; p_for, p_against: one-sided p values."""

    words: str
    values: Values
    p_for: float
    p_against: float

    @property
    def p(self) -> float:
        """Two-sided p value: small if the data speak clearly for or against."""
        return min(1.0, 2 * min(self.p_for, self.p_against))

    @property
    def speaks_for(self) -> bool:
        return self.p_for < self.p_against


class Data(NamedTuple):
    """What a claim may look at: the thesis's setting of a data set, its phase in epochs, and all of the data set."""

    setting: Setting
    part: pd.DataFrame
    phase: int
    everything: pd.DataFrame

    def at(self, condition: Condition, metric: str, phases: float, last: int = 1) -> pd.Series:
        """`metric` by seed after so many phases."""
        return runs.by_seed(self.part, condition, metric, round(phases * self.phase), last)


# Kinds of inequality -----------------------------------------------------------------------------------------------


def above(words: str, values: pd.Series, threshold: float = 0.0) -> Part:
    """The mean is above `threshold`."""
    numbers = values.dropna().to_numpy(dtype=np.float64)
    p_for, p_against = intervals.p_above(numbers, threshold), intervals.p_below(numbers, threshold)
    return Part(words, numbers, p_for, p_against)


def some_above(words: str, candidates: Sequence[pd.Series]) -> Part:
    """At least one of several means is above 0 (Bonferroni); against it, that all are below. values: the highest's.

    So nothing is chosen first: a best one, chosen on classes of the same runs, would carry its luck into the test.
    """
    series = [candidate.dropna().to_numpy(dtype=np.float64) for candidate in candidates]
    series = [values for values in series if len(values)]
    if not series:
        return Part(words, np.zeros(0), 1.0, 1.0)
    p_for = min(1.0, len(series) * min(intervals.p_above(values) for values in series))
    p_against = max(intervals.p_below(values) for values in series)
    return Part(words, max(series, key=lambda values: float(values.mean())), p_for, p_against)


def below(words: str, values: pd.Series, threshold: float) -> Part:
    """The mean is below `threshold`."""
    numbers = values.dropna().to_numpy(dtype=np.float64)
    p_for, p_against = intervals.p_below(numbers, threshold), intervals.p_above(numbers, threshold)
    return Part(words, numbers, p_for, p_against)


def within(words: str, values: pd.Series, margin: float) -> Part:
    """The mean is within `margin` of 0: two one-sided tests; against it, that it lies outside on one side."""
    numbers = values.dropna().to_numpy(dtype=np.float64)
    inside = max(intervals.p_above(numbers, -margin), intervals.p_below(numbers, margin))
    outside = 2 * min(intervals.p_above(numbers, margin), intervals.p_below(numbers, -margin))
    return Part(words, numbers, inside, min(1.0, outside))


def apart(words: str, values: pd.Series, margin: float) -> Part:
    """The mean is not 0; against it, that it is within `margin` of 0."""
    numbers = values.dropna().to_numpy(dtype=np.float64)
    inside = max(intervals.p_above(numbers, -margin), intervals.p_below(numbers, margin))
    return Part(words, numbers, intervals.p_differs(numbers) / 2, inside)


# What each claim measures ------------------------------------------------------------------------------------------


def _constant(scale: float) -> Condition:
    return Condition("constant", scale, scale)


def _linear(end: float = END) -> Condition:
    return Condition("linear", START, end)


_SWITCH = Condition("switch", START, END)
_QUADRATIC = Condition("quadratic", START, END)
_FROM_START = Condition("linear_from_start", START, END)


def _constants(data: Data) -> list[Condition]:
    return [condition for condition in runs.conditions(data.part) if condition.schedule == "constant"]


def c2(data: Data) -> list[Part]:
    """Some constant from 15 to 30 exceeds each constant up to 10."""
    enough = [data.at(condition, RECALL, 2) for condition in _constants(data) if 15 <= condition.start <= 30]
    return [
        some_above(f"some of 15 to 30 minus {small.start:g}", [recall - data.at(small, RECALL, 2) for recall in enough])
        for small in _constants(data)
        if small.start <= 10
    ]


def c3(data: Data) -> list[Part]:
    """Some constant exceeds the largest."""
    *smaller, largest = _constants(data) or [_constant(START)]
    top = data.at(largest, RECALL, 2)
    differences = [data.at(condition, RECALL, 2) - top for condition in smaller]
    return [some_above(f"some smaller constant minus the largest ({largest.start:g})", differences)]


def c4(data: Data) -> list[Part]:
    """Recall@1 falls over the second phase at each constant up to 6.5; the fall is that of a straight line."""
    half = data.part[data.part["epochs_done"].between(data.phase + 1, 2 * data.phase)]
    falls = []
    for small in (condition for condition in _constants(data) if condition.start <= 6.5):
        rows = half[(half["schedule"] == "constant") & (half["start"] == small.start)] if RECALL in half else half[:0]
        changes = {
            seed: -np.polyfit(own["epochs_done"], own[RECALL], 1)[0] * (data.phase - 1)
            for seed, own in rows.groupby("seed")
            if len(own) == data.phase and data.phase > 1
        }
        falls.append(above(f"fall at {small.start:g} over the second phase", pd.Series(changes, dtype=float)))
    return falls


def _gains(data: Data, metric: str = RECALL) -> dict[float, pd.Series]:
    """By final scale: linear decay minus the constant continued, after two phases."""
    constant = data.at(_constant(START), metric, 2)
    return {end: data.at(_linear(end), metric, 2) - constant for end in FINALS}


def c5(data: Data) -> list[Part]:
    """Each linear decay exceeds the constant continued."""
    return [above(f"gain of 20 to {end:g}", gain) for end, gain in _gains(data).items()]


def c6(data: Data) -> list[Part]:
    """Each of those gains lies between 1 and 2 points."""
    parts = []
    for end, gain in _gains(data).items():
        parts.append(above(f"gain of 20 to {end:g}, at least 1 point", gain, POINT))
        parts.append(below(f"gain of 20 to {end:g}, at most 2 points", gain, 2 * POINT))
    return parts


def c7(data: Data) -> list[Part]:
    """Two final scales of a linear decay differ."""
    after = {end: data.at(_linear(end), RECALL, 2) for end in FINALS}
    return [
        apart(f"final {one:g} minus {other:g}", after[one] - after[other], POINT)
        for one, other in itertools.combinations(FINALS, 2)
    ]


def c8(data: Data) -> list[Part]:
    """The switch exceeds the linear decay."""
    return [above("switch minus linear", data.at(_SWITCH, RECALL, 2) - data.at(_linear(), RECALL, 2))]


def c9(data: Data) -> list[Part]:
    """At two phases the switch has higher Recall and lower accuracy, at three lower Recall and higher accuracy."""
    recall, accuracy = (
        {phases: data.at(_SWITCH, metric, phases) - data.at(_linear(), metric, phases) for phases in (2, 3)}
        for metric in (RECALL, ACCURACY)
    )
    return [
        above("Recall, switch minus linear, 2 phases", recall[2]),
        above("Recall, linear minus switch, 3 phases", -recall[3]),
        above("accuracy, linear minus switch, 2 phases", -accuracy[2]),
        above("accuracy, switch minus linear, 3 phases", accuracy[3]),
    ]


def c10(data: Data) -> list[Part]:
    """Each decay has lower training accuracy than the constant."""
    parts = [above(f"accuracy lost to linear 20 to {end:g}", -gain) for end, gain in _gains(data, ACCURACY).items()]
    lost = data.at(_constant(START), ACCURACY, 2) - data.at(_SWITCH, ACCURACY, 2)
    return [*parts, above("accuracy lost to the switch", lost)]


def c11(data: Data) -> list[Part]:
    """Proxies' cosines stay as drawn at scale 20 and are wider spread after one epoch at 6.5."""
    random = theory.random_cosine_variance(float(data.setting.dim))
    metric = "proxy_cos_var_all"
    large = data.at(_constant(START), metric, 1)
    first = 1 / data.phase
    early = data.at(_constant(6.5), metric, first) - data.at(_constant(START), metric, first)
    return [
        within("variance at 20 minus 1/D, after the first phase", large - random, STAYS * random),
        above("variance after one epoch, 6.5 minus 20", early),
    ]


def c12(data: Data) -> list[Part]:
    """Proxies' cosines at 6.5 are near 0 in high dimension."""
    high = data.everything[data.everything["dim"] >= HIGH_DIM]
    alike = [
        part
        for setting, part in runs.settings(high)
        if setting.loss_kind == data.setting.loss_kind and not setting.other
    ]
    metric = "proxy_cos_var_all"
    series = [runs.by_seed(part, _constant(6.5), metric, runs.phase_of(part)) for part in alike]
    variance = next((values for values in series if len(values)), pd.Series(dtype=float))
    return [below("variance at 6.5 in high dimension", variance, NEAR_ZERO**2)]


def c13(data: Data) -> list[Part]:
    """The additional decay exceeds the decay from the start."""
    return [above("additional minus from start", data.at(_linear(), RECALL, 2) - data.at(_FROM_START, RECALL, 2))]


def c14(data: Data) -> list[Part]:
    """The loss is convex on the linear ramp, and its maximum exceeds that of the quadratic one."""
    start, middle, end = (data.at(_linear(), "loss", phases) for phases in (1, 1.5, 2))
    highest = {}
    for condition in (_linear(), _QUADRATIC):
        epochs = range(data.phase + 1, 3 * data.phase + 1)
        by_epoch = {epoch: runs.by_seed(data.part, condition, "loss", epoch) for epoch in epochs}
        highest[condition] = pd.DataFrame(by_epoch).dropna().max(axis=1).astype(float)
    return [
        above("rise of the loss in the ramp's second half minus its first", (end - middle) - (middle - start)),
        above("largest loss, linear minus quadratic", highest[_linear()] - highest[_QUADRATIC]),
    ]


def c15(data: Data) -> list[Part]:
    """The linear decay ends above the quadratic."""
    return [above("linear minus quadratic", data.at(_linear(), RECALL, 3) - data.at(_QUADRATIC, RECALL, 3))]


def c16(data: Data) -> list[Part]:
    """Paths to one final scale end within a point of each other."""
    paths = {"linear": _linear(), "switch": _SWITCH, "quadratic": _QUADRATIC}
    return [
        within(f"{one} minus {other}", data.at(paths[one], RECALL, 3) - data.at(paths[other], RECALL, 3), POINT)
        for one, other in itertools.combinations(paths, 2)
    ]


def c17(data: Data) -> list[Part]:
    """Dynamic AdaCos takes longer than fixed AdaCos, as the logarithm of the ratio of seconds an epoch."""
    own = data.everything[(data.everything["loss_kind"] == "adacos") & (data.everything["other"] == "")]
    if own.empty:
        return [above("ln of dynamic over fixed seconds an epoch", pd.Series(dtype=float), math.log(MUCH))]
    trained = own[~own["inherited"].astype(bool) & (own["epochs_done"] > 0)]
    seconds = {
        mode: trained[trained["schedule"] == f"adacos_{mode}"].groupby("seed")["train_s"].median()
        for mode in ("dynamic", "fixed")
    }
    ratio = (seconds["dynamic"] / seconds["fixed"]).dropna().astype(float)
    return [above("ln of dynamic over fixed seconds an epoch", ratio.map(math.log), math.log(MUCH))]
