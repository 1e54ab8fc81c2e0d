"""One driver per study, with real processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from study.ledger import lock as lock_module
from study.ledger.lock import DriverLock, StudyLocked
from study.ledger.read import LedgerError

_OWNER = """
import sys, time
from pathlib import Path
from study.ledger.lock import DriverLock
with DriverLock(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


@contextmanager
def another_driver(folder: Path) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _OWNER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as owner:
        try:
            assert owner.stdout is not None
            assert owner.stdout.readline() == "mine\n"
            yield owner
        finally:
            owner.kill()


def test_the_loser_names_the_owner_and_a_killed_owners_lock_is_free(tmp_path: Path) -> None:
    with another_driver(tmp_path) as owner:
        with pytest.raises(StudyLocked) as caught, DriverLock(tmp_path):
            raise AssertionError("two drivers")
        text = str(caught.value)
        assert f"process {owner.pid} on {socket.gethostname()} (since 2" in text
        assert "\n" not in text
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
        with DriverLock(tmp_path):
            assert json.loads((tmp_path / "driver.json").read_text())["pid"] == os.getpid()
            assert stat.S_IMODE((tmp_path / "driver.json").stat().st_mode) == 0o600
            assert stat.S_IMODE((tmp_path / "driver.lock").stat().st_mode) == 0o600
    assert not (tmp_path / "driver.json").exists()


def test_a_dead_owners_name_is_not_given_for_the_living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_PATIENCE_S", 0.1)
    with another_driver(tmp_path):
        with subprocess.Popen([sys.executable, "-c", ""]) as dead:
            dead.wait()
        stale = {"host": socket.gethostname(), "pid": dead.pid, "since": "2026-01-01 00:00:00"}
        (tmp_path / "driver.json").write_text(json.dumps(stale))
        with pytest.raises(StudyLocked, match="another process runs this study"), DriverLock(tmp_path):
            raise AssertionError("two drivers")


def test_a_lock_is_let_go_if_its_owner_cannot_be_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(lock_module, "write_atomic", full)
        with pytest.raises(LedgerError, match="No space left on device"), DriverLock(tmp_path):
            raise AssertionError("entered")
    start = time.monotonic()
    with DriverLock(tmp_path):
        assert time.monotonic() - start < 0.5


def a_file(path: Path) -> Path:
    path.write_text("")
    return path


def linked(path: Path, target: str) -> Path:
    path.symlink_to(target)
    return path


def name_taken(path: Path, name: str) -> Path:
    (path / name).mkdir(parents=True)
    return path


def linked_lock(path: Path) -> Path:
    path.mkdir()
    (path / "driver.lock").symlink_to("nowhere/driver.lock")
    return path


ODD: dict[str, Callable[[Path], Path]] = {
    "below a device": lambda path: Path("/dev/null/x"),
    "below a file": lambda path: a_file(path) / "x",
    "a file": a_file,
    "a dangling link": lambda path: linked(path, "nowhere"),
    "a link to itself": lambda path: linked(path, path.name),
    "the lock is a folder": lambda path: name_taken(path, "driver.lock"),
    "the lock is a dangling link": linked_lock,
    "the owner is a folder": lambda path: name_taken(path, "driver.json"),
    "in no folder of the kernel's": lambda path: Path("/proc/x"),
    "a name that is too long": lambda path: path / ("x" * 300),
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_a_place_where_no_lock_can_be_is_one_line(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "study")
    with pytest.raises(LedgerError) as caught, DriverLock(folder):
        raise AssertionError("entered")
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert line.startswith(f"{folder}/driver.")
    assert f"make {folder} a folder that you may write to, or choose another --home" in line
    assert not (tmp_path / "nowhere").exists()


MENDS = {
    errno.EROFS: "a folder that you may write to, or choose another --home",
    errno.EACCES: "a folder that you may write to, or choose another --home",
    errno.ENOENT: "a folder that you may write to, or choose another --home",
    errno.ENOSPC: "make room, then resume",
    errno.EDQUOT: "make room, then resume",
    errno.EIO: "mend the disk, then resume",
}


@pytest.mark.parametrize("code", MENDS, ids=os.strerror)
@pytest.mark.parametrize("place", ["lock", "owner"])
def test_a_disk_that_refuses_is_one_line_with_its_mend(
    place: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code), "some file")

    name = {"lock": "driver.lock: cannot be locked", "owner": "driver.json: cannot be written"}[place]
    with monkeypatch.context() as patch:
        patch.setattr(
            *((lock_module.FileLock, "acquire") if place == "lock" else (lock_module, "write_atomic")), refuse
        )
        with pytest.raises(LedgerError) as caught, DriverLock(tmp_path):
            raise AssertionError("entered")
    assert str(caught.value).startswith(f"{tmp_path}/{name} ({os.strerror(code)}); ")
    assert str(caught.value).endswith(MENDS[code])
    with DriverLock(tmp_path):
        pass


def test_a_lock_is_let_go_though_its_owners_name_cannot_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patch, DriverLock(tmp_path):
        patch.setattr(Path, "unlink", refuse)
    with DriverLock(tmp_path):
        assert json.loads((tmp_path / "driver.json").read_text())["pid"] == os.getpid()
