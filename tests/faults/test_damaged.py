"""Damaged ledgers, old ones, moved ones: one line and nothing changed, or a recovery that loses at most a torn tail."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

import analysis
from search_spaces.load import parse_study
from study.cli import main
from study.ledger.read import LEDGER_NAME, LedgerError, read_events, read_study
from study.ledger.write import LedgerWriter
from study.records import Status
from study.tuning.session import changed_fields
from tests.study.tuning.simulated import Killed, World, a_study

FIXTURES = Path(__file__).parents[1] / "fixtures"
"""Ledgers of schema version 1, written on 2026-11-24 before searches had a field `determinism`: never to be changed."""
OLD = {"finished": FIXTURES / "ledger_1_finished", "unfinished": FIXTURES / "ledger_1_unfinished"}
DIVERGES = 2


def damaged(rng: random.Random, data: bytes) -> bytes:
    """`data` cut, flipped, overwritten, or with lines lost, doubled, swapped."""
    place = rng.randrange(len(data))
    lines = data.splitlines(keepends=True)
    line = rng.randrange(len(lines) - 1)
    return rng.choice(
        [
            data[:place],
            data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :],
            data[:place] + b"\0" * 40 + data[place + 40 :],
            data[:place] + b"\0" * (len(data) - place),
            data[:place] + rng.randbytes(200),
            data.replace(b'"schema_version":1', b'"schema_version":99'),
            b"".join(lines[:line] + lines[line + 1 :]),
            b"".join(lines[: line + 1] + lines[line:]),
            b"".join([*lines[:line], lines[line + 1], lines[line], *lines[line + 2 :]]),
            rng.randbytes(300),
            b"",
        ]
    )


def test_fifty_damaged_ledgers_are_one_line_or_lose_a_torn_tail(tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(OLD["finished"], home / "old")
    path = home / "old" / LEDGER_NAME
    whole = path.read_bytes()
    events = list(read_events(path))
    told = 0
    for seed in range(50):
        data = damaged(random.Random(seed), whole)
        path.write_bytes(data)
        result = CliRunner().invoke(main, ["status", "old", "--home", str(home)])
        assert path.read_bytes() == data, "reading changes nothing"
        if result.exit_code == 0:
            left = list(read_events(path))
            assert left == events[: len(left)], f"seed {seed}"
            with LedgerWriter(home / "old") as ledger:  # cuts the torn tail, and nothing else
                assert list(read_events(ledger.path)) == left
            assert data.startswith(path.read_bytes())
            continue
        told += 1
        assert isinstance(result.exception, SystemExit), f"seed {seed}: {result.exception!r}"
        assert result.exit_code == 2
        assert len(result.output.splitlines()) == 1, f"seed {seed}: {result.output}"
        assert result.output.startswith(str(path)), f"seed {seed}: {result.output}"
        with contextlib.suppress(LedgerError):
            LedgerWriter(home / "old").close()
        torn_first_line = b"\n" not in data  # of a driver that died in its first write: nothing was on record
        assert path.read_bytes() == data or torn_first_line, "a damaged ledger is not written to"
    assert told >= 20


def test_another_studys_ledger_is_refused(tmp_path: Path) -> None:
    shutil.copytree(OLD["unfinished"], tmp_path / "other")
    result = CliRunner().invoke(main, ["resume", "other", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert result.output.splitlines() == [f"{tmp_path / 'other'}: holds the study old; give the folder that name again"]
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_an_old_finished_ledger_opens() -> None:
    record = read_study(OLD["finished"])
    assert record.study is not None
    assert record.study.schema_version == 1
    assert record.finished
    assert Counter(trial.status for trial in record.trials.values()) == {
        Status.COMPLETE: 2, Status.PRUNED: 2, Status.DIVERGED: 1
    }  # fmt: skip
    frames = analysis.load(OLD["finished"])
    assert len(frames.trials) == 5
    assert set(frames.rungs["decision"]) >= {"pause", "continue"}


def test_an_old_unfinished_ledger_resumes_to_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(OLD["unfinished"], folder)
    before = read_study(folder)
    config = parse_study(before.config_json, "old", "old")
    again = config.model_dump(mode="json", by_alias=True)
    assert changed_fields(before.config.model_dump(mode="json", by_alias=True), again) == []
    world = World(folder, clock=before.last_at)
    record = world.run(config, fate=lambda job, epochs: "diverge" if job.number == DIVERGES and not epochs else "")
    assert record.finished
    assert len(record.trials) == 5
    assert all(trial.end is not None for trial in record.trials.values())
    for number, trial in before.trials.items():
        assert record.trials[number].trial == trial.trial
        assert (
            trial.epochs.items()
            <= {n: event for n, event in record.trials[number].epochs.items() if n in trial.epochs}.items()
            or trial.end is None
        )


def test_a_study_folder_can_move(tmp_path: Path) -> None:
    study = a_study(vary={"loss.scale.value": [1, 3, 10]})
    world = World(tmp_path / "before" / "made-up")
    with contextlib.suppress(Killed):
        world.run(study, kill_after=8)
    (tmp_path / "before").rename(tmp_path / "after")
    world.folder = tmp_path / "after" / "made-up"
    record = world.run(study)
    assert {trial.status for trial in record.trials.values()} == {Status.COMPLETE}
    assert len(world.store.trained) == len(set(world.store.trained)) == 3 * 9
    assert not (tmp_path / "before").exists()


NO_PICKLE = """
import sys
from click.testing import CliRunner
import numpy, pandas, pyarrow.parquet, yaml, pydantic
found = []
sys.addaudithook(lambda event, args: found.append(args) if event == "pickle.find_class" else None)
from study.cli import main
folder, example = sys.argv[1:]
for command in (["check", example], ["status", "made-up", "--home", folder], ["export", "made-up", "--home", folder]):
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
import analysis
study = analysis.load(folder + "/made-up")
assert len(study.arrays)
from study.ledger.read import load_arrays, read_study
for trial in read_study(study.folder).trials.values():
    for event in trial.epochs.values():
        if event.arrays is not None:
            load_arrays(study.folder, event.arrays)
print(found)
import pickle
pickle.loads(pickle.dumps(CliRunner))
assert found, "the hook hears of pickles"
"""


def test_check_export_and_analysis_never_unpickle(tmp_path: Path) -> None:
    from benchmarks.made_up import plan_config, write_plan

    write_plan(tmp_path / "made-up", plan_config(), array_epochs=[3], diagnostics=True)
    example = Path(__file__).parents[2] / "search_spaces" / "examples" / "circle.yaml"
    command = [sys.executable, "-c", NO_PICKLE, str(tmp_path), str(example)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("name", sorted(OLD))
def test_the_fixtures_are_what_they_were(name: str) -> None:
    import hashlib

    sums = {
        "finished": "010584eb27d97c3f66f43f34fc32fad783e16406915644a0bf1d0d9c8806a121",
        "unfinished": "0a317b1cd92adfeaed9a85baec69e40dc3f7690908dd2d2f9a09acdaf087f998",
    }
    assert hashlib.sha256((OLD[name] / LEDGER_NAME).read_bytes()).hexdigest() == sums[name]
