"""A study's ledger as tidy pandas frames, checked line by line.

pandas and the ledger's reader are imported inside the functions: `analysis` itself imports this module so that
`analysis.load(...)` works in a notebook, and `python -m analysis --help` must not wait for either of them.
"""

from __future__ import annotations

import difflib
import json
import os
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from analysis.cache import Cached
    from search_spaces.study_config import StudyConfig
    from search_spaces.trial_config import TrialConfig
    from study.ledger.read import StudyRecord
    from study.records import EpochEvent

NAN = float("nan")


class NoSuchStudy(Exception):
    """No study goes by this name or path. One line, with names that are near."""


@dataclass(frozen=True)
class Study:
    """A study as frames. Recall and accuracy are fractions in [0, 1]; times are seconds.

    folder: where the ledger lies. record: what the ledger says apart from its epochs (they are in `epochs`).
    trials: one row a trial. `value` is its objective at the last epoch, `value_last_5` the mean of its last five,
    `test_value` Recall@1 of the test classes at the last epoch (NaN where they are not measured), `wall_s` seconds it
    trained and evaluated itself, `epochs_inherited` epochs that another trial had trained; then what its configuration
    says (loss_kind, schedule_kind, scale_first, scale_last, train_classes, embedding_dim, dataset_kind,
    epochs_planned, objective), and a column for each dotted path that varies (a mapping stands as JSON text).
    epochs: one row per trial and epoch, a column per metric; epochs_done 0 is the untrained network.
    rungs: one row per decision of the scheduler. arrays: the npz files that epochs name. trial_configs: each
    trial's whole configuration, equal ones the same object.
    """

    folder: Path
    record: StudyRecord
    trials: pd.DataFrame
    epochs: pd.DataFrame
    rungs: pd.DataFrame
    arrays: pd.DataFrame
    trial_configs: dict[int, TrialConfig]

    @property
    def name(self) -> str:
        """The study's name, as its file gives it."""
        return self.config.name

    @cached_property
    def config(self) -> StudyConfig:
        """The study file's values."""
        return self.record.config

    @property
    def objective(self) -> str:
        """The metric that its trials are judged by."""
        return self.config.trial.objective

    @cached_property
    def varied(self) -> list[str]:
        """The dotted paths that differ between trials, in the order of their first appearance."""
        return list(dict.fromkeys(path for trial in self.record.trials.values() for path in trial.trial.values))

    @property
    def last_epochs(self) -> pd.DataFrame:
        """Each trial's last recorded epoch, one row a trial, indexed by trial number."""
        return self.epochs.groupby("number", sort=False).tail(1).set_index("number")


def default_home() -> Path:
    """The folder that holds studies: STUDY_HOME, or studies/ in the current one."""
    return Path(os.environ.get("STUDY_HOME") or "studies")


def find(study: str | Path, home: Path | None = None) -> Path:
    """The folder of `study`: a path to it (or to its ledger), or its name under `home`. Raises: NoSuchStudy."""
    from study.ledger.read import LEDGER_NAME

    home = default_home() if home is None else home
    path = Path(study)
    candidates = [path.parent if path.name == LEDGER_NAME else path]
    if len(path.parts) == 1:
        candidates.insert(0, home / path)
    for folder in candidates:
        if (folder / LEDGER_NAME).is_file():
            return folder
    known = sorted(ledger.parent.name for ledger in home.glob(f"*/{LEDGER_NAME}")) if home.is_dir() else []
    if near := difflib.get_close_matches(path.name, known, n=3, cutoff=0.4):
        raise NoSuchStudy(f"{study}: no such study in {home}; did you mean {', '.join(near)}?")
    if known:
        shown = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        raise NoSuchStudy(f"{study}: no such study in {home}; there are {shown}")
    raise NoSuchStudy(f"{study}: no such study, and {home} holds none; run one first, or name its folder with --home")


def load(study: str | Path, home: Path | None = None) -> Study:
    """The frames of `study`, a folder or a name under `home` (default: STUDY_HOME, or studies/).

    A study that still runs, or whose last line is torn, is read as far as it goes.
    Raises: NoSuchStudy; LedgerError for a damaged ledger or an unknown schema version, in one line.
    """
    from analysis import cache
    from study.ledger.read import LEDGER_NAME, LedgerError

    folder = find(study, home)
    ledger = folder / LEDGER_NAME
    key = cache.key_of(ledger)
    cached = cache.read(folder, key) if cache.path_of(folder).exists() else None
    if cached is None:
        record, (epochs, arrays, others) = _read_all(ledger)
        # A ledger that grew while it was read is another one than its key says.
        if len(epochs) >= cache.LEAST_ROWS and ledger.stat().st_size == key.size:
            cache.write(folder, key, cache.Cached(epochs, arrays, others))
    else:
        record, epochs, arrays = _read_stretches(ledger, cached.others), cached.epochs, cached.arrays
    if record.study is None:
        raise LedgerError(f"{ledger}: empty; remove the folder and run the study file again")
    configs = _configs(record)
    trials = _trials(record, epochs, configs)
    return Study(folder, record, trials, epochs, _rungs(record), _array_frame(arrays), configs)


def _read_all(ledger: Path) -> tuple[StudyRecord, Cached]:
    """The study without its epochs, and what is cached of it: its epochs, their array files, where other lines lie."""
    from analysis.cache import Cached
    from study.ledger.read import StudyRecord, read_lines
    from study.records import EpochEvent

    record, columns = StudyRecord(), _EpochColumns()
    others: list[tuple[int, int]] = []
    start = 0
    for line in read_lines(ledger):
        if isinstance(line.event, EpochEvent):
            columns.add(line.event)
        else:
            record.apply(line.event)
            # Adjacent lines make one stretch: a trial's end, the next trial and its start.
            first = others.pop()[0] if others and others[-1][1] == start else start
            others.append((first, line.end))
        start = line.end
    return record, Cached(columns.frame(), columns.arrays, others)


def _read_stretches(ledger: Path, stretches: list[tuple[int, int]]) -> StudyRecord:
    """The study without its epochs, of a ledger whose checksum says that it was read, and found whole, before."""
    from pydantic import TypeAdapter

    from study.ledger.read import StudyRecord
    from study.records import Event, LedgerEvent

    adapter: TypeAdapter[Event] = TypeAdapter(LedgerEvent)
    record = StudyRecord()
    with ledger.open("rb") as stream:
        for start, end in stretches:
            stream.seek(start)
            for line in stream.read(end - start).splitlines():
                record.apply(adapter.validate_json(line[9:]))
    return record


def _array_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    from study.records import ArrayFile

    known = [{**row, "file": ArrayFile.model_validate_json(json.dumps(row["file"]))} for row in rows]
    frame = pd.DataFrame(known, columns=["number", "epochs_done", "file"])
    return frame.drop_duplicates(["number", "epochs_done"], keep="last", ignore_index=True)


@dataclass
class _EpochColumns:
    """Epoch lines gathered column by column: a million of them must fit, and as objects they would not."""

    number: array[int] = field(default_factory=lambda: array("q"))
    epochs_done: array[int] = field(default_factory=lambda: array("q"))
    inherited: array[int] = field(default_factory=lambda: array("b"))
    train_s: array[float] = field(default_factory=lambda: array("d"))
    eval_s: array[float] = field(default_factory=lambda: array("d"))
    metrics: dict[str, array[float]] = field(default_factory=dict)
    arrays: list[dict[str, Any]] = field(default_factory=list)

    def add(self, event: EpochEvent) -> None:
        rows = len(self.number)
        result = event.result
        self.number.append(event.number)
        self.epochs_done.append(result.epochs_done)
        self.inherited.append(result.inherited)
        self.train_s.append(result.train_s)
        self.eval_s.append(result.eval_s)
        for name, value in result.metrics.items():
            column = self.metrics.get(name)
            if column is None:
                column = self.metrics[name] = array("d", [NAN]) * rows
            elif len(column) < rows:
                column.extend([NAN] * (rows - len(column)))
            column.append(value)
        if event.arrays is not None:
            file = event.arrays.model_dump(mode="json")
            self.arrays.append({"number": event.number, "epochs_done": result.epochs_done, "file": file})

    def frame(self) -> pd.DataFrame:
        """The columns in order of trial and epoch. They are given up on the way: both at once would double the peak."""
        import numpy as np
        import pandas as pd

        rows = len(self.number)
        number = np.array(self.number, dtype=np.int64)
        epochs_done = np.array(self.epochs_done, dtype=np.int64)
        order = np.lexsort((np.arange(rows), epochs_done, number))
        number, epochs_done = number[order], epochs_done[order]
        # A restarted trial reports its epochs again; the ledger's later line counts.
        last = np.ones(rows, dtype=bool)
        last[:-1] = (number[1:] != number[:-1]) | (epochs_done[1:] != epochs_done[:-1])
        order = order[last]
        columns: dict[str, Any] = {
            "number": number[last],
            "epochs_done": epochs_done[last],
            "inherited": np.array(self.inherited, dtype=bool)[order],
            "train_s": np.array(self.train_s)[order],
            "eval_s": np.array(self.eval_s)[order],
        }
        for name in list(self.metrics):
            column = self.metrics.pop(name)
            column.extend([NAN] * (rows - len(column)))
            columns[name] = np.array(column)[order]
        return pd.DataFrame(columns, copy=False)


def _configs(record: StudyRecord) -> dict[int, TrialConfig]:
    """Each trial's configuration, validated once per distinct one."""
    known: dict[str, TrialConfig] = {}
    configs = {}
    for number, trial in record.trials.items():
        key = json.dumps(trial.trial.trial, sort_keys=True)
        if key not in known:
            known[key] = trial.config
        configs[number] = known[key]
    return configs


def _trials(record: StudyRecord, epochs: pd.DataFrame, configs: Mapping[int, TrialConfig]) -> pd.DataFrame:
    import pandas as pd

    from search_spaces.losses import AdaCos, adacos_fixed_scale, schedule_of
    from search_spaces.schedules import scale_at

    trained = epochs[epochs["epochs_done"] > 0]
    by_trial = trained.groupby("number")
    done = by_trial["epochs_done"].max()
    own = trained[~trained["inherited"]]
    wall = (own["train_s"] + own["eval_s"]).groupby(own["number"]).sum()
    inherited = by_trial["inherited"].sum()
    last = trained.groupby("number").tail(1).set_index("number")
    test = last["test_recall_at_1"] if "test_recall_at_1" in last else pd.Series(dtype=float)
    paths = list(dict.fromkeys(path for trial in record.trials.values() for path in trial.trial.values))
    known: dict[int, dict[str, Any]] = {}
    rows = []
    for number in sorted(record.trials):
        trial = record.trials[number]
        config = configs[number]
        if id(config) not in known:
            schedule = schedule_of(config.loss)
            first = last_scale = NAN
            if schedule is not None:
                first, last_scale = scale_at(schedule, 0), scale_at(schedule, config.epochs - 1)
            elif isinstance(config.loss, AdaCos) and config.loss.mode == "fixed":
                first = last_scale = adacos_fixed_scale(config.split.train_classes)
            known[id(config)] = {
                "objective": config.objective,
                "loss_kind": config.loss.kind,
                "schedule_kind": schedule.kind if schedule is not None else "",
                "scale_first": first,
                "scale_last": last_scale,
                "train_classes": config.split.train_classes,
                "embedding_dim": config.model.embedding_dim,
                "dataset_kind": config.dataset.kind,
                "epochs_planned": config.epochs,
            }
        end = trial.end
        rows.append(
            {
                "number": number,
                "phase": str(trial.trial.phase),
                "configuration": trial.trial.configuration,
                "seed": trial.trial.seed,
                "status": str(trial.status),
                "value": NAN if end is None or end.value is None else end.value,
                "value_last_5": NAN if end is None or end.value_last_5 is None else end.value_last_5,
                "test_value": float(test.get(number, NAN)),
                "epochs_done": int(done.get(number, 0)),
                "epochs_inherited": int(inherited.get(number, 0)),
                "wall_s": float(wall.get(number, 0.0)),
                "attempts": len(trial.starts),
                "baseline": trial.trial.baseline,
                "reason": end.reason if end is not None else "",
                **known[id(config)],
                **{path: _cell(_value_at(trial.trial.trial, trial.trial.values, path)) for path in paths},
            }
        )
    columns = [*_TRIAL_COLUMNS, *paths]
    return pd.DataFrame(rows, columns=columns)


_TRIAL_COLUMNS = (
    *("number", "phase", "configuration", "seed", "status", "value", "value_last_5", "test_value", "epochs_done"),
    *("epochs_inherited", "wall_s", "attempts", "baseline", "reason", "objective", "loss_kind", "schedule_kind"),
    *("scale_first", "scale_last", "train_classes", "embedding_dim", "dataset_kind", "epochs_planned"),
)


def _value_at(trial: dict[str, Any], values: dict[str, Any], path: str) -> Any:
    """What `trial` has at dotted `path`: a baseline that does not set it still has a value there, or none."""
    if path in values:
        return values[path]
    node: Any = trial
    for part in path.split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return node


def _cell(value: Any) -> Any:
    return json.dumps(value, separators=(",", ":"), sort_keys=True) if isinstance(value, dict | list) else value


def _rungs(record: StudyRecord) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {
            "number": number,
            "epochs_done": rung.epochs_done,
            "value": rung.value,
            "cutoff": NAN if rung.cutoff is None else rung.cutoff,
            "decision": rung.decision,
        }
        for number, trial in sorted(record.trials.items())
        for rung in trial.rungs
    ]
    return pd.DataFrame(rows, columns=["number", "epochs_done", "value", "cutoff", "decision"])
