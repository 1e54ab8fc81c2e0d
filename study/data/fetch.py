"""What every download needs that torchvision's own functions do not give it."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterator

_TIMEOUT_S = 10.0


@contextlib.contextmanager
def fetching() -> Iterator[None]:
    """No progress bar, and a timeout: torchvision sets none, and a silent network would hold a trial for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
