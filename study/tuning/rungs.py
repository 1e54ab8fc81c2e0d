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

    def judge(self, key: str, epochs_done: int, value: float, number: int = 0) -> Verdict | None:
        """Record that state `key` reached `epochs_done` with `value`; None where no rung stands.

        A state that was judged before gets the same verdict again and counts once. number: of the trial; not looked at.
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

    def restore(self, key: str, epochs_done: int, value: float, verdict: Verdict, number: int = 0) -> None:
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

    def decide(self, *, last: bool = False) -> list[tuple[int, str, Verdict]]:
        """As `promote`: a list of one, or of none."""
        turn = self.promote(last=last)
        return [] if turn is None else [(*turn, self._rungs[turn[0]].verdicts[turn[1]])]

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


@dataclass
class _Standing:
    """A state at a synchronous rung. number: the first proposal that has it; verdict: None if undecided."""

    value: float
    number: int
    verdict: Verdict | None = None


class SynchronousRungs:
    """Rungs that decide only when asked, on all who stand there at once, so that no decision depends on who came first.

    The driver asks when no trial trains: all that can reach a rung have reached it or ended. A decision is a function
    of the keys, values and first proposal numbers that stand at the rungs. Against `Rungs`, a value counts for its own
    cutoff, and equal values go on in the order of their proposals.
    """

    def __init__(self, asha: Asha, epochs: int) -> None:
        self._asha = asha
        self.milestones = rungs_of(asha, epochs)
        self._rungs: dict[int, dict[str, _Standing]] = {milestone: {} for milestone in self.milestones}

    def judge(self, key: str, epochs_done: int, value: float, number: int) -> Verdict | None:
        """Record that proposal `number` reached `epochs_done` with state `key`; None where no rung stands.

        A state that was decided on gets the same verdict again; any other waits.
        """
        rung = self._rungs.get(epochs_done)
        if rung is None:
            return None
        standing = rung.setdefault(key, _Standing(value, number))
        standing.number = min(standing.number, number)
        return standing.verdict or Verdict("pause", None)

    def restore(self, key: str, epochs_done: int, value: float, verdict: Verdict, number: int) -> None:
        """Put back what the ledger says, in any order."""
        if self.judge(key, epochs_done, value, number) is not None and verdict.decision != "pause":
            self._rungs[epochs_done][key].verdict = verdict

    def decide(self, *, last: bool = False) -> list[tuple[int, str, Verdict]]:
        """Decide on all who wait; epochs_done, key and verdict of those who wait no longer.

        Stopping decides one rung, the lowest where anybody waits; promotion decides all. Asked again before anybody
        trained, it decides what is left of the same: a decision that was written half is completed by it. last: as for
        `Rungs.promote`.
        """
        for milestone in self.milestones if self._asha.mode == "stop" else ():
            if self.undecided(milestone):
                return self._stop(milestone)
        promoted = [turn for milestone in reversed(self.milestones) for turn in self._promote(milestone, 0)]
        if not promoted and last:
            for milestone in reversed(self.milestones):
                if not any(standing.verdict for standing in self._rungs[milestone].values()):
                    promoted = promoted or self._promote(milestone, 1)
        return promoted

    def undecided(self, milestone: int) -> bool:
        """Whether anybody at a rung is not decided on yet."""
        return any(standing.verdict is None for standing in self._rungs[milestone].values())

    def _stop(self, milestone: int) -> list[tuple[int, str, Verdict]]:
        rung = self._rungs[milestone]
        values = [standing.value for standing in rung.values()]
        cutoff = float(np.percentile(values, (1 - 1 / self._asha.factor) * 100))
        turns = []
        for key, standing in sorted(rung.items(), key=lambda item: item[1].number):
            if standing.verdict is None:
                standing.verdict = Verdict("stop" if standing.value < cutoff else "continue", cutoff)
                turns.append((milestone, key, standing.verdict))
        return turns

    def _promote(self, milestone: int, at_least: int) -> list[tuple[int, str, Verdict]]:
        rung = self._rungs[milestone]
        count = max(len(rung) // self._asha.factor, at_least)
        best = sorted(rung.items(), key=lambda item: (-item[1].value, item[1].number))[:count]
        turns = []
        for key, standing in best:
            if standing.verdict is None:
                standing.verdict = Verdict("continue", best[-1][1].value)
                turns.append((milestone, key, standing.verdict))
        return turns
