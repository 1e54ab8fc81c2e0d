"""Numbers printed in the thesis (Sato 2021, University of Tokyo), by table, with page and section.

The files thesis/table_<n>.csv and thesis/text.csv hold them, corrected where the thesis misprints (`errata` names the
code; analysis/README.md lists the codes that matter). Recall and accuracy are fractions; table 4.2, cited there from
Kim et al. 2020, stays in percent. Metric and dataset names are this software's. `since` set: the value is a change
from that epoch. Tables 4.4 and 4.5 do not print start and end of the scale; 20 and 5 are inferred.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import pandas as pd

TABLES = ("3.1", "4.1", "4.2", "4.3", "4.4", "4.5", "5.1", "5.2")


def load(table: str) -> pd.DataFrame:
    """The printed numbers of `table` ('4.1'), or of the running text ('text'), one row a number.

    Raises: ValueError for a table that holds no numbers here.
    """
    if table not in (*TABLES, "text"):
        raise ValueError(f"no printed table {table!r}; there are {', '.join(TABLES)} and 'text'")
    return _read(table).copy()


@cache
def _read(table: str) -> pd.DataFrame:
    name = "text.csv" if table == "text" else f"table_{table.replace('.', '_')}.csv"
    with resources.files("analysis").joinpath("thesis", name).open(encoding="utf-8") as stream:
        frame = pd.read_csv(stream, dtype={"section": str, "errata": str, "reference": str})
    frame["errata"] = frame["errata"].fillna("")
    return frame


def scale_tables(*tables: str) -> pd.DataFrame:
    """Tables 4.1, 4.3 to 4.5 and 5.2 (or those named) one under the other, with a `table` column; changes left out."""
    chosen = tables or ("4.1", "4.3", "4.4", "4.5", "5.2")
    frame = pd.concat([load(table).assign(table=table) for table in chosen], ignore_index=True)
    return frame[frame["since"].isna()].drop(columns="since").reset_index(drop=True)


def value(table: str, dataset: str, schedule: str, end: float, epochs_done: int, metric: str) -> float:
    """One printed value. Raises: ValueError unless exactly one row of `table` fits."""
    values = _values(table).get((dataset, schedule, float(end), epochs_done, metric), [])
    if len(values) != 1:
        raise ValueError(f"table {table} prints {len(values)} values of {metric} for {dataset}, {schedule} to {end:g}")
    return values[0]


@cache
def _values(table: str) -> dict[tuple[str, str, float, int, str], list[float]]:
    frame = scale_tables(table)
    values: dict[tuple[str, str, float, int, str], list[float]] = {}
    columns = (frame[name].tolist() for name in ("dataset", "schedule", "end", "epochs_done", "metric", "value"))
    for dataset, schedule, end, epochs_done, metric, number in zip(*columns, strict=True):
        values.setdefault((dataset, schedule, float(end), epochs_done, metric), []).append(number)
    return values
