from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import load
from analysis.classes import class_hits, differences_over_classes, over_classes
from analysis.intervals import class_difference_interval, class_interval
from analysis.report import build
from benchmarks.made_up import plan_config, study_event, trial_event, trial_lines
from study.ledger.read import LedgerError
from study.ledger.write import LedgerWriter
from study.records import EpochEvent, Phase


def write_with_hits(folder: Path, classes: int, without: int | None = None) -> np.ndarray:
    """Two configurations on two seeds with hits of `classes` test classes (10 images each), returned per trial."""
    config = plan_config()
    hits = np.random.default_rng(0).integers(0, 11, (4, classes))
    with LedgerWriter(folder) as writer:
        writer.append(study_event(config))
        number = 0
        for name, values, trial in config.configurations():
            for seed in config.seeds:
                writer.append(trial_event(number, name, trial, seed, Phase.PLAN, dict(values)))
                lines = trial_lines(number, trial, seed)
                arrays = {"test_class_hits": hits[number], "test_class_images": np.full(classes, 10)}
                last = max(place for place, line in enumerate(lines) if isinstance(line, EpochEvent))
                if number != without:
                    lines[last] = lines[last].replace(arrays=writer.save_arrays(str(number), arrays))
                writer.append(*lines)
                number += 1
    return hits


def test_hits_of_a_class_are_summed_over_seeds(tmp_path: Path) -> None:
    hits = write_with_hits(tmp_path / "s", 30)
    study = load(tmp_path / "s")
    found = over_classes(class_hits(study, ["s=5", "s=20"]))
    assert found["s=5"] == class_interval(hits[:2].sum(axis=0), np.full(30, 20))
    assert found["s=5"].n == 30
    assert list(over_classes(class_hits(study, ["s=20"]))) == ["s=20"]
    table = next(section for section in build([study])[0].sections if section.id == "tables").blocks[0]
    assert "Test, 95% over classes" in table.header


def test_too_few_classes_or_a_seed_without_hits_give_no_interval(tmp_path: Path) -> None:
    write_with_hits(tmp_path / "few", 19)
    assert class_hits(load(tmp_path / "few"), ["s=5", "s=20"]) == {}
    write_with_hits(tmp_path / "part", 30, without=0)
    assert list(class_hits(load(tmp_path / "part"), ["s=5", "s=20"])) == ["s=20"]


def test_a_missing_array_file_is_named(tmp_path: Path) -> None:
    write_with_hits(tmp_path / "s", 30)
    study = load(tmp_path / "s")
    (tmp_path / "s" / study.arrays["file"].iloc[0].path).unlink()
    with pytest.raises(LedgerError, match="restore it"):
        class_hits(study, ["s=5"])


def test_differences_over_classes_are_paired_class_by_class(tmp_path: Path) -> None:
    hits = write_with_hits(tmp_path / "s", 30)
    study = load(tmp_path / "s")
    found = differences_over_classes(class_hits(study, ["s=5", "s=20"]), "s=5")
    asked = np.full(30, 20)
    assert found == {"s=20": class_difference_interval(hits[2:].sum(axis=0), hits[:2].sum(axis=0), asked)}
    table = next(section for section in build([study])[0].sections if section.id == "tables").blocks[0]
    column = list(table.header).index("Test minus the first's (points), 95% over classes")
    cells = [row[column] for row in table.rows]
    assert cells[0] == ""
    assert cells[1].startswith(("+", "-"))


def test_configurations_asked_other_queries_are_not_compared(tmp_path: Path) -> None:
    hits = np.ones(30)
    found = {"a": (hits, np.full(30, 20.0)), "b": (hits, np.full(30, 10.0))}
    assert differences_over_classes(found, "a") == {}
    assert differences_over_classes(found, "c") == {}
