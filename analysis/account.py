"""The account of a study at the end of its page: its configurations and trials, what they cost, how to run it again."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ValidationError

from analysis.answer import Answer
from analysis.classes import class_hits, differences_over_classes, over_classes
from analysis.figures import stage_tree
from analysis.intervals import Interval
from analysis.page import Block, Figure, Link, Section, Table, Text
from analysis.summary import epochs_cost
from study.records import LINKS_NAME, MlflowLinks

if TYPE_CHECKING:
    from analysis.load import Study

MLFLOW_RUNS = 12  # names of runs that are listed
OVER_CLASSES = 60  # configurations with an interval over test classes: each reads its trials' array files
TABLE_ROWS = 300  # longer tables are cut on the page; the CSV has every row


def configurations(study: Study, said: Answer, prefix: str) -> Section:
    """Every configuration with its intervals, best mean first."""
    table = said.table
    objective = "Validation" if study.objective == "val_recall_at_1" else "Test"
    header = ["Configuration", "Seeds", f"{objective} Recall@1 (%)", "95% t interval", "Mean of last 5 epochs (%)"]
    with_test = objective == "Validation" and table["test_mean"].notna().any()
    header += ["Test Recall@1 (%)", "95% t interval"] if with_test else []
    hits = class_hits(study, table["configuration"].head(OVER_CLASSES).tolist())
    over = over_classes(hits)
    apart = differences_over_classes(hits, str(table["configuration"].iloc[0])) if len(table) else {}
    header += ["Test, 95% over classes"] if over else []
    header += ["Test minus the first's (points), 95% over classes"] if apart else []
    header += ["Not worse than best", "Lost trials"]
    rows = []
    for row in table.head(TABLE_ROWS).to_dict("records"):
        cells = [str(row["configuration"]) + (" (baseline)" if row["baseline"] else ""), str(row["n"])]
        cells += [percent(row["mean"]), interval(row["low"], row["high"]), percent(row["last_5"])]
        cells += [percent(row["test_mean"]), interval(row["test_low"], row["test_high"])] if with_test else []
        if over:
            found = over.get(str(row["configuration"]))
            low, high = (None, None) if found is None else (found.low, found.high)
            cells.append("" if low is None or high is None else interval(low, high))
        if apart:
            cells.append(_difference(apart.get(str(row["configuration"]))))
        lost = [f"{row[what]}\u00a0{what}" for what in ("unfinished", "diverged", "failed") if row[what]]
        cells += ["yes" if row["configuration"] in said.best else "", ", ".join(lost)]
        rows.append(cells)
    note = "The t intervals are those of the mean over seeds, one configuration at a time."
    if over:
        note += (
            " Over classes: a bootstrap over the test classes of the mean over seeds, so how much other classes would "
            "change it with the same networks; the t intervals say how much other seeds would."
        )
        if apart:
            note += (
                " The difference from the first configuration is taken class by class, so what both find hard cancels."
            )
        if len(table) > OVER_CLASSES:
            note += f" It is given for the first {OVER_CLASSES}."
    if len(table) > TABLE_ROWS:
        note += f" The first {TABLE_ROWS} of {len(table)}."
    numeric = frozenset(range(1, len(header) - 2))
    title = "Configurations, best mean first"
    return Section(
        f"{prefix}tables",
        "Configurations",
        [Table(f"{prefix}table-configurations", title, header, rows, numeric, note=note)],
    )


def _difference(found: Interval | None) -> str:
    if found is None or found.low is None or found.high is None:
        return ""
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def trials(study: Study, prefix: str) -> Section:
    """Every trial, and first those that did not run to their end."""
    trials = study.trials
    counts = trials["status"].value_counts()
    words = ", ".join(f"{counts[status]} {status}" for status in counts.index) or "none yet"
    header = [
        "Trial",
        "Configuration",
        "Seed",
        "Status",
        "Value (%)",
        "Test (%)",
        "Epochs",
        "Inherited",
        "Seconds",
        "Reason",
    ]
    header.insert(3, "Phase")

    def cells(row: dict[Hashable, Any]) -> list[str]:
        return [
            str(row["number"]),
            str(row["configuration"]),
            str(row["seed"]),
            str(row["phase"]),
            str(row["status"]),
            percent(row["value"]),
            percent(row["test_value"]),
            f"{row['epochs_done']} of {row['epochs_planned']}",
            str(row["epochs_inherited"] or ""),
            f"{row['wall_s']:.1f}",
            str(row["reason"]),
        ]

    found = _links(study)

    def links(shown: pd.DataFrame) -> list[str]:
        return [] if found is None else [found.of_trial(number) for number in shown["number"]]

    ended_badly = trials[trials["status"].isin(["pruned", "diverged", "failed"])]
    blocks: list[Block] = [f"{len(trials)} trials: {words}."]
    numeric = frozenset({0, 2, 5, 6, 7, 8, 9})
    if len(ended_badly):
        shown = ended_badly.head(TABLE_ROWS)
        rows = [cells(row) for row in shown.to_dict("records")]
        title = "Trials that did not run to their end"
        blocks.append(
            Table(f"{prefix}table-lost", title, header, rows, numeric, folded=len(rows) > 12, links=links(shown))
        )
    shown = trials.head(TABLE_ROWS)
    rows = [cells(row) for row in shown.to_dict("records")]
    notes = [] if found is None else [f"Numbers lead to MLflow's UI at {found.server} (python -m study ui opens it)."]
    if len(trials) > TABLE_ROWS:
        notes.append(f"The first {TABLE_ROWS} of {len(trials)}; figures/trials.csv has all.")
    blocks.append(
        Table(
            *(f"{prefix}table-trials", "All trials", header, rows, numeric),
            folded=True,
            note=" ".join(notes),
            links=links(shown),
        )
    )
    return Section(f"{prefix}trials", "Trials", blocks)


def cost(study: Study, prefix: str) -> Section:
    """Epochs trained against epochs asked, and who branched where."""
    cost = epochs_cost(study)
    trials = study.trials
    text = (
        f"{_epochs(cost['trained'])} trained of {cost['planned']:,.0f} asked, in {duration(cost['wall_s'])} of "
        "training and evaluation."
    )
    if cost["inherited"]:
        share = cost["inherited"] / (cost["trained"] + cost["inherited"])
        text += (
            f" {_epochs(cost['inherited'])} inherited from trials that begin alike: sharing saved {100 * share:.0f}% "
            "of the epochs that trials went through."
        )
    left = trials["epochs_planned"] - trials["epochs_done"]
    not_run = []
    for status in _NOT_RUN:
        mine = (trials["status"] == status) & (left > 0)
        if count := int(mine.sum()):
            epochs = _epochs(int(left[mine].sum()))
            not_run.append(f"{epochs} of {count} {status} {'trial' if count == 1 else 'trials'}")
    if not_run:
        text += f" Not run: {', '.join(not_run)}."
    blocks: list[Block] = [text]
    if cost["inherited"]:
        tree = stage_tree.points(study)
        figure = stage_tree.draw(tree)
        blocks.append(Figure(f"{prefix}stage-tree", "Who branched where", stage_tree.caption(tree), figure, tree))
    return Section(f"{prefix}cost", "Cost", blocks)


_NOT_RUN = ("pruned", "diverged", "failed", "paused", "running", "waiting")


def _epochs(count: float) -> str:
    return f"{count:,.0f} epoch" if count == 1 else f"{count:,.0f} epochs"


def again(study: Study, prefix: str) -> Section:
    """Commands, MLflow's runs, the study file, versions and machine."""
    found = _links(study)
    event = study.record.study
    assert event is not None  # load() refuses a ledger without its first line
    rows = [["started", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(event.at))]]
    rows += [["git commit", event.git_commit or "not in a repository"]]
    rows += [[name, version] for name, version in sorted(event.versions.items())]
    rows += [[f"machine: {name}", value] for name, value in sorted(event.machine.items())]
    hosts = sorted({driver.host for driver in study.record.drivers})
    if hosts:
        rows.append(["drivers on", ", ".join(hosts)])
    blocks: list[Block] = [
        Text(
            f"{prefix}commands",
            "Run it again",
            f"python -m study run {study.name}.yaml\npython -m analysis report {study.name}",
        ),
        "The study file below is what was run; the same file, seeds and versions on the same machine give the same "
        "numbers. Where studies do not lie in studies/, add --home and their folder, or set STUDY_HOME.",
        Text(f"{prefix}mlflow", "Its runs in MLflow", _mlflow(study)),
        *([] if found is None or not found.of_study else [Link("The study's run:", found.of_study, found.of_study)]),
        Text(f"{prefix}file", "Study file", event.source),
        Table(f"{prefix}table-versions", "Versions and machine", ["What", "Value"], rows, folded=True),
    ]
    return Section(f"{prefix}again", "Run it again", blocks)


def _links(study: Study) -> MlflowLinks | None:
    """Addresses in MLflow's UI as the last run or sync kept them; None where there are none, or none that are ours."""
    try:
        return MlflowLinks.model_validate_json((study.folder / LINKS_NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def _mlflow(study: Study) -> str:
    """How to open MLflow's UI, and what the study's runs are called there."""
    trials = study.trials
    confirmed = {"confirm": " (confirmed)"}
    named = list(
        dict.fromkeys(
            f"{name}{confirmed.get(phase, '')}"
            for name, phase in zip(trials["configuration"], trials["phase"], strict=True)
        )
    )
    seeds = [str(seed) for seed in dict.fromkeys(trials["seed"].tolist())]
    lines = ["python -m study ui", "", f"experiment  {study.name}", f"run         {study.name}"]
    lines += [f"            {name}" for name in named[:MLFLOW_RUNS]]
    if len(named) > MLFLOW_RUNS:
        lines.append(f"            ... and {len(named) - MLFLOW_RUNS} more configurations")
    shown = ", ".join(seeds[:MLFLOW_RUNS]) + (", ..." if len(seeds) > MLFLOW_RUNS else "")
    if seeds:
        lines.append(f"            under each configuration: seed {shown}")
    return "\n".join(lines)


def percent(share: object) -> str:
    """A fraction as percent with one digit; an empty cell where there is none."""
    return "" if not isinstance(share, float) or pd.isna(share) else f"{100 * share:.1f}"


def interval(low: float, high: float) -> str:
    """Two fractions as an interval in percent, cut to what Recall can be."""
    return "" if pd.isna(low) or pd.isna(high) else f"{100 * max(0, low):.1f} to {100 * min(1, high):.1f}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
