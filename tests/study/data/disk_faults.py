"""A disk that fails while a cache of images is written."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest

CODES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EROFS: "make it a folder that you may write to",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EIO: "mend the disk",
}
"""What the system may say, and the mend."""
PLACES = ("mkdir", "mkstemp", "write", "fsync", "rename", "fsync of the folder")


def failing(patch: pytest.MonkeyPatch, place: str, code: int) -> None:
    """Let the operation `place` fail with the error `code`."""

    def fail(*args: Any, **options: Any) -> Any:
        raise OSError(code, os.strerror(code), "a\nfile")

    def fail_for_kind(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode) == (place == "fsync of the folder"):
            fail()

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:10])
            fail()
            return 0

    match place:
        case "mkdir":
            patch.setattr(Path, "mkdir", fail)
        case "mkstemp":
            patch.setattr(tempfile, "mkstemp", fail)
        case "write":
            patch.setattr(os, "fdopen", lambda file, mode: Full(file, mode))
        case "fsync" | "fsync of the folder":
            patch.setattr(os, "fsync", fail_for_kind)
        case "rename":
            patch.setattr(Path, "replace", fail)
