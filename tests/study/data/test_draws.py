import torch

from study.data.draws import generator


def first(*words: str | int, seed: int = 0) -> float:
    return torch.rand(1, generator=generator(seed, *words)).item()


def test_a_stream_gives_the_same_numbers_each_time_it_is_asked_for() -> None:
    assert first("order", 3) == first("order", 3)


def test_streams_differ_by_seed_by_name_and_by_number() -> None:
    assert len({first("order", 0), first("order", 1), first("augment", 0), first("order", 0, seed=1)}) == 4


def test_words_are_kept_apart() -> None:
    assert first("ab", "c") != first("a", "bc")
    assert first("1") != first(1)


def test_the_key_is_the_same_in_every_process() -> None:
    # A worked value: Python's own hash() of a string would change with the process.
    assert generator(0, "order", 0).initial_seed() == 3870804397837368169
