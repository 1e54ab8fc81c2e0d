"""A Ray of our own on this machine, for one study."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import ray
from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray._private import worker as ray_worker

from search_spaces.load import ConfigError
from study.ledger.lock import lives
from study.uncollected import uncollected
from study.words import in_one_line

OBJECT_STORE_BYTES = 200_000_000
_PREFIX = "study-ray-"
_INSIDE = "r"  # Ray opens the folder that it is given to everybody, whatever the umask; the one around it stays closed
_TRIES = 3
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107  # what the system takes


@contextlib.contextmanager
def local_ray(cpus: int, gpus: int) -> Iterator[None]:
    """A Ray on loopback only, deaf to SIGTERM and SIGINT; its files go with it. Raises: ConfigError if it fails."""
    place = _short_temp()
    _remove_stale(Path(place))
    folder = _own_folder(place)
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_out_of_reach())
            with _deaf_children():
                _start(folder, cpus, gpus)
                _let_shutdown_kill(folder)
                stack.enter_context(_heirs_ended(folder))
            yield
    finally:
        end_ray()
        shutil.rmtree(folder, ignore_errors=True)


def end_ray() -> None:
    """ray.shutdown, while no garbage is collected.

    An object reference that is collected after Ray's C++ part has ended, and before its Python part knows, makes Ray
    end this process: exit code 1, without a word, and the study's report would never be written.
    """
    gc.collect()
    with uncollected():
        ray.shutdown()


@contextlib.contextmanager
def _out_of_reach() -> Iterator[None]:
    """Meanwhile Ray keeps to loopback and asks for its token, whatever is exported: who reaches it runs code here.

    Its processes inherit the environment; in this one Ray has read the first of these at its import. Where nothing
    says how it authenticates it takes the token, and has its C++ part read that anew.
    """
    names = (ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "RAY_AUTH_MODE")
    before = {name: os.environ.pop(name, None) for name in names}
    was_enabled = ray_constants.ENABLE_RAY_CLUSTER
    os.environ[names[0]], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = was_enabled
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _start(folder: str, cpus: int, gpus: int) -> None:
    """Start Ray; on a busy machine its processes may need more than the 30 s that it gives them, so more than once."""
    for left in reversed(range(_TRIES)):
        try:
            ray.init(
                address="local",  # whatever RAY_ADDRESS says
                num_cpus=cpus,
                num_gpus=gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=f"{folder}/{_INSIDE}",
                _node_ip_address="127.0.0.1",
            )
            return
        except Exception as error:  # Ray has no type of its own for it
            _kill(folder)
            if left == 0:
                text = in_one_line(error, 200)
                raise ConfigError(
                    f"Ray did not start ({text}); is the machine busy, or {folder} full? mend that, then resume"
                ) from error


def _let_shutdown_kill(folder: str) -> None:
    """ray.shutdown kills at once what it would ask to end, one after the other, a second each: all are deaf to that."""
    node = ray_worker._global_node
    if node is not None:
        node.kill_all_processes = lambda **how: _kill(folder)


def _kill(folder: str) -> None:
    """End Ray's processes with its files in `folder`, workers too."""
    for process in _processes(folder):
        with contextlib.suppress(psutil.Error):
            process.kill()


def _processes(folder: str) -> list[psutil.Process]:
    """Ray's processes that we started with its files in `folder`."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(folder in word for word in child.cmdline()):
                found += [child, *child.children(recursive=True)]
    return found


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started meanwhile never hear SIGTERM, and our own handler for it stays.

    A scheduler, systemd or `timeout` signals a whole group: Ray's processes must outlive the signal, for the driver
    to end cleanly. A blocked signal is inherited (Ray itself blocks SIGINT so).
    """
    handler = signal.getsignal(signal.SIGTERM)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        with own_sigterm():
            yield
    finally:
        signal.signal(signal.SIGTERM, handler)  # once connected, Ray's C++ part has set one that aborts
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def own_sigterm() -> Iterator[None]:
    """ray.init leaves SIGTERM to our handler.

    It would set one that raises SystemExit wherever the program is, where some are ignored and lost; and other threads
    take a signal that this one blocks. There is no option, so we reach for what it calls.
    """
    ours = ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = ours


@contextlib.contextmanager
def _heirs_ended(folder: str) -> Iterator[None]:
    """Ray's processes end at once even where we are killed: its agents would wait for their dead server for a minute.

    A shell reads from a pipe that only we hold open, and so sees our death, whatever its cause.
    """
    heirs = [str(process.pid) for process in _processes(folder)]
    watch = subprocess.Popen(
        ["/bin/sh", "-c", 'read -r word; [ "$word" = over ] || kill -9 "$@"', "sh", *heirs],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watch.communicate(b"over\n")


def _own_folder(place: str) -> str:
    """A new folder in `place`, for this process's Ray. Raises: ConfigError if there can be none."""
    try:
        return tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place)
    except OSError as error:
        raise ConfigError(
            f"{place}: Ray's files cannot be kept there ({error.strerror}); mend that, or set TMPDIR to a short path"
        ) from error


def _remove_stale(place: Path) -> None:
    """Remove the folders of drivers of ours that were killed before they could."""
    for folder in place.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        with contextlib.suppress(FileNotFoundError):  # another driver removes it too
            if owner.isdigit() and folder.stat().st_uid == os.getuid() and not lives(int(owner)):
                shutil.rmtree(folder, ignore_errors=True)


def _short_temp() -> str:
    """The folder for temporary files, or /tmp where that would make the path of a socket of Ray's too long.

    Raises: ConfigError if no file can be written in any.
    """
    try:
        place = tempfile.gettempdir()
    except OSError as error:
        raise ConfigError(f"{error.strerror}: Ray's files cannot be kept; make room there, or set TMPDIR") from error
    return place if len(os.fsencode(_socket_path(place))) <= _SOCKET_BYTES else "/tmp"


def _socket_path(place: str) -> str:
    """The longest path of a socket that Ray makes for this process where its folder lies in `place`."""
    pid = os.getpid()
    folder = f"{place}/{_PREFIX}{pid}-12345678"  # mkdtemp adds eight letters
    return f"{folder}/{_INSIDE}/session_2026-01-31_23-59-59_123456_{pid}/sockets/plasma_store"
