"""What every download needs that torchvision's own functions do not give it, and what every archive is checked by."""

from __future__ import annotations

import contextlib
import hashlib
import io
import socket
from collections.abc import Iterator
from pathlib import Path

from study.data.arrays import DataError

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


def require_md5(path: Path, md5: str, url: str) -> None:
    """Refuse an archive that is not the one at `url`: one that was cut short, or another version.

    Raises: DataError with both sums; if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make it readable") from error
    if found != md5:
        raise DataError(f"{path}: md5 is {found}, the official archive has {md5}; delete it and fetch {url}")
