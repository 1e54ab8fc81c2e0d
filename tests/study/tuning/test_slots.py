from __future__ import annotations

import pytest

from search_spaces.trial_config import Compute
from study.tuning import slots as module
from study.tuning.slots import slots, slots_on


@pytest.mark.parametrize(
    ("cpus", "gpus", "threads", "share", "expected"),
    [
        (4, 0, 1, 0, 4),
        (5, 0, 2, 0, 2),
        (1, 0, 2, 0, 0),
        (0, 8, 1, 1, 0),
        (16, 2, 1, 1, 2),
        (16, 2, 1, 0.5, 4),
        (16, 2, 1, 0.4, 4),  # two on each; the fifth would lie on both
        (16, 1, 1, 0.1, 10),
        (3, 2, 1, 0.25, 3),
    ],
)
def test_trials_that_fit_on_a_node(cpus: float, gpus: float, threads: int, share: float, expected: int) -> None:
    compute = Compute(threads=threads, device="cuda" if share else "cpu", gpus=share)
    assert slots_on({"CPU": cpus, "GPU": gpus}, compute) == expected


def test_a_trial_lies_on_one_node_and_dead_nodes_have_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": True, "Resources": {}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    monkeypatch.setattr(module.ray, "nodes", lambda: nodes)
    assert slots(Compute(threads=2)) == 2, "six processors, but two threads of a trial share a node"
