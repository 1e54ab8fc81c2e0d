"""Starting a Ray of our own, with a made-up ray.init; the real one runs in tests/end_to_end."""

from __future__ import annotations

import errno
import gc
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search_spaces.load import ConfigError
from study.tuning import ray_local
from study.tuning.ray_local import local_ray

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


def a_process(folder: str) -> subprocess.Popen[bytes]:
    """A child that names `folder`, once the system shows its words: right after the start it may not yet."""
    process = subprocess.Popen([*SLEEP, folder])
    while folder.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.01)
    return process


@pytest.fixture
def ray_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    def set_init(init: Callable[..., None]) -> None:
        monkeypatch.setattr(ray_local, "ray", SimpleNamespace(init=init, shutdown=lambda: None))

    return set_init


def test_a_start_that_fails_is_tried_again_without_its_processes(ray_is: Callable[..., None]) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def init(_temp_dir: str, **others: Any) -> None:
        started.append(a_process(_temp_dir))
        if len(started) < 3:
            raise Exception("The current node timed out during startup.")

    ray_is(init)
    with local_ray(1, 0):
        assert [process.wait(5) for process in started[:2]] == [-signal.SIGKILL] * 2
        assert started[2].poll() is None
    started[2].kill()
    started[2].wait()


def test_no_garbage_is_collected_while_ray_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    enabled: list[bool] = []
    monkeypatch.setattr(ray_local, "ray", SimpleNamespace(shutdown=lambda: enabled.append(gc.isenabled())))
    ray_local.end_ray()
    assert (enabled, gc.isenabled()) == ([False], True)


def test_a_ray_that_never_starts_is_one_line_and_leaves_no_folder(ray_is: Callable[..., None]) -> None:
    folders = []

    def init(_temp_dir: str, **others: Any) -> None:
        folders.append(Path(_temp_dir))
        raise Exception("The current node timed out\nduring startup.")

    ray_is(init)
    with pytest.raises(ConfigError, match=r"^Ray did not start \(The current node timed out during startup.\); is"):
        local_ray(1, 0).__enter__()
    assert len(folders) == 3
    assert not folders[0].exists()


def test_sigterm_is_heard_by_our_handler_and_never_by_rays_processes(ray_is: Callable[..., None]) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    started: list[subprocess.Popen[bytes]] = []

    def init(_temp_dir: str, **others: Any) -> None:
        started.append(a_process(_temp_dir))
        ray_local.ray_utils.set_sigterm_handler(signal.SIG_DFL)  # as ray.init does
        os.kill(os.getpid(), signal.SIGTERM)

    ray_is(init)
    try:
        with local_ray(1, 0):
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == [signal.SIGTERM] * 2
            started[0].terminate()
            time.sleep(0.1)
            assert started[0].poll() is None
    finally:
        signal.signal(signal.SIGTERM, before)
        started[0].kill()
        started[0].wait()


def test_what_is_exported_opens_our_ray_to_nobody(ray_is: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    exported = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "RAY_AUTH_MODE": "disabled"}
    monkeypatch.setattr(ray_local.ray_constants, "ENABLE_RAY_CLUSTER", True)
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    seen: list[tuple[str | None, str | None, bool]] = []

    def init(**options: Any) -> None:
        word, mode = (os.environ.get(name) for name in exported)
        seen.append((word, mode, ray_local.ray_constants.ENABLE_RAY_CLUSTER))
        os.environ["RAY_AUTH_MODE"] = "token"  # as ray.init does where nothing is set

    ray_is(init)
    with local_ray(1, 0):
        assert os.environ["RAY_AUTH_MODE"] == "token", "Ray's workers inherit it"
    assert seen == [("0", None, False)]
    assert {name: os.environ.get(name) for name in exported} == exported
    assert ray_local.ray_constants.ENABLE_RAY_CLUSTER


def test_nobody_else_gets_into_the_folder_that_ray_opens_to_everybody(ray_is: Callable[..., None]) -> None:
    folders = []

    def init(_temp_dir: str, **others: Any) -> None:
        folders.append(Path(_temp_dir))
        folders[0].mkdir()
        folders[0].chmod(0o777)  # as Ray does

    ray_is(init)
    with local_ray(1, 0):
        assert stat.S_IMODE(folders[0].parent.stat().st_mode) == 0o700
        assert folders[0].parent.name.startswith("study-ray-")
    assert not folders[0].parent.exists()


@pytest.mark.parametrize("pid", [7, 4_194_304])
def test_rays_socket_paths_are_never_longer_than_the_system_takes(monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    monkeypatch.setattr(os, "getpid", lambda: pid)
    places = [f"/{'é' * length}{'x' * odd}" for length in range(1, 60) for odd in (0, 1)]
    chosen = []
    for place in places:
        monkeypatch.setattr("tempfile.tempdir", place)
        chosen.append(ray_local._short_temp())
        ray_local.ray_utils.validate_socket_filepath(ray_local._socket_path(chosen[-1]))
    last = next(place for place, kept in zip(places, chosen, strict=True) if kept == "/tmp")
    with pytest.raises(OSError, match="cannot exceed"):
        ray_local.ray_utils.validate_socket_filepath(ray_local._socket_path(last))
    assert chosen[0] == places[0]


def test_a_full_folder_for_temporary_files_is_one_line(
    ray_is: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**options: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ray_is(lambda **options: None)
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(ConfigError, match=r"^/tmp: Ray's files cannot be kept there \(No space left on device\); "):
        local_ray(1, 0).__enter__()


def test_no_folder_for_temporary_files_at_all_is_one_line(
    ray_is: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray_is(lambda **options: None)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/nowhere/at/all"])
    with pytest.raises(
        ConfigError, match=r"^No usable temporary directory found in \['/nowhere/at/all'\]: Ray's files"
    ):
        local_ray(1, 0).__enter__()


def test_a_folder_that_another_driver_removes_first_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stale = (tmp_path / f"study-ray-{2**31 - 1}-{word}" for word in ("gone", "stale"))
    stale.mkdir()
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([gone, stale]))
    ray_local._remove_stale(tmp_path)
    assert not stale.exists()


PROGRAM = """
import subprocess, sys, time
from types import SimpleNamespace
from study.tuning import ray_local

def init(_temp_dir, **others):
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)", _temp_dir])
    print(child.pid, flush=True)

ray_local.ray = SimpleNamespace(init=init, shutdown=lambda: None)
with ray_local.local_ray(1, 0):
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_driver_leaves_none_of_rays_processes() -> None:
    driver = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    child = int(driver.stdout.readline())
    assert driver.stdout.readline() == "up\n"
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 30
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


COLLECTED = """
import gc
import ray
from ray._private import worker
from study.tuning.ray_local import end_ray, local_ray

class Cycle:
    pass

class CollectsAtTheEnd:
    def __init__(self, real):
        self._real = real

    def __getattr__(self, name):
        return getattr(self._real, name)

    def shutdown_driver(self):
        self._real.shutdown_driver()
        gc.collect()  # as any allocation may

with local_ray(1, 0):
    gc.disable()
    cycle = Cycle()
    cycle.itself, cycle.reference = cycle, ray.put(1)
    del cycle
    worker.global_worker.core_worker = CollectsAtTheEnd(worker.global_worker.core_worker)
print("goes on")
"""


@pytest.mark.slow
def test_an_object_that_is_collected_while_ray_ends_does_not_end_us() -> None:
    result = subprocess.run([sys.executable, "-c", COLLECTED], capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode, result.stdout) == (0, "goes on\n"), result.stderr


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False
