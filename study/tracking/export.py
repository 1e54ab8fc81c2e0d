"""A study as plain tables: trials and epochs as parquet and CSV, and study.json; from the ledger alone."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import JsonValue

from study.ledger.read import LedgerError, StudyRecord, TrialRecord, read_study
from study.ledger.write import make_private, write_atomic
from study.tracking.flatten import as_text, flatten

if TYPE_CHECKING:
    from pandas import DataFrame, Series

Format = Literal["parquet", "csv"]
FORMATS: tuple[Format, ...] = ("parquet", "csv")
Cell = JsonValue
Row = dict[str, Cell]


def export(folder: Path, target_dir: Path, formats: Sequence[Format] = FORMATS) -> list[Path]:
    """Write trials.<format>, epochs.<format> and study.json of the study in `folder` to `target_dir`; what was written.

    A trial's row has its configuration by dotted path and its last epoch's metrics as last.<metric>; an epoch's row has
    its metrics by name, fractions as fractions. `at` is Unix time in seconds. Each file appears whole or not at all.
    Raises: LedgerError, also where `target_dir` cannot be written.
    """
    record = read_study(folder)
    tables = {
        "trials": _frame([_trial_row(trial) for trial in record.trials.values()]),
        "epochs": _frame(_epochs(record)),
    }
    files = {f"{name}.{suffix}": _bytes(frame, suffix) for name, frame in tables.items() for suffix in formats}
    files["study.json"] = _summary(record)
    try:
        make_private(target_dir)
        for name, data in files.items():
            write_atomic(target_dir / name, data)
    except OSError as error:
        raise LedgerError(
            f"{target_dir}: cannot be written ({error.strerror}); give another folder, or make room"
        ) from error
    return [target_dir / name for name in files]


def _trial_row(trial: TrialRecord) -> Row:
    event, end = trial.trial, trial.end
    first = trial.starts[0] if trial.starts else None
    results = trial.results
    row: Row = {
        "trial": event.number,
        "phase": event.phase.value,
        "configuration": event.configuration,
        "baseline": event.baseline,
        "seed": event.seed,
        "status": trial.status.value,
        "value": end.value if end else None,
        "value_last_5": end.value_last_5 if end else None,
        "epochs_done": trial.epochs_done,
        "inherited_epochs": sum(result.inherited for result in results),
        "from_trial": first.from_trial if first else None,
        "attempts": len(trial.starts),
        "started_at": first.at if first else None,
        "ended_at": end.at if end else None,
        "reason": end.reason if end else "",
    }
    row |= {f"last.{name}": value for name, value in (results[-1].metrics if results else {}).items()}
    return row | flatten(event.trial)


def _epochs(record: StudyRecord) -> list[Row]:
    return [
        {
            "trial": trial.number,
            "configuration": trial.trial.configuration,
            "seed": trial.trial.seed,
            "epochs_done": event.result.epochs_done,
            "at": event.at,
            "inherited": event.result.inherited,
            "train_s": event.result.train_s,
            "eval_s": event.result.eval_s,
            **event.result.metrics,
        }
        for trial in record.trials.values()
        for _, event in sorted(trial.epochs.items())
    ]


def _frame(rows: list[Row]) -> DataFrame:
    """`rows` as a table; a column of lists or of several types is spelled as text, since a column has one type."""
    import pandas as pd  # half a second, needed only here

    columns = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({column: _series([row.get(column) for row in rows]) for column in columns})


def _series(cells: list[Cell]) -> Series[Any]:
    import pandas as pd

    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int}:
        return pd.Series(cells, dtype="Int64")
    if kinds == {bool}:
        return pd.Series(cells, dtype="boolean")
    if kinds and kinds <= {int, float}:
        return pd.Series(cells, dtype="float64")
    return pd.Series([None if cell is None else as_text(cell) for cell in cells], dtype="string")


def _bytes(frame: DataFrame, suffix: Format) -> bytes:
    buffer = io.BytesIO()
    if suffix == "parquet":
        frame.to_parquet(buffer, index=False)
    else:
        frame.to_csv(buffer, index=False)
    return buffer.getvalue()


def _summary(record: StudyRecord) -> bytes:
    """What is known of the study itself."""
    study = record.study
    assert study is not None  # read_study refuses an empty ledger
    summary = {
        "config": record.config_json,
        "schema_version": study.schema_version,
        "at": study.at,
        "versions": study.versions,
        "git_commit": study.git_commit,
        "machine": study.machine,
        "finished": record.finished,
        "drivers": [driver.model_dump(mode="json", exclude={"config", "event"}) for driver in record.drivers],
        "trials": len(record.trials),
    }
    return json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n"
