"""ASHA's part in a search: who waits at which rung, and whose turn it is. Pure: the driver writes and acts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from search_spaces.study_config import Asha, Search
from study.records import RungEvent
from study.tuning.rungs import Rungs, SynchronousRungs, Verdict


class Turn(NamedTuple):
    """A trial that waited at a rung and is now decided on: it goes on, or it stops."""

    number: int
    verdict: Verdict


class Halving:
    """The rungs of a search, and the trials that wait at them. Without ASHA it decides nothing.

    milestones: epochs_done at which rungs stand.
    """

    def __init__(self, search: Search | None, epochs: int) -> None:
        self._rungs: Rungs | SynchronousRungs | None = None
        self._waiting: dict[str, list[int]] = {}
        if search is not None and isinstance(search.scheduler, Asha):
            kind = SynchronousRungs if search.determinism == "strict" else Rungs
            self._rungs = kind(search.scheduler, epochs)
        self.milestones = () if self._rungs is None else self._rungs.milestones

    @property
    def waiting(self) -> Sequence[int]:
        """Numbers of the trials that wait at a rung."""
        return [number for numbers in self._waiting.values() for number in numbers]

    def judge(self, number: int, key: str, epochs: int, value: float) -> Verdict | None:
        """The word on a trial that reached `epochs` with `value`; None where no rung stands."""
        return None if self._rungs is None else self._rungs.judge(key, epochs, value, number)

    def restore(self, number: int, key: str, rung: RungEvent) -> None:
        """Put back a decision that the ledger holds."""
        if self._rungs is not None:
            decision = "continue" if rung.decision == "resume" else rung.decision
            self._rungs.restore(key, rung.epochs_done, rung.value, Verdict(decision, rung.cutoff), number)

    def wait(self, number: int, key: str) -> None:
        """Trial `number` waits at the rung where its state `key` stands."""
        self._waiting.setdefault(key, []).append(number)

    def undecided(self, epochs: int) -> bool:
        """Whether a strict search has yet to decide on anybody at the rung of `epochs` epochs."""
        return isinstance(self._rungs, SynchronousRungs) and self._rungs.undecided(epochs)

    def turns(self, *, last: bool = False) -> list[Turn]:
        """The trials whose turn has come, which wait no longer. last: nothing more will come."""
        while self._rungs is not None and (decisions := self._rungs.decide(last=last)):
            turns = [Turn(number, verdict) for _, key, verdict in decisions for number in self._waiting.pop(key, ())]
            if turns:
                return turns
        return []

    def give_up(self) -> list[int]:
        """The trials whose turn never came, which wait no longer."""
        numbers = list(self.waiting)
        self._waiting.clear()
        return numbers


def stopped_words(rung: RungEvent) -> str:
    """Why a trial that was stopped at a rung ended."""
    assert rung.cutoff is not None
    return f"ASHA stopped it at epoch {rung.epochs_done}: {rung.value:.4f} is below {rung.cutoff:.4f}"
