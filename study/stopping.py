"""The signals that end a study."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, FrameType | None], Any] | int | None


def on_stop(handler: Callable[[int, FrameType | None], None]) -> dict[int, Handler]:
    """Let Ctrl-C, SIGTERM and the end of the terminal call `handler`. Returns what did before, for signal.signal.

    Under nohup the end of the terminal goes on meaning nothing.
    """
    before: dict[int, Handler] = {number: signal.getsignal(number) for number in _STOPPING}
    for number, old in before.items():
        if number != signal.SIGHUP or old != signal.SIG_IGN:
            signal.signal(number, handler)
    return before
