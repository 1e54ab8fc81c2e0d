"""Who may train what: made-up workers that finish, crash and lose states in any order."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from study.stages.frontier import Frontier, Start

Chain = tuple[str, ...]


def a_chain(word: str) -> Chain:
    """The keys of a trial that trains the letters of `word`, one an epoch; trials share what their words begin with."""
    return tuple(word[:n] for n in range(len(word) + 1))


def a_frontier(*words: str) -> Frontier:
    frontier = Frontier()
    for number, word in enumerate(words):
        frontier.add(number, a_chain(word))
    return frontier


def train(frontier: Frontier, number: int, epochs: range, *, stands: bool = True) -> None:
    for done in epochs:
        frontier.reached(number, done + 1, stands=stands)


def test_strangers_start_at_once_the_longest_first() -> None:
    frontier = a_frontier("a", "bbb", "cc")
    assert [frontier.next() for _ in range(4)] == [Start(1, 0, None), Start(2, 0, None), Start(0, 0, None), None]
    assert (frontier.in_training, frontier.waiting) == (3, 0)


def test_a_branch_is_held_back_until_the_last_epoch_that_it_shares() -> None:
    frontier = a_frontier("aaaaaa", "aaab")
    assert frontier.next() == Start(0, 0, None)
    train(frontier, 0, range(2))
    assert frontier.next() is None
    assert frontier.waiting == 1
    train(frontier, 0, range(2, 3))
    assert frontier.next() == Start(1, 3, 0)


def test_a_twin_inherits_every_epoch() -> None:
    frontier = a_frontier("aaa", "aaa")
    assert frontier.next() == Start(0, 0, None)
    assert frontier.next() is None
    train(frontier, 0, range(3))
    frontier.release(0)
    assert frontier.next() == Start(1, 3, 0)
    assert frontier.next() is None


def test_who_waited_for_a_trial_that_let_go_trains_the_rest_itself() -> None:
    frontier = a_frontier("aaaa", "aaaab", "aaaac")
    first = frontier.next()
    assert first == Start(1, 0, None)
    assert frontier.next() is None
    train(frontier, 1, range(2))
    frontier.release(1)
    assert frontier.next() == Start(2, 2, 1)
    assert frontier.next() is None, "the other two need what trial 2 trains now"


def test_an_epoch_whose_state_was_not_stored_is_no_start() -> None:
    frontier = a_frontier("aaa", "aab")
    frontier.next()
    train(frontier, 0, range(1))
    train(frontier, 0, range(1, 2), stands=False)
    assert frontier.next() == Start(1, 1, 0)


def test_a_state_that_was_lost_is_trained_again() -> None:
    frontier = a_frontier("aa")
    frontier.stands("a", 7)
    assert frontier.prefix(0) == Start(0, 1, 7)
    frontier.lost("a")
    frontier.lost("never known")
    assert frontier.next() == Start(0, 0, None)


WORDS = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), min_size=1, max_size=8)


class Workers:
    """Trials on any number of workers, every state stored; checks each promise as it goes."""

    def __init__(self, words: list[str]) -> None:
        self.frontier = a_frontier(*words)
        self.chains = {number: a_chain(word) for number, word in enumerate(words)}
        self.waiting = set(self.chains)
        self.running: dict[int, int] = {}
        self.ended: set[int] = set()
        self.stored: dict[str, int] = {}
        self.trained: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()

    def prefix(self, number: int) -> int:
        return max((n for n, key in enumerate(self.chains[number]) if n and key in self.stored), default=0)

    def to_train(self) -> set[str]:
        """Keys that the running trials have before them."""
        return {key for number, done in self.running.items() for key in self.chains[number][done + 1 :]}

    def must_wait(self, number: int) -> bool:
        """Whether a waiting trial needs an epoch next that another has before it."""
        return any(key in self.to_train() for key in self.chains[number][self.prefix(number) + 1 :])

    def start(self) -> bool:
        start = self.frontier.next()
        if start is None:
            assert all(self.must_wait(number) for number in self.waiting), "a worker idles though a trial could start"
            assert self.running or not self.waiting, "a deadlock"
            return False
        number, epochs = start.number, start.epochs
        assert number in self.waiting
        assert epochs == self.prefix(number)
        assert start.from_trial == (self.stored[self.chains[number][epochs]] if epochs else None)
        assert not self.must_wait(number), "two trials train one key"
        self.waiting.remove(number)
        self.running[number] = epochs
        return True

    def advance(self, number: int) -> None:
        """A running trial does its next epoch, or ends."""
        done = self.running[number]
        if done < len(self.chains[number]) - 1:
            key = self.chains[number][done + 1]
            self.trained[key] += 1
            assert self.trained[key] <= 1 + self.lost[key], "a key is trained twice"
            self.stored[key] = number
            self.running[number] = done + 1
            self.frontier.reached(number, done + 1, stands=True)
        else:
            del self.running[number]
            self.ended.add(number)
            self.frontier.release(number)
            self.frontier.drop(number)

    def crash(self, number: int) -> None:
        del self.running[number]
        self.waiting.add(number)
        self.frontier.release(number)
        self.frontier.add(number, self.chains[number])

    def lose(self, key: str) -> None:
        del self.stored[key]
        self.lost.update({key})
        self.frontier.lost(key)

    def check_counts(self) -> None:
        assert self.frontier.in_training == len(self.running)
        assert self.frontier.waiting == len(self.waiting)

    def finish(self) -> None:
        while self.running or self.waiting:
            while self.start():
                pass
            self.advance(min(self.running))
        assert self.ended == set(self.chains)
        assert self.frontier.next() is None


@settings(deadline=None, derandomize=True, max_examples=120)
@given(WORDS, st.data())
def test_nothing_is_trained_twice_or_waited_for_in_vain(words: list[str], data: st.DataObject) -> None:
    workers = Workers(words)
    for _ in range(data.draw(st.integers(0, 60))):
        running = sorted(workers.running)
        action = data.draw(st.sampled_from(["start", "advance", "advance", "crash"]))
        if action == "start":
            workers.start()
        elif running:
            number = data.draw(st.sampled_from(running))
            workers.advance(number) if action == "advance" else workers.crash(number)
        workers.check_counts()
    workers.finish()
    assert set(workers.trained) == {key for chain in workers.chains.values() for key in chain[1:]}
    assert set(workers.trained.values()) <= {1}


@settings(deadline=None, derandomize=True, max_examples=80)
@given(WORDS, st.data())
def test_states_that_get_lost_are_trained_again_and_every_trial_ends(words: list[str], data: st.DataObject) -> None:
    workers = Workers(words)
    for _ in range(data.draw(st.integers(0, 60))):
        running, stored = sorted(workers.running), sorted(workers.stored)
        action = data.draw(st.sampled_from(["start", "start", "advance", "advance", "crash", "lose"]))
        if action == "start":
            workers.start()
        elif action == "lose" and stored:
            workers.lose(data.draw(st.sampled_from(stored)))
        elif running:
            number = data.draw(st.sampled_from(running))
            workers.crash(number) if action == "crash" else workers.advance(number)
        workers.check_counts()
    workers.finish()
