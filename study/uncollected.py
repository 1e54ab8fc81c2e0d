"""Python's garbage collector, held back where it does harm."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is collected meanwhile; also as a decorator, `@uncollected()`.

    For what makes very many objects that all stay, as reading a ledger does: a third of its time went into looking
    through them, again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
