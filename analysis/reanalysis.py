"""What the thesis's own printed numbers say once their noise is counted. Needs no run.

At epoch 50 six runs per data set have one configuration (constant 20, each trained anew; tables 4.3 to 4.5). Their
spread is the run-to-run noise of a single run, and every comparison that the thesis makes is one of single runs.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import pandas as pd
from scipy import stats

from analysis import thesis_data

RECALL = "test_recall_at_1"
ACCURACY = "train_accuracy"
DATASETS = ("cub200", "cars196")


class Baseline(NamedTuple):
    """Spread of the runs of one configuration at epoch 50. sd_of_difference: of two single runs; all fractions."""

    dataset: str
    metric: str
    runs: int
    mean: float
    sd: float
    range: float
    sd_of_difference: float


class PrintedDifference(NamedTuple):
    """One comparison of printed numbers behind a claim, positive where it speaks for the claim; fractions.

    low, high: 95% interval from the noise of single runs (5 degrees of freedom per data set). It takes the noise at
    later epochs to be that at 50, and a run's own epoch 50 for another run, which overstates the noise of its gain.
    clear: 'for', 'against', or 'within noise'.
    """

    claim: str
    dataset: str
    comparison: str
    difference: float
    low: float
    high: float
    clear: str


def baselines() -> pd.DataFrame:
    """Columns: the fields of Baseline; a row per data set and metric."""
    return pd.DataFrame([baseline(d, m) for d in DATASETS for m in (RECALL, ACCURACY)], columns=Baseline._fields)


@cache
def baseline(dataset: str, metric: str) -> Baseline:
    """The spread of one data set's six runs."""
    frame = thesis_data.scale_tables("4.3", "4.4", "4.5")
    at_50 = (frame["dataset"] == dataset) & (frame["metric"] == metric) & (frame["epochs_done"] == 50)
    values = frame.loc[at_50, "value"].to_numpy(dtype=float)
    sd = float(values.std(ddof=1))
    return Baseline(
        dataset, metric, len(values), float(values.mean()), sd, float(values.max() - values.min()), math.sqrt(2) * sd
    )


def differences() -> pd.DataFrame:
    """Columns: the fields of PrintedDifference; a row per comparison."""
    return pd.DataFrame(printed_differences(), columns=PrintedDifference._fields)


def printed_differences() -> list[PrintedDifference]:
    """Every comparison behind a claim that printed numbers allow, in order of the claims."""
    rows: list[PrintedDifference] = []
    for dataset in DATASETS:
        rows += _constants(dataset)
        rows += _decays(dataset)
        rows += _paths(dataset)
    rows.append(_all_decays(DATASETS))
    return sorted(rows, key=lambda row: int(row.claim.removeprefix("C")))


def _difference(
    claim: str, dataset: str, comparison: str, difference: float, metric: str = RECALL, factor: float = 2.0
) -> PrintedDifference:
    """factor: how many single-run variances the difference has; 2 for one run against another."""
    noise = baseline(dataset, metric)
    half = float(stats.t.ppf(0.975, noise.runs - 1)) * noise.sd * math.sqrt(factor)
    return _told(claim, dataset, comparison, difference, half)


def _told(claim: str, dataset: str, comparison: str, difference: float, half: float) -> PrintedDifference:
    clear = "within noise" if abs(difference) <= half else "for" if difference > 0 else "against"
    return PrintedDifference(claim, dataset, comparison, difference, difference - half, difference + half, clear)


def _constant(dataset: str, scale: float) -> float:
    return thesis_data.value("4.1", dataset, "constant", scale, 100, RECALL)


def _best(dataset: str) -> float:
    frame = thesis_data.load("4.1")
    frame = frame[frame["dataset"] == dataset]
    return float(frame["start"].to_numpy()[frame["value"].to_numpy().argmax()])


def _constants(dataset: str) -> list[PrintedDifference]:
    best = _best(dataset)
    top = _constant(dataset, best)
    rows = [
        _difference("C1", dataset, f"constant {best:g} minus AdaCos's 6.5", top - _constant(dataset, 6.5)),
        *(
            _difference("C2", dataset, f"constant {best:g} minus {s:g}", top - _constant(dataset, s))
            for s in (1, 3, 6.5, 10)
        ),
    ]
    higher = [scale for scale in (20.0, 30.0) if scale > best]
    return rows + [
        _difference("C3", dataset, f"constant {best:g} minus {s:g}", top - _constant(dataset, s)) for s in higher
    ]


def _decays(dataset: str) -> list[PrintedDifference]:
    rows = []
    best = _best(dataset)
    for end in (10.0, 5.0, 2.5):
        after, start = (thesis_data.value("4.3", dataset, "linear", end, epoch, RECALL) for epoch in (100, 50))
        constant = thesis_data.value("4.3", dataset, "constant", 20, 100, RECALL)
        name = f"linear 20 to {end:g} at 100"
        rows.append(_difference("C5", dataset, f"{name} minus constant 20 at 100", after - constant))
        if best != 20:
            gain = after - _constant(dataset, best)
            rows.append(_difference("C5", dataset, f"{name} minus best constant ({best:g}) at 100", gain))
        rows.append(_difference("C6", dataset, f"{name} minus its own epoch 50", after - start))
        accuracy = thesis_data.value("4.3", dataset, "constant", 20, 100, ACCURACY) - thesis_data.value(
            "4.3", dataset, "linear", end, 100, ACCURACY
        )
        rows.append(_difference("C10", dataset, f"constant 20 minus {name}, accuracy", accuracy, ACCURACY))
    low, high = (thesis_data.value("4.3", dataset, "linear", end, 100, RECALL) for end in (10, 5))
    return [*rows, _difference("C7", dataset, "linear 20 to 5 minus 20 to 10, at 100", high - low)]


def _paths(dataset: str) -> list[PrintedDifference]:
    table = {"cub200": "4.4", "cars196": "4.5"}[dataset]

    def switch_minus_linear(epoch: int, metric: str) -> float:
        switch, linear = (
            thesis_data.value(table, dataset, schedule, 5, epoch, metric) for schedule in ("switch", "linear")
        )
        return switch - linear

    at_100, at_150 = (switch_minus_linear(epoch, RECALL) for epoch in (100, 150))
    accuracy = [switch_minus_linear(epoch, ACCURACY) for epoch in (100, 150)]
    added, start = (
        thesis_data.value("5.2", dataset, schedule, 5, 100, RECALL) for schedule in ("linear", "linear_from_start")
    )
    return [
        _difference("C8", dataset, "switch minus linear at 100", at_100),
        _difference("C9", dataset, "linear minus switch at 150, Recall", -at_150),
        _difference("C9", dataset, "linear minus switch at 100, accuracy", -accuracy[0], ACCURACY),
        _difference("C9", dataset, "switch minus linear at 150, accuracy", accuracy[1], ACCURACY),
        _difference("C13", dataset, "additional minus from start at 100", added - start),
        _difference("C16", dataset, "switch minus linear at 150 (0 is claimed)", at_150),
    ]


def _all_decays(datasets: tuple[str, ...]) -> PrintedDifference:
    """Mean of all decays printed at epoch 100 minus the mean of constant 20, averaged over the data sets.

    Runs printed twice count once (on CUB-200-2011 tables 4.1 and 4.3, and 4.3 and 5.2, give one run's Recall).
    """
    total, variances = 0.0, []
    for dataset in datasets:
        frame = thesis_data.scale_tables()
        at_100 = frame[(frame["dataset"] == dataset) & (frame["metric"] == RECALL) & (frame["epochs_done"] == 100)]
        decays = at_100.loc[at_100["schedule"].isin(("linear", "switch")), ["schedule", "end", "value"]]
        constants = at_100.loc[(at_100["schedule"] == "constant") & (at_100["start"] == 20), ["value"]]
        decayed, constant = (part.drop_duplicates()["value"].to_numpy(dtype=float) for part in (decays, constants))
        total += float(decayed.mean() - constant.mean()) / len(datasets)
        factor = (1 / len(decayed) + 1 / len(constant)) / len(datasets) ** 2
        variances.append(baseline(dataset, RECALL).sd ** 2 * factor)
    runs = baseline(datasets[0], RECALL).runs
    freedom = sum(variances) ** 2 / sum(variance**2 / (runs - 1) for variance in variances)  # Satterthwaite
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(variances))
    return _told("C5", "both", "mean of all additional decays minus constant 20, at 100", total, half)
