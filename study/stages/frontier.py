"""Who may train what now, so that no stage is trained twice. Pure: it knows keys and epochs, not weights or Ray."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Start:
    """A trial may start from the state after `epochs` epochs, which trial `from_trial` trained (None: from scratch)."""

    number: int
    epochs: int
    from_trial: int | None


@dataclass
class _Claim:
    """A trial in training: the epochs it has done and those it will train."""

    done: int
    blocked: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))


class Frontier:
    """Trials that wait, trials in training, and the states that stand in the store.

    A waiting trial is held back while another trains the epoch that it would train next; it becomes ready when that
    trial reaches the last epoch they share, or lets go.
    """

    def __init__(self) -> None:
        self._chains: dict[int, tuple[str, ...]] = {}
        self._stands: dict[str, int] = {}
        self._claimed: dict[str, int] = {}
        self._claims: dict[int, _Claim] = {}
        self._ready: list[tuple[int, int, int]] = []
        self._held: set[int] = set()
        self._order = itertools.count()

    def add(self, number: int, chain: tuple[str, ...]) -> None:
        """Trial `number` waits; chain[n] names its state after n epochs."""
        self._chains[number] = chain
        self._push(number)

    def stands(self, key: str, number: int) -> None:
        """The state `key`, trained by trial `number`, can be started from."""
        self._stands[key] = number

    def lost(self, key: str) -> None:
        """The state `key` can no longer be started from (freed, or found damaged)."""
        self._stands.pop(key, None)

    def prefix(self, number: int) -> Start:
        """The longest prefix of trial `number` that stands."""
        chain = self._chains[number]
        for epochs in range(len(chain) - 1, 0, -1):
            if chain[epochs] in self._stands:
                return Start(number, epochs, self._stands[chain[epochs]])
        return Start(number, 0, None)

    def next(self) -> Start | None:
        """The waiting trial to start now, longest remaining first; it counts as in training from here on."""
        while self._ready:
            _, _, number = heapq.heappop(self._ready)
            start = self.prefix(number)
            chain = self._chains[number]
            shared = max((n for n in range(start.epochs + 1, len(chain)) if chain[n] in self._claimed), default=None)
            if shared is None:
                self._claims[number] = _Claim(start.epochs)
                for key in chain[start.epochs + 1 :]:
                    self._claimed[key] = number
                return start
            self._claims[self._claimed[chain[shared]]].blocked[shared].append(number)
            self._held.add(number)
        return None

    def reached(self, number: int, epochs: int, *, stands: bool) -> None:
        """Trial `number` in training has done `epochs` epochs; `stands`: that state is in the store."""
        claim, key = self._claims[number], self._chains[number][epochs]
        claim.done = epochs
        if stands:
            self._stands[key] = number
        if self._claimed.get(key) == number:
            del self._claimed[key]
        for waiting in claim.blocked.pop(epochs, ()):
            self._held.discard(waiting)
            self._push(waiting)

    def release(self, number: int) -> None:
        """Trial `number` is no longer in training; what it held back looks for another way."""
        claim = self._claims.pop(number)
        for key in self._chains[number][claim.done + 1 :]:
            if self._claimed.get(key) == number:
                del self._claimed[key]
        for waiting in itertools.chain.from_iterable(claim.blocked.values()):
            self._held.discard(waiting)
            self._push(waiting)

    def drop(self, number: int) -> None:
        """Trial `number` will not be asked for again."""
        self._chains.pop(number, None)

    @property
    def in_training(self) -> int:
        return len(self._claims)

    @property
    def waiting(self) -> int:
        """Trials that are ready or held back."""
        return len(self._ready) + len(self._held)

    def _push(self, number: int) -> None:
        remaining = len(self._chains[number]) - 1 - self.prefix(number).epochs
        heapq.heappush(self._ready, (-remaining, next(self._order), number))
