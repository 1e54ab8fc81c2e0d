"""Whatever breaks when, nested in resumes: the study ends as if nothing had, and no recorded epoch is trained twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from study.ledger.write import LedgerWriter
from study.records import Event
from study.tuning import driver
from tests.study.tuning.simulated import TRIAL, a_study

from .seeds import CONFIRM, RANGE, expected, play
from .simulator import Computer, Wrong, check, final, run_to_the_end

WERE_WRONG = (15462, 80324)
"""A strict search's decision that was written in two parts was followed by the next one, before anybody had trained."""


def test_a_few_seeds_keep_every_promise(tmp_path: Path) -> None:
    for seed in (*range(5), *WERE_WRONG):
        play(seed, tmp_path / str(seed))


@pytest.mark.slow
def test_two_thousand_seeds_keep_every_promise(tmp_path: Path) -> None:
    for seed in range(2000):
        folder = tmp_path / str(seed)
        play(seed, folder)
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def first_wrong(tmp_path: Path, seeds: range) -> str:
    """What the first of `seeds` that breaks a promise says."""
    for seed in seeds:
        try:
            play(seed, tmp_path / str(seed))
        except Wrong as error:
            return str(error)
    return ""


@pytest.mark.slow
def test_the_simulator_sees_a_driver_that_forgets_what_was_written_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected("strict shared"), expected("strict qmc")
    monkeypatch.setattr(driver, "half_end", lambda config, trial: None)
    said = first_wrong(tmp_path, range(200))
    assert "replay: python -m tests.faults --first" in said


@pytest.mark.slow
def test_the_simulator_sees_a_ledger_that_is_not_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = LedgerWriter.append

    def careless(self: LedgerWriter, *events: Event, durable: bool = False) -> None:
        append(self, *events)

    monkeypatch.setattr(LedgerWriter, "append", careless)
    assert "replay: python -m tests.faults --first" in first_wrong(tmp_path, range(200))


STRICT = {
    "sampler": {"kind": "random"},
    "scheduler": {"kind": "asha", "factor": 2},
    "max_trials": 8,
    "round_size": 4,
    "determinism": "strict",
    "max_failures": 100,
}
TWELVE = {
    "plan": a_study(trial={**TRIAL, "epochs": 3}, vary={"loss.scale.value": [1, 3, 10, 30]}, seeds=[0, 1, 2]),
    "search": a_study(
        trial={**TRIAL, "epochs": 3}, vary=RANGE, search=STRICT, confirm={**CONFIRM, "seeds": [101, 102]}
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die before", "die torn", "die after"])
@pytest.mark.parametrize("name", sorted(TWELVE))
def test_twelve_trials_survive_a_crash_at_every_write_and_again_in_the_resume(
    tmp_path: Path, name: str, fault: str
) -> None:
    study = TWELVE[name]
    whole = Computer(tmp_path / "whole", study, random.Random(0))
    record = run_to_the_end(whole, lambda life: None, slots=lambda: 2)
    assert len(record.trials) == 12
    writes = whole.disk.count
    assert writes > 100
    wanted = final(record), whole.store.weights

    def crash(first: int, second: int | None) -> None:
        computer = Computer(tmp_path / f"{first} {second}", study, random.Random(first))
        computer.disk.choose = lambda faults: fault if fault in faults else faults[0]
        run = run_to_the_end(computer, lambda life: (first, second)[life] if life < 2 else None, slots=lambda: 2)
        assert computer.history, "nothing was struck"
        check(computer, run, wanted)

    for first in range(1, writes + 1):
        crash(first, None)
    for first in range(1, writes + 1, 12):
        for second in range(1, writes, 12):
            crash(first, second)
