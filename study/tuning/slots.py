"""How many trials fit on what Ray has."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import ray

from search_spaces.trial_config import Compute


def slots_on(resources: Mapping[str, float], compute: Compute) -> int:
    """Trials that one node with `resources` (Ray's: CPU, GPU) trains at once. A share of a GPU lies on one GPU."""
    by_cpu = int(resources.get("CPU", 0) // compute.threads)
    if not compute.gpus:
        return by_cpu
    by_gpu = int(resources.get("GPU", 0)) * int(1 / compute.gpus + 1e-9)
    return min(by_cpu, by_gpu)


def slots(compute: Compute) -> int:
    """Trials that Ray's nodes, those alive now, train at once."""
    return sum(slots_on(node["Resources"], compute) for node in ray.nodes() if node["Alive"])


class Slots:
    """`slots`, asked anew after EVERY_S only: Tune asks for trials in a tight loop, and an answer takes 5 ms."""

    EVERY_S = 1.0

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._asked, self._count = -math.inf, 0

    def count(self) -> int:
        """Trials that fit, as of the last second."""
        if time.monotonic() - self._asked > self.EVERY_S:
            self._asked, self._count = time.monotonic(), slots(self._compute)
        return self._count
