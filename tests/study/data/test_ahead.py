from collections.abc import Iterator

import pytest

from study.data.ahead import ahead


def items(made: list[int], count: int = 3) -> Iterator[int]:
    for item in range(count):
        made.append(item)
        yield item
    if count == 2:
        raise ValueError("no third")


def test_items_come_in_order_and_errors_where_they_arise() -> None:
    assert list(ahead(items([]))) == [0, 1, 2]
    assert list(ahead(iter([]))) == []
    coming = ahead(items([], 2))
    assert (next(coming), next(coming)) == (0, 1)
    with pytest.raises(ValueError, match="no third"):
        next(coming)


def test_stopping_early_leaves_nothing_running() -> None:
    made: list[int] = []
    coming = ahead(items(made, 1000))
    assert next(coming) == 0
    coming.close()  # type: ignore[attr-defined]
    assert len(made) <= 3
