"""The thesis's tables: our measurement beside the printed value, a row a number, gaps where nothing was run.

A thesis epoch becomes its share of the first phase: 50, 100 and 150 are one, two and three phases of ours. Recall and
accuracy are fractions in `frame` and in the CSV, percent in Markdown and LaTeX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import intervals, runs, thesis_data
from analysis.runs import Condition, Setting

NAN = float("nan")
THESIS_PHASE = 50
STUDY_FILES: Mapping[str, str] = {
    "4.1": "exp1",
    "4.3": "exp2",
    "4.4": "exp3",
    "4.5": "exp3",
    "5.1": "sec5-1",
    "5.2": "sec5-2",
}
PRINTED_DATASETS = {"cub200": "printed CUB-200-2011", "cars196": "printed Cars-196"}
METRICS = {"test_recall_at_1": "Recall@1, test classes", "train_accuracy": "accuracy, training classes"}
DEFINITIONS = {"all": "all proxies", "between": "between classes", "class_mean": "class directions"}


@dataclass(frozen=True)
class Table:
    """One table. gaps: in words, each naming the study file to run. percent: columns to show times 100."""

    number: str
    caption: str
    frame: pd.DataFrame
    gaps: tuple[str, ...] = ()
    percent: tuple[str, ...] = ()
    decimals: int = 4

    def shown(self) -> pd.DataFrame:
        """The frame as text: percent where meant, an interval in one cell, an empty cell for what is not known."""
        shown = pd.DataFrame(index=self.frame.index)
        for column in self.frame:
            name = str(column)
            if name.startswith(("low", "high")):
                continue
            factor, places = (100, 2) if name in self.percent else (1, self.decimals)
            suffix = name.removeprefix("ours")
            if name.startswith("ours"):
                rows = (factor * self.frame[[name, f"low{suffix}", f"high{suffix}"]]).to_numpy(dtype=float)
                shown[name] = [_with_ends(mean, low, high, places) for mean, low, high in rows]
            elif name.startswith("by seed"):
                shown[name] = [_seeds(values, factor if self.percent else 1, places) for values in self.frame[name]]
            elif name.startswith("printed") and pd.api.types.is_numeric_dtype(self.frame[name]):
                shown[name] = ["" if pd.isna(value) else f"{value * factor:.{places}f}" for value in self.frame[name]]
            else:
                shown[name] = [_plain(value) for value in self.frame[name]]
        return shown

    def markdown(self) -> str:
        """A GitHub table under its caption, gaps below."""
        shown = self.shown().map(lambda text: text.replace("|", "\\|"))
        lines = [
            f"**Table {self.number}.** {self.caption}",
            "",
            _pipes(shown.columns),
            _pipes(["---"] * shown.shape[1]),
        ]
        lines += [_pipes(row) for row in shown.itertuples(index=False)]
        lines += ["", *(f"Not run: {gap}" for gap in self.gaps)] if self.gaps else []
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A booktabs table with caption and label."""
        shown = self.shown().map(_escaped)
        shown.columns = pd.Index([_escaped(str(name)) for name in shown.columns])
        label = f"tab:{self.number.replace('.', '-')}"
        return shown.to_latex(index=False, caption=_escaped(self.caption), label=label, escape=False)

    def csv(self) -> str:
        """The frame in full precision; seeds as 'seed:value' with semicolons."""
        frame = self.frame.copy()
        for name in [str(column) for column in frame if str(column).startswith("by seed")]:
            frame[name] = [";".join(f"{seed}:{value:.6g}" for seed, value in values.items()) for values in frame[name]]
        return frame.to_csv(index=False)


def _pipes(cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    text = text.replace("\\", r"\textbackslash ")
    for sign in "&%$#_{}":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("^", r"\textasciicircum ").replace("~", r"\textasciitilde ")


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return "" if value is None else str(value)


def _with_ends(mean: float, low: float, high: float, places: int) -> str:
    if math.isnan(mean):
        return ""
    ends = "" if math.isnan(low) else f" [{low:.{places}f}, {high:.{places}f}]"
    return f"{mean:.{places}f}{ends}"


def _seeds(values: Mapping[int, float], factor: float, places: int) -> str:
    return " ".join(f"{value * factor:.{places}f}" for value in values.values())


# Each table --------------------------------------------------------------------------------------------------------


def all_tables(frame: pd.DataFrame) -> list[Table]:
    """Every table, from `runs.curves` of any number of studies (none is allowed: printed values and gaps)."""
    return [build(frame) for build in TABLES.values()]


def table_3_1(_: pd.DataFrame) -> Table:
    """Growth of the number of combinations that losses train on; needs no run."""
    data = thesis_data.load("3.1")
    columns = ["kind", "loss", "reference", "printed", "corrected", "errata"]
    return Table(
        "3.1",
        "Combinations of data by loss (M images, C classes, B batches an epoch, U proxies a class), printed and "
        "corrected. One row is illegible in the thesis.",
        data[columns].fillna(""),
    )


def table_4_1(frame: pd.DataFrame) -> Table:
    """Recall@1 after two phases by constant scale."""
    return _scale_table(frame, "4.1", "Experiment 1: Recall@1 of test classes by constant scale, after two phases.")


def table_4_2(frame: pd.DataFrame) -> Table:
    """Proxy Anchor over alpha and delta; the thesis cites the numbers."""
    found = [(setting, part) for setting, part in runs.settings(frame) if setting.loss_kind == "proxy_anchor"]
    rows: list[dict[str, Any]] = []
    for dataset in _datasets(found):
        for cell in _records(thesis_data.load("4.2")):
            alpha, delta = float(cell["alpha"]), float(cell["delta"])
            values = pd.Series(dtype=float)
            for setting, part in found:
                if setting.dataset == dataset and part["margin"].iloc[0] == delta and values.empty:
                    last = int(part["epochs_planned"].max())
                    values = runs.by_seed(part, Condition("constant", alpha, alpha), "test_recall_at_1", last)
            row = {"dataset": dataset, "alpha": alpha, "delta": delta, "printed Cars-196": cell["percent"] / 100}
            rows.append(row | _measured(values) | {"errata": cell["errata"]})
    gaps = () if found else ("a study of loss kind proxy_anchor that varies loss.alpha and loss.delta",)
    caption = (
        "Recall@1 of Proxy Anchor by alpha (its scale) and delta (its margin). Printed values are cited from Kim et "
        f"al. 2020 (Cars-196; other batch, dimension, optimizer), not run by the thesis. {_INTERVAL}"
    )
    return Table("4.2", caption, pd.DataFrame(rows), gaps, ("ours", "printed Cars-196", "by seed"))


def table_4_3(frame: pd.DataFrame) -> Table:
    """Linear decay to three final scales against the constant, after one and two phases."""
    caption = (
        "Experiment 2: constant 20 and linear decay from 20, after one and two phases, and the change of Recall@1."
    )
    return _scale_table(frame, "4.3", caption)


def table_4_4(frame: pd.DataFrame) -> Table:
    """Linear decay against switch, after one to three phases; printed CUB-200-2011."""
    return _scale_table(frame, "4.4", "Experiment 3: linear decay and switch from 20 to 5, one to three phases.")


def table_4_5(frame: pd.DataFrame) -> Table:
    """As table 4.4, printed Cars-196."""
    return _scale_table(frame, "4.5", "Experiment 3: linear decay and switch from 20 to 5, one to three phases.")


def table_5_1(frame: pd.DataFrame) -> Table:
    """Variance of the proxies' cosines over training, by three definitions."""
    found = [item for item in runs.settings(frame) if "proxy_cos_var_all" in item[1] and not item[0].other]
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for dataset in _datasets(found):
        for cell in _records(thesis_data.load("5.1")):
            parts = [part for setting, part in found if setting.dataset == dataset and setting.dim == cell["dim"]]
            row = {"dataset": dataset, "s": cell["s"], "D": cell["dim"], "thesis epoch": cell["epochs_done"]}
            row["printed CUB-200-2011"] = cell["value"]
            for name, title in DEFINITIONS.items():
                series = (_proxy_variance(part, name, cell["s"], cell["epochs_done"]) for part in parts)
                values = next((values for values in series if len(values)), pd.Series(dtype=float))
                row |= {f"{key} {title}": value for key, value in _measured(values).items()}
            if pd.notna(cell["value"]) and pd.isna(row["ours all proxies"]):
                missing.append(_file("5.1", dataset))
            rows.append(row | {"errata": cell["errata"]})
    caption = (
        "Variance of the cosines between proxies, by scale and dimension; after one phase the runs at 20 fall linearly "
        "to 5. The printed labels of rows 2 and 3 are corrected (E23). The thesis does not say which proxies it "
        f"counts. {_INTERVAL}"
    )
    return Table("5.1", caption, pd.DataFrame(rows), tuple(dict.fromkeys(missing)))


def _proxy_variance(part: pd.DataFrame, definition: str, scale: float, thesis_epoch: float) -> pd.Series:
    phase = runs.phase_of(part)
    # the thesis measures after its first epoch, then where its learning rate changes; those are shares of the phase
    epochs_done = 1 if thesis_epoch == 1 else round(thesis_epoch / THESIS_PHASE * phase)
    constant = Condition("constant", scale, scale)
    condition = constant if epochs_done <= phase else Condition("linear", scale, 5.0)
    return runs.by_seed(part, condition, f"proxy_cos_var_{definition}", epochs_done)


def table_5_2(frame: pd.DataFrame) -> Table:
    """Linear decay from the start against the additional one."""
    caption = "Section 5.2: linear decay from 20 to 5, from the start and after the first phase, one and two phases."
    return _scale_table(frame, "5.2", caption)


TABLES: Mapping[str, Callable[[pd.DataFrame], Table]] = {
    "3.1": table_3_1,
    "4.1": table_4_1,
    "4.2": table_4_2,
    "4.3": table_4_3,
    "4.4": table_4_4,
    "4.5": table_4_5,
    "5.1": table_5_1,
    "5.2": table_5_2,
}
_INTERVAL = "In brackets: 95% t interval of the mean over seeds."


# Tables over scale schedules ---------------------------------------------------------------------------------------

_KEYS = ["schedule", "start", "end", "epochs_done", "since", "metric"]


def _scale_table(frame: pd.DataFrame, number: str, caption: str) -> Table:
    printed = thesis_data.load(number)
    names = {key: name for key, name in PRINTED_DATASETS.items() if key in set(printed["dataset"])}
    found: list[tuple[Setting, pd.DataFrame] | None] = [*runs.main_settings(frame)] or [None]
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for item in found:
        dataset = "" if item is None else item[0].dataset
        for _, cells in printed.groupby(_KEYS, sort=False, dropna=False):
            row = _scale_row(_records(cells)[0], item)
            values = dict(zip(cells["dataset"], cells["value"], strict=True))
            for own, name in names.items():
                # beside CUB's own measurement a Cars column would only confuse
                row[name] = values.get(own, NAN) if dataset in ("", own) or dataset not in PRINTED_DATASETS else NAN
            row["errata"] = " ".join(dict.fromkeys(code for code in cells["errata"] if code))
            if pd.isna(row["ours"]):
                missing.append(_file(number, dataset))
            rows.append(row)
    order = [
        "setting",
        "scale",
        "metric",
        "phases",
        *names.values(),
        "ours",
        "low",
        "high",
        "seeds",
        "by seed",
        "errata",
    ]
    percent = ("ours", "by seed", *names.values())
    return Table(number, f"{caption} {_INTERVAL}", pd.DataFrame(rows)[order], tuple(dict.fromkeys(missing)), percent)


def _scale_row(cell: dict[str, Any], item: tuple[Setting, pd.DataFrame] | None) -> dict[str, Any]:
    condition = Condition(cell["schedule"], float(cell["start"]), float(cell["end"]))
    metric = cell["metric"]
    after = int(cell["epochs_done"]) // THESIS_PHASE
    since = None if pd.isna(cell["since"]) else int(cell["since"]) // THESIS_PHASE
    values = pd.Series(dtype=float)
    if item is not None:
        phase = runs.phase_of(item[1])
        values = runs.by_seed(item[1], condition, metric, after * phase)
        if since is not None:
            values = intervals.paired_differences(values, runs.by_seed(item[1], condition, metric, since * phase))
    return {
        "setting": "" if item is None else str(item[0]),
        "scale": str(condition),
        "metric": METRICS[metric] + ("" if since is None else ", change"),
        "phases": str(after) if since is None else f"{since} to {after}",
        **_measured(values),
    }


def _datasets(found: Sequence[tuple[Setting, pd.DataFrame]]) -> list[str]:
    return list(dict.fromkeys(setting.dataset for setting, _ in found)) or [""]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _measured(values: pd.Series) -> dict[str, Any]:
    by_seed = {int(str(seed)): float(value) for seed, value in values.items()}
    if not by_seed:
        return {"ours": NAN, "low": NAN, "high": NAN, "seeds": 0, "by seed": {}}
    mean, low, high, n = intervals.mean_interval(list(by_seed.values()))
    ends = {"low": NAN if low is None else low, "high": NAN if high is None else high}
    return {"ours": mean, **ends, "seeds": n, "by seed": by_seed}


def _file(number: str, dataset: str) -> str:
    return f"search_spaces/thesis/{STUDY_FILES[number]}-{dataset or 'glyphs'}.yaml"
