"""What is freed and what is kept, with the frontier deciding who starts, as the driver has them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.stages.frontier import Frontier
from study.stages.shelf import NoStore, Shelf

Chain = tuple[str, ...]


class Shelves:
    """A store in memory."""

    def __init__(self, *keys: str) -> None:
        self.standing = set(keys)
        self.freed: list[str] = []

    def keys(self) -> set[str]:
        return set(self.standing)

    def tidy(self) -> None:
        pass

    def keep_weights(self, key: str, number: int) -> None:
        raise AssertionError((key, number))

    def free(self, key: str) -> None:
        self.standing.discard(key)
        self.freed.append(key)


def a_chain(word: str) -> Chain:
    return tuple(word[:n] for n in range(len(word) + 1))


def a_shelf(*words: str) -> tuple[Shelf, Shelves]:
    """Trials that wait, one a word."""
    store = Shelves()
    shelf = Shelf(store)
    for number, word in enumerate(words):
        shelf.expect(number, a_chain(word))
        shelf.await_start(number)
    return shelf, store


def advance(shelf: Shelf, store: Shelves, number: int, word: str, epochs: range) -> list[list[str]]:
    freed = []
    for done in epochs:
        store.standing.add(word[: done + 1])
        freed.append(shelf.advance(number, done + 1))
    return freed


def test_a_trial_alone_keeps_its_latest_state() -> None:
    shelf, store = a_shelf("abc")
    shelf.started(0, 0)
    assert advance(shelf, store, 0, "abc", range(3)) == [[], ["a"], ["ab"]]
    assert store.standing == {"abc"}
    assert shelf.ended(0) == ["abc"]
    assert store.standing == set()


def test_a_state_stays_while_a_trial_waits_to_start_from_it() -> None:
    shelf, store = a_shelf("abc", "abx")
    shelf.started(0, 0)
    assert advance(shelf, store, 0, "abc", range(3)) == [[], ["a"], []]
    assert shelf.ended(0) == ["abc"]
    assert store.standing == {"ab"}
    shelf.started(1, 2)
    assert store.standing == {"ab"}, "a trial that crashes in its first epoch starts from here again"
    assert advance(shelf, store, 1, "abx", range(2, 3)) == [["ab"]]
    assert shelf.ended(1) == ["abx"]
    assert store.standing == set()


def test_a_paused_trial_keeps_its_state() -> None:
    shelf, store = a_shelf("abc")
    shelf.started(0, 0)
    advance(shelf, store, 0, "abc", range(2))
    shelf.hold(0, 2)
    other = 1
    shelf.expect(other, a_chain("abd"))
    shelf.await_start(other)
    assert shelf.ended(other) == []
    assert store.standing == {"ab"}
    assert shelf.ended(0) == ["ab"]


def test_what_is_to_be_kept_is_kept() -> None:
    shelf, store = a_shelf("ab")
    shelf.keep = {"a", "ab"}
    shelf.started(0, 0)
    assert advance(shelf, store, 0, "ab", range(2)) == [[], []]
    assert shelf.ended(0) == []
    assert store.standing == {"a", "ab"}


def test_a_damaged_state_is_deleted_at_once() -> None:
    shelf, store = a_shelf("ab", "ac")
    shelf.started(0, 0)
    advance(shelf, store, 0, "ab", range(1))
    shelf.forget("a")
    assert store.freed == ["a"]
    shelf.await_start(0)
    shelf.started(0, 0)
    assert advance(shelf, store, 0, "ab", range(2)) == [[], []], "the other trial waits for the state trained anew"
    assert store.standing == {"a", "ab"}


def test_states_of_an_earlier_driver_are_freed_with_the_trials_that_pass_them() -> None:
    store = Shelves("a", "ab")
    shelf = Shelf(store)
    assert shelf.stored() == {"a", "ab"}
    shelf.expect(0, a_chain("abc"))
    shelf.await_start(0)
    shelf.started(0, 2)
    assert sorted(shelf.ended(0)) == ["a", "ab"]


def test_without_a_store_nothing_stands() -> None:
    shelf = Shelf(NoStore())
    assert shelf.stored() == set()
    shelf.forget("a")


class Study:
    """Trials whose epochs are all stored, on any number of workers, with pauses and crashes."""

    def __init__(self, words: list[str]) -> None:
        self.chains = {number: a_chain(word) for number, word in enumerate(words)}
        self.shelf, self.store = a_shelf(*words)
        self.frontier = Frontier()
        for number, chain in self.chains.items():
            self.frontier.add(number, chain)
        self.waiting = set(self.chains)
        self.running: dict[int, int] = {}
        self.paused: dict[int, int] = {}
        self.largest = 0

    def needed(self) -> set[str]:
        """The states that some trial would start from now, were it to start or to crash."""
        done = self.running | self.paused
        keys = {self.chains[number][epochs] for number, epochs in done.items() if epochs}
        for number in self.waiting:
            keys |= {key for key in self.chains[number] if key in self.store.standing and self.is_longest(number, key)}
        return keys

    def is_longest(self, number: int, key: str) -> bool:
        return not any(longer in self.store.standing for longer in self.chains[number][len(key) + 1 :])

    def freed(self, keys: list[str], needed: set[str]) -> None:
        assert not set(keys) & needed, "a state that is needed was freed"
        assert not set(keys) & self.store.standing
        for key in keys:
            self.frontier.lost(key)

    def start(self) -> None:
        start = self.frontier.next()
        if start is not None:
            assert start.epochs == 0 or self.chains[start.number][start.epochs] in self.store.standing
            self.waiting.remove(start.number)
            self.running[start.number] = start.epochs
            self.shelf.started(start.number, start.epochs)

    def advance(self, number: int) -> None:
        done = self.running[number] + 1
        if done == len(self.chains[number]):
            self.end(number)
            return
        self.running[number] = done
        self.store.standing.add(self.chains[number][done])
        self.frontier.reached(number, done, stands=True)
        needed = self.needed()
        self.freed(self.shelf.advance(number, done), needed)

    def end(self, number: int) -> None:
        if self.running.pop(number, None) is not None:
            self.frontier.release(number)
        else:
            del self.paused[number]
        self.frontier.drop(number)
        needed = self.needed()
        self.freed(self.shelf.ended(number), needed)

    def let_go(self, number: int, *, pause: bool) -> None:
        epochs = self.running.pop(number)
        self.frontier.release(number)
        if pause and epochs:
            self.paused[number] = epochs
            self.shelf.hold(number, epochs)
        else:
            self.wait(number)

    def wait(self, number: int) -> None:
        self.waiting.add(number)
        self.shelf.await_start(number)
        self.frontier.add(number, self.chains[number])

    def resume(self, number: int) -> None:
        del self.paused[number]
        self.wait(number)

    def finish(self) -> None:
        for number in sorted(self.paused):
            self.resume(number)
        while self.waiting or self.running:
            self.start()
            self.advance(min(self.running))
        assert self.store.standing == set()


WORDS = st.lists(st.text(alphabet="ab", min_size=1, max_size=6), min_size=1, max_size=7)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(WORDS, st.data())
def test_what_is_needed_stays_and_the_rest_goes(words: list[str], data: st.DataObject) -> None:
    study = Study(words)
    for _ in range(data.draw(st.integers(0, 50))):
        running, paused = sorted(study.running), sorted(study.paused)
        action = data.draw(
            st.sampled_from(["start", "start", "advance", "advance", "advance", "crash", "pause", "end"])
        )
        if action == "start":
            if paused and data.draw(st.booleans()):
                study.resume(data.draw(st.sampled_from(paused)))
            study.start()
        elif action == "end" and running + paused:
            study.end(data.draw(st.sampled_from(running + paused)))
        elif running:
            number = data.draw(st.sampled_from(running))
            study.advance(number) if action == "advance" else study.let_go(number, pause=action == "pause")
        assert study.needed() <= study.store.standing
        there = study.waiting | study.running.keys() | study.paused.keys()
        passed = {key for number in there for key in study.chains[number]}
        assert study.store.standing <= passed, "a state that nobody can need stays"
    study.finish()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_many_branches_of_one_trunk_need_few_states(workers: int) -> None:
    words = ["a" * 12, *("a" * n + "b" * (12 - n) for n in range(2, 12, 3))]
    study = Study(words)
    largest = 0
    while study.waiting or study.running:
        while len(study.running) < workers and len(study.waiting) > 0:
            before = len(study.running)
            study.start()
            if len(study.running) == before:
                break
        for number in list(study.running):
            study.advance(number)
        largest = max(largest, len(study.store.standing))
    assert largest <= workers + 4 + 1, "a state a worker, a branch point each, and the one being replaced"
    assert study.store.standing == set()
