"""ASHA's rungs as a pure record: who stood where with what value, and what was decided.

Source: Li et al. 2020, 'A System for Massively Parallel Hyperparameter Tuning', Algorithm 2; the stopping variant is
Ray Tune's AsyncHyperBandScheduler with one bracket, which the tests hold it against.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from search_spaces.study_config import Asha, rungs_of

Decision = Literal["continue", "stop", "pause"]


@dataclass(frozen=True)
class Verdict:
    """A decision at a rung. cutoff: what the value had to reach; None where nobody stood there before."""

    decision: Decision
    cutoff: float | None


@dataclass
class _Rung:
    """values, verdicts: by the key of the state that stands here, so that a shared stage counts once."""

    values: dict[str, float] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    promoted: set[str] = field(default_factory=set)


class Rungs:
    """The rungs of one study, at grace * factor^k epochs below `epochs`."""

    def __init__(self, asha: Asha, epochs: int) -> None:
        self._asha = asha
        self.milestones = rungs_of(asha, epochs)
        self._rungs = {milestone: _Rung() for milestone in self.milestones}

    def judge(self, key: str, epochs_done: int, value: float) -> Verdict | None:
        """Record that state `key` reached `epochs_done` with `value`; None where no rung stands.

        A state that was judged before gets the same verdict again and counts once.
        """
        rung = self._rungs.get(epochs_done)
        if rung is None:
            return None
        if key in rung.verdicts:
            return rung.verdicts[key]
        if self._asha.mode == "stop":
            cutoff = self._cutoff(rung)
            verdict = Verdict("stop" if cutoff is not None and value < cutoff else "continue", cutoff)
            rung.values[key] = value
        else:
            rung.values[key] = value
            go_on = key in self._best(rung)
            verdict = Verdict(
                "continue" if go_on else "pause",
                min(rung.values[best] for best in self._best(rung)) if self._best(rung) else None,
            )
            if go_on:
                rung.promoted.add(key)
        rung.verdicts[key] = verdict
        return verdict

    def restore(self, key: str, epochs_done: int, value: float, verdict: Verdict) -> None:
        """Put back what the ledger says was decided, in its order; no twin's pause undoes that a state went on."""
        rung = self._rungs.get(epochs_done)
        if rung is None:
            return
        rung.values[key] = value
        if key in rung.promoted:
            return
        rung.verdicts[key] = verdict
        if verdict.decision == "continue":
            rung.promoted.add(key)

    def promote(self, *, last: bool = False) -> tuple[int, str] | None:
        """The paused state whose turn has come (highest rung first), now promoted: its epochs_done and key.

        last: nothing more will come, so the best of a rung from which nobody went on does, however few stand there.
        """
        for milestone in reversed(self.milestones):
            rung = self._rungs[milestone]
            for key in self._best(rung, at_least=1 if last and not rung.promoted else 0):
                if key not in rung.promoted:
                    rung.promoted.add(key)
                    rung.verdicts[key] = Verdict("continue", rung.verdicts[key].cutoff)
                    return milestone, key
        return None

    def at(self, milestone: int) -> dict[str, float]:
        """The values that stand at a rung, by key."""
        return dict(self._rungs[milestone].values)

    def _cutoff(self, rung: _Rung) -> float | None:
        if not rung.values:
            return None
        return float(np.percentile(list(rung.values.values()), (1 - 1 / self._asha.factor) * 100))

    def _best(self, rung: _Rung, at_least: int = 0) -> list[str]:
        count = max(len(rung.values) // self._asha.factor, at_least)
        return sorted(rung.values, key=lambda key: rung.values[key], reverse=True)[:count]
