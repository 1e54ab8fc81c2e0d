"""Study files that a slip of the hand or of a program spoiled: lines that name the fault, exit code 2, no file."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from study.cli import main

EXAMPLES = Path(__file__).parents[2] / "search_spaces" / "examples"
NAMES = ("quickstart", "search", "circle", "center", "asha-promote")
ODD: list[Any] = [
    None, "", "x", True, -1, 0, 0.5, 10**30, 1e308, float("nan"), float("inf"), [], {}, [[]], [None], {"kind": None},
    {"kind": "no such"}, {"a": {"b": {}}}, "20", "\x00", "\ud800", "é" * 300,
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside `value`."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(item, (*path, key))


def spoil_value(rng: random.Random, text: str) -> bytes:
    """One field gets a value of another type, is misspelt, or goes; or a foreign one comes."""
    raw = yaml.safe_load(text)
    *parents, last = rng.choice(list(places(raw)))
    node = raw
    for key in parents:
        node = node[key]
    match rng.randrange(4):
        case 0:
            node[last] = rng.choice(ODD)
        case 1 if isinstance(node, dict):
            node[f"{last}x"] = node.pop(last)
        case 2:
            del node[last]
        case _ if isinstance(node, dict):
            node[rng.choice(["lr", "epochs", "kind", "trial", "no such"])] = rng.choice(ODD)
        case _:
            node.append(rng.choice(ODD))
    return yaml.safe_dump(raw, sort_keys=False, allow_unicode=False).encode()


def spoil_text(rng: random.Random, text: str) -> bytes:
    """The bytes are cut, doubled, shuffled, flipped, or hold what YAML allows and a study file does not."""
    data = text.encode()
    place = rng.randrange(len(data))
    lines = text.splitlines()
    line = rng.randrange(len(lines))
    return rng.choice(
        [
            data[:place],
            data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :],
            data[:place] + b"\xff\xfe" + data[place:],
            data[:place] + b"\0" + data[place:],
            "\n".join([*lines[: line + 1], *lines[line:]]).encode(),
            "\n".join([*lines[:line], "\t" + lines[line], *lines[line + 1 :]]).encode(),
            data + b"\nmore: &a [*a]\n",
            data + b"\nmore: !!python/object:os.system {}\n",
            data + b"\n<<: {a: 1}\n",
            data + b"\nmore: " + b"[" * rng.choice([60, 5000]) + b"\n",
            data + b"\nmore: " + b"9" * rng.choice([400, 5000]) + b"\n",
            data + b"\nname: [\n",
            data + b"\n---\ntrial: {}\n",
            b"",
            b"- 1\n",
            b"\xef\xbb\xbf" + data[: place // 2],
            b"#" * 1_000_001,
        ]
    )


def tell(path: Path, home: Path, *command: str) -> list[str]:
    """The lines that the command line says of a spoilt study file; none where it takes it."""
    result = CliRunner().invoke(main, [*command, *(("--home", str(home)) if command[0] == "run" else ())])
    if result.exit_code == 0:
        return []
    assert isinstance(result.exception, SystemExit), f"{path.read_bytes()[:3000]!r}: {result.exception!r}"
    assert result.exit_code == 2
    return result.output.splitlines()


@pytest.mark.parametrize("count", [8, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("spoil", [spoil_value, spoil_text])
def test_spoilt_study_files_are_told_in_lines(
    tmp_path: Path, spoil: Callable[[random.Random, str], bytes], count: int
) -> None:
    path, home = tmp_path / "spoilt.yaml", tmp_path / "home"
    told = seed = 0
    while told < count:
        rng = random.Random(seed)
        seed += 1
        path.write_bytes(spoil(rng, (EXAMPLES / f"{rng.choice(NAMES)}.yaml").read_text(encoding="utf-8")))
        lines = tell(path, home, "check", str(path))
        if not lines:
            continue  # what is left is a study file
        told += 1
        for line in lines:
            assert line.startswith(str(path)), f"seed {seed - 1}: {line}"
            assert line.isprintable()
            assert len(line) < 600, f"seed {seed - 1}: {line}"
        if told % 8 == 0:
            assert tell(path, home, "run", str(path)) == lines
        assert sorted(file.name for file in tmp_path.iterdir()) == ["spoilt.yaml"], "nothing is written"
    assert seed < 4 * count, "the test spoils too few"
