"""One seed, one study with its misfortunes: which study, how many slots, what breaks when."""

from __future__ import annotations

import functools
import random
import tempfile
from pathlib import Path
from typing import Any

from search_spaces.study_config import StudyConfig
from tests.study.tuning.simulated import TRIAL, a_study

from .simulator import Chances, Computer, Wrong, check, final, run_to_the_end

RANGE = {"loss.scale.value": {"kind": "float", "low": 1, "high": 64, "log": True}}
LATE = {
    "loss.scale": [{"kind": "switch", "before": 20, "after": 5, "switch_epoch": {"kind": "int", "low": 1, "high": 6}}],
    "optimizer.lr": [0.001, 0.003],
}
"""Proposals that begin alike, and some that are no valid trials (there are 5 epochs)."""
SHARED = [
    {"name": "constant 20"},
    {"name": "constant 5", "loss.scale": {"kind": "constant", "value": 5}},
    *(
        {"name": f"switch at {n}", "loss.scale": {"kind": "switch", "before": 20, "after": 5, "switch_epoch": n}}
        for n in (2, 4)
    ),
]
CONFIRM = {"best": 1, "seeds": [101, 102], "baselines": [{"name": "constant 20"}]}


def _search(sampler: str, mode: str, vary: dict[str, Any], **search: Any) -> StudyConfig:
    scheduler = {"kind": "asha", "grace_epochs": 1, "factor": 2, "mode": mode} if mode else {"kind": "none"}
    start = {"startup_trials": 3} if sampler == "tpe" else {}
    fields = {
        "sampler": {"kind": sampler, **start},
        "scheduler": scheduler,
        "max_trials": 6,
        "max_failures": 100,
        **search,
    }
    return a_study(trial={**TRIAL, "epochs": 5}, vary=vary, search=fields, confirm=CONFIRM if vary is RANGE else None)


@functools.cache
def studies() -> dict[str, tuple[StudyConfig, bool]]:
    """Studies by name, and whether faults may change nothing in what they find."""
    strict = {"round_size": 3, "determinism": "strict"}
    return {
        "plan": (a_study(trial={**TRIAL, "epochs": 5}, cases=SHARED, seeds=[0, 1]), True),
        "strict stop": (_search("tpe", "stop", RANGE, **strict), True),
        "strict promote": (_search("cmaes", "promote", RANGE, **strict), True),
        "strict shared": (_search("random", "promote", LATE, **strict), True),
        "strict qmc": (_search("qmc", "stop", LATE, **strict), True),
        "free stop": (_search("random", "stop", LATE), False),
        "free promote": (_search("tpe", "promote", RANGE), False),
        "rounds": (_search("random", "promote", RANGE, round_size=3), False),
    }


@functools.cache
def expected(name: str) -> tuple[dict[int, Any], set[int]] | None:
    """What a study finds without faults; None where that depends on who is first."""
    study, fixed = studies()[name]
    if not fixed:
        return None
    with tempfile.TemporaryDirectory() as folder:
        computer = Computer(Path(folder), study, random.Random(0))
        record = run_to_the_end(computer, lambda life: None, slots=lambda: 1)
        check(computer, record, None)
        return final(record), computer.store.weights


def play(seed: int, folder: Path) -> list[str]:
    """Run the study of `seed`; what befell it. Raises: Wrong, naming the seed, where a promise was broken."""
    rng = random.Random(seed)
    name = rng.choice(sorted(studies()))
    study, _ = studies()[name]
    rare = rng.choice([0.0, 0.02, 0.1])
    chances = Chances(
        crash=rare,
        node_lost=rare / 2,
        damaged=rng.choice([0.0, 0.0, 0.2]),
        unsaved=rng.choice([0.0, 0.0, 0.3]),
        stop=rng.choice([0.0, 0.0, 0.01]),
    )
    lives = rng.choice([1, 2, 3, 6])
    reach = rng.choice([5, 30, 150])
    computer = Computer(folder, study, rng, chances)
    try:
        record = run_to_the_end(
            computer,
            lambda life: rng.randint(1, reach) if life < lives else None,
            slots=lambda: rng.choice([1, 2, 4]),
        )
        check(computer, record, expected(name))
    except Exception as error:
        befell = "\n  ".join(computer.history)
        raise Wrong(
            f"{name}: {error!r}\n  {befell}\nreplay: python -m tests.faults --first {seed} --seeds 1"
        ) from error
    return computer.history
