"""Which states of the store are still needed. Pure but for one call that deletes a state nobody needs."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

_LINGERING = 16


class Store(Protocol):
    """Where states are kept, by key."""

    def keys(self) -> set[str]:
        """Keys of the states that stand."""
        ...

    def free(self, key: str) -> None:
        """Delete a state."""
        ...

    def tidy(self) -> None:
        """Delete what writers that died left half written."""
        ...

    def keep_weights(self, key: str, number: int) -> None:
        """Keep a state for good, as the final weights of trial `number`."""
        ...


class NoStore:
    """Keeps nothing: every trial trains from its first epoch."""

    def keys(self) -> set[str]:
        """No state stands."""
        return set()

    def free(self, key: str) -> None:
        """Nothing to delete."""

    def tidy(self) -> None:
        """Nothing to delete."""

    def keep_weights(self, key: str, number: int) -> None:
        """Nothing to keep."""


class Shelf:
    """Frees what no trial needs: neither a trial that has not started, nor one in training or paused as its latest.

    keep: keys that stay whatever happens (another study's branch points, final weights).
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chains: dict[int, tuple[str, ...]] = {}
        self._passing: Counter[str] = Counter()
        self._awaiting: set[int] = set()
        self._latest: dict[int, str] = {}
        self._latest_of: Counter[str] = Counter()
        self._stored: dict[str, str | None] = {}
        self._lingering: dict[str, None] = {}
        self.keep: set[str] = set()

    def stored(self) -> set[str]:
        """Keys of the states that stand when a driver takes a study up."""
        self._store.tidy()
        keys = self._store.keys()
        for key in keys:
            self._stored.setdefault(key, None)
        return keys

    def expect(self, number: int, chain: tuple[str, ...]) -> None:
        """Trial `number` exists; chain[n] names its state after n epochs."""
        self._chains[number] = chain

    def await_start(self, number: int) -> None:
        """Trial `number` waits to start, so the longest prefix of it that stands is needed."""
        if number not in self._awaiting:
            self._awaiting.add(number)
            self._passing.update(self._chains[number])

    def started(self, number: int, epochs: int) -> None:
        """Trial `number` started from its state after `epochs` epochs."""
        if number in self._awaiting:
            self._pass_no_more(number)
        if epochs:
            self._set_latest(number, self._chains[number][epochs])

    def hold(self, number: int, epochs: int) -> None:
        """Trial `number` is paused at its state after `epochs` epochs."""
        self._set_latest(number, self._chains[number][epochs])

    def advance(self, number: int, epochs: int) -> list[str]:
        """Trial `number` in training stored its state after `epochs` epochs; the keys that this freed."""
        key = self._chains[number][epochs]
        before = self._latest.get(number)
        self._stored.setdefault(key, None)
        self._set_latest(number, key)
        if before is None or before == key:
            return []
        self._stored[before] = key
        return self._free_unneeded([before])

    def ended(self, number: int) -> list[str]:
        """Trial `number` ended; the keys that this freed."""
        if number in self._awaiting:
            self._pass_no_more(number)
        self._set_latest(number, None)
        return self._free_unneeded(list(self._chains.pop(number)))

    def branch_points(self, number: int) -> list[int]:
        """epochs_done at which a waiting trial parts from trial `number` in training, whose states there are needed."""
        chain = self._chains[number]
        after = [*chain[1:], ""]
        return [n for n, key in enumerate(chain) if n > 0 and self._passing[key] > self._passing[after[n]]]

    def linger(self, key: str) -> list[str]:
        """Keep the state `key` a while for trials that nobody has proposed yet; the keys that gave way to it."""
        self._lingering[key] = None
        gone = list(self._lingering)[:-_LINGERING]
        for old in gone:
            del self._lingering[old]
        return self._free_unneeded(gone)

    def sweep(self) -> list[str]:
        """Free what an earlier driver left behind and nobody needs; the keys that this freed."""
        return self._free_unneeded(list(self._stored))

    def keep_weights(self, number: int) -> None:
        """Keep the final state of trial `number` for good."""
        self._store.keep_weights(self._chains[number][-1], number)

    def forget(self, key: str) -> None:
        """The state `key` is of no use (damaged, or without its results): delete it."""
        self._stored.pop(key, None)
        self._store.free(key)

    def _pass_no_more(self, number: int) -> None:
        self._awaiting.discard(number)
        for key in self._chains[number]:
            _count_down(self._passing, key)

    def _set_latest(self, number: int, key: str | None) -> None:
        before = self._latest.pop(number, None)
        if before is not None:
            _count_down(self._latest_of, before)
        if key is not None:
            self._latest[number] = key
            self._latest_of[key] += 1

    def _free_unneeded(self, keys: list[str]) -> list[str]:
        freed = []
        for key in keys:
            if key not in self._stored or key in self.keep or key in self._lingering or self._latest_of[key] > 0:
                continue
            deeper = self._stored[key]
            needed_by = self._passing[key] - (self._passing[deeper] if deeper in self._stored else 0)
            if needed_by <= 0:
                del self._stored[key]
                self._store.free(key)
                freed.append(key)
        return freed


def _count_down(counts: Counter[str], key: str) -> None:
    """One less; no entry for none, of which a long study would have millions."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
