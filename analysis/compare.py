"""Theory against measurement: each closed-form prediction, what was measured, and a verdict by a rule fixed here.

A rule holds its error at 5% within its own row; over all rows some verdicts will be wrong by chance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis import best_scales, intervals, runs, theory
from analysis.intervals import Interval
from analysis.runs import Condition, Setting

NEAR_DEGREES = 0.5  # half-points as near as this make no order
NAN = float("nan")
SOFTMAX_LOSSES = ("soft_triple", "normalized_softmax", "arcface", "cosface")
LEVEL = 0.05
POINT = 0.01
RECALL = "test_recall_at_1"

Verdict = Literal["agrees", "disagrees", "undecided", "not run"]


class Confronted(NamedTuple):
    """One prediction beside its measurement. measured: in words; mean, low, high: the number behind it, nan if none."""

    section: str
    prediction: str
    assumption: str
    rule: str
    setting: str
    predicted: str
    measured: str
    mean: float
    low: float
    high: float
    seeds: int
    verdict: Verdict


class _Prediction(NamedTuple):
    section: str
    prediction: str
    assumption: str
    rule: str


BEST_SCALE = _Prediction(
    "1",
    "Recall@1 is highest at AdaCos's fixed scale sqrt(2) ln(C-1)",
    "A; one proxy a class, no margin; that what helps training classes helps new ones",
    "agrees if the interval of the best scale (or, below 5 seeds or scales, the gap around the set of scales not worse "
    "than the best) holds it",
)
DYNAMIC = _Prediction(
    "2",
    "AdaCos's dynamic scale lies between the simplex value and the start's fixed point, and falls",
    "random directions at the start; the best spread at the end",
    "agrees if every epoch of every seed lies inside and the last is below the first (paired t, 5%)",
)
BOUND = _Prediction(
    "3",
    "the training cross-entropy lies above NormFace's bound at every constant scale",
    "unit vectors, balanced classes; not proved for several proxies a class",
    "agrees if no trial's last epoch is below; the smallest ratio to the bound is shown",
)
ANGLES = _Prediction(
    "4, 5",
    "the median angle to the own proxy rises with the half-point angle, over scales and margins",
    "A; training stops a little inside the half-point",
    "agrees if the rank correlation over configurations is above 0 (t over seeds, 5%) and no pair falls (Holm)",
)
COLLAPSE = _Prediction(
    "5",
    "Recall@1 depends on scale and margin only through the half-point angle",
    "A; the same half-point without a margin is read off between the constants by a straight line",
    "agrees if every margin lies within 2 points of the line (two one-sided t, Holm); disagrees if one differs (Holm)",
)
FALL = _Prediction(
    "7",
    "the median angle to the own proxy falls when the scale falls",
    "A: a lower scale pulls again on images that the higher one had finished with",
    "agrees if it is below the constant continued at the same epoch (paired t, 5%): 3 epochs after a "
    "switch, at the end of a ramp",
)
ORDER = _Prediction(
    "7",
    "after equal epochs the median angle is ordered by the final scale",
    "A; enough epochs follow",
    "agrees if each lower final scale has the smaller angle than the next (paired t, Holm); disagrees if one is larger",
)
RANDOM_VARIANCE = _Prediction(
    "8",
    "untrained proxies' cosines have variance 1/D",
    "sign-symmetric exchangeable coordinates",
    "agrees if every seed lies within 3 sd of a draw",
)
FRAME = _Prediction(
    "8",
    "the mean squared cosine of the class directions is never below the frame bound",
    "none",
    "agrees if no epoch of any seed is below",
)
MERGED = _Prediction(
    "8",
    "over all proxies the variance of the cosines is what merging within classes gives",
    "merged proxies; classes between best spread and random",
    "agrees if the interval at the last epoch lies between the two",
)
PREDICTIONS = (BEST_SCALE, DYNAMIC, BOUND, ANGLES, COLLAPSE, FALL, ORDER, RANDOM_VARIANCE, FRAME, MERGED)


def confrontation(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per prediction and setting that can speak of it; a prediction that none can is 'not run'.

    frame: runs.curves. Columns: the fields of Confronted.
    """
    rows: list[Confronted] = []
    for setting, part in runs.settings(frame):
        for confront in (_best_scale, _dynamic, _bound, _fall, _order, _proxies):
            rows += confront(setting, part)
    if not frame.empty:
        rows += _margins(frame)
    told = {(row.section, row.prediction) for row in rows}
    for prediction in PREDICTIONS:
        if prediction[:2] not in told:
            rows.append(Confronted(*prediction, "", "", "", NAN, NAN, NAN, 0, "not run"))
    order = [prediction[:2] for prediction in PREDICTIONS]
    rows.sort(key=lambda row: order.index((row.section, row.prediction)))
    return pd.DataFrame(rows, columns=Confronted._fields)


def _row(
    prediction: _Prediction,
    setting: Setting | str,
    predicted: str,
    measured: str,
    interval: Interval,
    verdict: Verdict,
) -> Confronted:
    low, high = (NAN if end is None else end for end in (interval.low, interval.high))
    return Confronted(
        *prediction, str(setting), predicted, measured, interval.mean, low, high, interval.n, verdict
    )  # fmt: skip


def _last_common_epoch(part: pd.DataFrame, conditions: Sequence[Condition]) -> int:
    ends = [int(part.loc[_is(part, condition), "epochs_done"].max()) for condition in conditions]
    return min(ends, default=0)


def _is(part: pd.DataFrame, condition: Condition) -> pd.Series:
    mask = part["schedule"] == condition.schedule
    if not math.isnan(condition.start):
        mask &= (part["start"] == condition.start) & (part["end"] == condition.end)
    return mask


def _constants(part: pd.DataFrame) -> list[Condition]:
    return [condition for condition in runs.conditions(part) if condition.schedule == "constant"]


def _best_scale(setting: Setting, part: pd.DataFrame) -> Iterator[Confronted]:
    if setting.classes < 3 or setting.loss_kind not in SOFTMAX_LOSSES:
        return
    predicted = theory.adacos_fixed(float(setting.classes))
    for found in best_scales.of_setting(setting, part):
        kept, estimate = found.kept, found.estimate
        words = f"{found.metric} after {found.epochs_done} epochs: not worse than the best "
        words += ", ".join(f"{scale:.3g}" for scale in kept)
        if estimate is not None:
            ends = " to ".join("open" if end is None else f"{end:.3g}" for end in (estimate.low, estimate.high))
            words += f"; best {estimate.scale:.3g} ({ends})"
            verdict: Verdict = "agrees" if estimate.holds(predicted) else "disagrees"
        else:
            below = [scale for scale in found.scales if scale < min(kept)]
            above = [scale for scale in found.scales if scale > max(kept)]
            inside = (not below or max(below) < predicted) and (not above or predicted < min(above))
            # all scales still standing say nothing
            undecided = len(kept) == len(found.scales)
            verdict = "disagrees" if not inside else "undecided" if undecided else "agrees"
        yield _row(BEST_SCALE, setting, f"{predicted:.3g}", words, found.interval, verdict)


def _dynamic(setting: Setting, part: pd.DataFrame) -> Iterator[Confronted]:
    dynamic = part[(part["schedule"] == "adacos_dynamic") & (part["epochs_done"] > 0)]
    if dynamic.empty or "scale" not in dynamic:
        return
    low = theory.adacos_simplex(float(setting.classes))
    high = theory.adacos_start(setting.classes, setting.dim)
    ordered = dynamic.sort_values("epochs_done").groupby("seed")["scale"]
    first, last = ordered.first(), ordered.last()
    interval = intervals.mean_interval(last.to_numpy())
    if high is None:
        escaped = (last > 2 * theory.adacos_fixed(float(setting.classes))) | last.index.isin(
            dynamic.loc[dynamic["status"] == "diverged", "seed"]
        )
        verdict: Verdict = "agrees" if escaped.all() else "disagrees"
        words = f"{int(escaped.sum())} of {len(last)} seeds ran away (diverged, or twice the fixed scale)"
        yield _row(DYNAMIC, setting, "no fixed point: runs away", words, interval, verdict)
        return
    inside = dynamic["scale"].between(low, high)
    falls = intervals.p_below((last - first).to_numpy()) < LEVEL
    rises = intervals.p_above((last - first).to_numpy()) < LEVEL
    words = f"{first.mean():.3g} in epoch 1, {last.mean():.3g} in the last; {inside.mean():.0%} of epochs inside"
    verdict = "disagrees" if rises or not inside.all() else "agrees" if falls else "undecided"
    yield _row(DYNAMIC, setting, f"{low:.3g} to {high:.3g}, falling", words, interval, verdict)


def _bound(setting: Setting, part: pd.DataFrame) -> Iterator[Confronted]:
    metric = "loss_ce" if setting.loss_kind == "soft_triple" else "loss"
    if setting.loss_kind not in SOFTMAX_LOSSES or metric not in part:
        return
    ratios: dict[float, np.ndarray] = {}
    for condition in _constants(part):
        epochs_done = _last_common_epoch(part, [condition])
        loss = runs.by_seed(part, condition, metric, epochs_done).to_numpy(dtype=float)
        if len(loss):
            ratios[condition.start] = loss / theory.normface_bound(condition.start, setting.classes)
    if not ratios:
        return
    lowest = min(ratios, key=lambda scale: float(ratios[scale].min()))
    interval = intervals.mean_interval(ratios[lowest])
    above = all((ratio >= 1).all() for ratio in ratios.values())
    shown = ", ".join(f"s = {scale:.3g}: {ratio.mean():.3g}" for scale, ratio in sorted(ratios.items())[:8])
    verdict: Verdict = "agrees" if above else "disagrees"
    yield _row(BOUND, setting, "ratio to the bound at least 1", f"mean ratio at {shown}", interval, verdict)


def _signed(values: np.ndarray) -> Verdict:
    """'agrees' if the mean is below 0, 'disagrees' if above (one-sided t at 2.5% each), else 'undecided'."""
    if intervals.p_below(values) < LEVEL / 2:
        return "agrees"
    return "disagrees" if intervals.p_above(values) < LEVEL / 2 else "undecided"


def _fall(setting: Setting, part: pd.DataFrame) -> Iterator[Confronted]:
    phase = runs.phase_of(part)
    for condition in runs.conditions(part):
        if condition.schedule not in ("switch", "linear", "quadratic") or condition.end >= condition.start:
            continue
        epochs_done = phase + min(3, phase) if condition.schedule == "switch" else 2 * phase
        after = runs.by_seed(part, condition, "theta_q50", epochs_done)
        constant = Condition("constant", condition.start, condition.start)
        change = intervals.paired_differences(after, runs.by_seed(part, constant, "theta_q50", epochs_done)).to_numpy()
        if len(change) == 0:
            continue
        interval = intervals.mean_interval(change)
        words = (
            f"{condition}, after {epochs_done} epochs: {interval.mean:+.3g} degrees against constant {constant.start:g}"
        )
        yield _row(FALL, setting, "below 0 degrees", words, interval, _signed(change))


def _order(setting: Setting, part: pd.DataFrame) -> Iterator[Confronted]:
    epochs_done = 2 * runs.phase_of(part)
    falling = [c for c in runs.conditions(part) if c.schedule == "linear" and c.end < c.start]
    for start in sorted({condition.start for condition in falling}):
        chain = [Condition("constant", start, start)]
        chain += sorted((c for c in falling if c.start == start), key=lambda c: -c.end)
        angles = [runs.by_seed(part, condition, "theta_q50", epochs_done) for condition in chain]
        known = [(c, angle) for c, angle in zip(chain, angles, strict=True) if len(angle)]
        if len(known) < 3:
            continue
        steps = [
            intervals.paired_differences(later[1], earlier[1]).to_numpy(dtype=float)
            for earlier, later in itertools.pairwise(known)
        ]
        verdict = _all_steps(steps, sign=-1)
        words = ", ".join(f"{c}: {angle.mean():.3g}" for c, angle in known)
        whole = intervals.paired_differences(known[-1][1], known[0][1]).to_numpy()
        if len(whole) == 0:
            continue
        interval = intervals.mean_interval(whole)
        yield _row(ORDER, setting, "smaller angle at each lower final scale", f"{words} degrees", interval, verdict)


def _all_steps(steps: Sequence[np.ndarray], sign: int) -> Verdict:
    """'agrees' if each mean has `sign`, 'disagrees' if one has the other: two-sided paired t, Holm."""
    adjusted = intervals.holm([intervals.p_differs(step) for step in steps])
    signs = [sign * float(step.mean()) if len(step) else 0.0 for step in steps]
    if any(p < LEVEL and s < 0 for p, s in zip(adjusted, signs, strict=True)):
        return "disagrees"
    return "agrees" if all(p < LEVEL and s > 0 for p, s in zip(adjusted, signs, strict=True)) else "undecided"


def _proxies(setting: Setting, part: pd.DataFrame) -> Iterator[Confronted]:
    if "proxy_cos_var_all" not in part:
        return
    per_class = int(part["proxies_per_class"].iloc[0])
    untrained = part[part["epochs_done"] == 0].groupby("seed")["proxy_cos_var_all"].first().dropna().to_numpy()
    if len(untrained):
        sd = theory.random_cosine_variance_sd(setting.dim, setting.classes * per_class)
        away = (untrained - 1 / setting.dim) / sd
        words = f"{untrained.mean():.6f}; farthest seed {np.abs(away).max():.2g} sd away"
        verdict: Verdict = "agrees" if (np.abs(away) <= 3).all() else "disagrees"
        predicted = f"{1 / setting.dim:.6f} (sd {sd:.2g})"
        yield _row(RANDOM_VARIANCE, setting, predicted, words, intervals.mean_interval(untrained), verdict)
    square = (part["proxy_cos_var_class_mean"] + part["proxy_cos_mean_class_mean"] ** 2).dropna().to_numpy()
    if len(square):
        bound = theory.smallest_mean_square_cosine(setting.classes, setting.dim)
        verdict = "agrees" if (square >= bound * (1 - 1e-5)).all() else "disagrees"
        words = f"smallest of {len(square)} epochs {square.min():.6f}"
        yield _row(
            FRAME, setting, f"at least {bound:.6f}", words, Interval(float(square.min()), None, None, 1), verdict
        )
    if per_class > 1:
        for condition in _constants(part):
            last = runs.by_seed(part, condition, "proxy_cos_var_all", _last_common_epoch(part, [condition])).to_numpy()
            if len(last) == 0:
                continue
            low, high = (
                theory.merged_cosine_variance(setting.classes, per_class, between)
                for between in (
                    theory.best_spread_between(setting.classes, setting.dim),
                    theory.random_between(setting.dim),
                )
            )
            interval = intervals.mean_interval(last)
            words = f"{condition}: {interval.mean:.4f}"
            yield _row(MERGED, setting, f"{low:.4f} to {high:.4f}", words, interval, _between(interval, low, high))


def _between(interval: Interval, low: float, high: float) -> Verdict:
    if interval.low is None or interval.high is None:
        return "undecided"
    if low <= interval.low and interval.high <= high:
        return "agrees"
    return "disagrees" if interval.high < low or interval.low > high else "undecided"


class _Margin(NamedTuple):
    """One scale and margin: its half-point angle, and angle and Recall by seed."""

    name: str
    margin: float
    half_point: float
    angle: pd.Series
    recall: pd.Series


def _margins(frame: pd.DataFrame) -> Iterator[Confronted]:
    plain = frame[
        frame["loss_kind"].isin(("normalized_softmax", "arcface", "cosface"))
        & frame["other"].str.fullmatch(r"(loss\.margin(_rad)?=[^,]*)?")
    ]
    for _, group in plain.groupby(["dataset", "classes", "dim"]):
        first = runs.settings(group)[0][0]
        name = f"{first.dataset}, C={first.classes}, D={first.dim}"
        points = sorted(_margin_points(group), key=lambda point: point.half_point)
        yield from _monotone(name, [point for point in points if len(point.angle)])
        yield from _collapse(name, [point for point in points if len(point.recall)])


def _margin_points(group: pd.DataFrame) -> Iterator[_Margin]:
    for setting, part in runs.settings(group):
        margin = float(part["margin"].iloc[0])
        for condition in _constants(part):
            scale, classes = condition.start, setting.classes
            if setting.loss_kind == "arcface":
                half_point = theory.arcface_half_point_degrees(scale, classes, margin)
            else:
                half_point = theory.cosface_half_point_degrees(scale, classes, margin)
            if math.isnan(half_point):
                continue
            epochs_done = _last_common_epoch(part, [condition])
            angle, recall = (runs.by_seed(part, condition, metric, epochs_done) for metric in ("theta_q50", RECALL))
            yield _Margin(f"{setting.loss_kind} s={scale:g} m={margin:g}", margin, half_point, angle, recall)


def _monotone(name: str, points: list[_Margin]) -> Iterator[Confronted]:
    if len(points) < 3:
        return
    angles = pd.DataFrame({point.name: point.angle for point in points}).dropna()
    if angles.empty:
        return
    half_points = [point.half_point for point in points]
    ranks = np.array([stats.spearmanr(half_points, row).statistic for row in angles.to_numpy()])
    changes = [
        (angles.iloc[:, later] - angles.iloc[:, earlier]).to_numpy()
        for earlier, later in itertools.combinations(range(len(points)), 2)
        if half_points[later] - half_points[earlier] > NEAR_DEGREES
    ]
    falls = any(p < LEVEL for p in intervals.holm([intervals.p_below(change) for change in changes]))
    verdict: Verdict = "disagrees" if falls else "agrees" if intervals.p_above(ranks) < LEVEL else "undecided"
    interval = intervals.mean_interval(ranks)
    words = f"rank correlation {interval.mean:.2f} over {len(points)} configurations"
    yield _row(ANGLES, name, "monotone, rank correlation 1", words, interval, verdict)


def _collapse(name: str, points: list[_Margin]) -> Iterator[Confronted]:
    line = [point for point in points if point.margin == 0]
    with_margin = [
        point for point in points if point.margin and len(line) > 1
        and line[0].half_point <= point.half_point <= line[-1].half_point
    ]  # fmt: skip
    if not with_margin:
        return
    along = pd.DataFrame({point.half_point: point.recall for point in line}).dropna()
    departures = []
    for point in with_margin:
        read = pd.Series(
            [np.interp(point.half_point, along.columns.to_numpy(dtype=float), row) for row in along.to_numpy()],
            index=along.index,
        )
        departures.append(intervals.paired_differences(point.recall, read).to_numpy(dtype=float))
    departures = [departure for departure in departures if len(departure)]
    if not departures:
        return
    differ = intervals.holm([intervals.p_differs(departure) for departure in departures])
    near = intervals.holm([max(intervals.p_above(d, -2 * POINT), intervals.p_below(d, 2 * POINT)) for d in departures])
    farthest = max(departures, key=lambda departure: abs(float(departure.mean())))
    interval = intervals.mean_interval(farthest)
    verdict: Verdict = "undecided"
    if any(p < LEVEL for p in differ):
        verdict = "disagrees"
    elif all(p < LEVEL for p in near):
        verdict = "agrees"
    words = f"farthest of {len(departures)} configurations with a margin {interval.mean:+.4f} off the line"
    yield _row(COLLAPSE, name, "0 off the line of the constants without margin", words, interval, verdict)
