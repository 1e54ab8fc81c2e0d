"""A Ray of our own on this machine, for one study."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ray

from study.ledger.lock import lives

OBJECT_STORE_BYTES = 200_000_000
_PREFIX = "study-ray-"


@contextlib.contextmanager
def local_ray(cpus: int, gpus: int) -> Iterator[None]:
    """A Ray on loopback only, deaf to SIGTERM and SIGINT; its files go with it."""
    _remove_stale(Path(_short_temp()))
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_short_temp())
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        with _deaf_children():
            ray.init(
                address="local",  # whatever RAY_ADDRESS says
                num_cpus=cpus,
                num_gpus=gpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=folder,
                _node_ip_address="127.0.0.1",
            )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started meanwhile never hear SIGTERM; our own handler stays, and hears afterwards what came.

    A scheduler, systemd or `timeout` signals a whole group: Ray's processes must outlive the signal, for the driver
    to end cleanly. A blocked signal is inherited (Ray itself blocks SIGINT so), and ray.init would install a handler
    for SIGTERM that aborts the process.
    """
    handler = signal.getsignal(signal.SIGTERM)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _remove_stale(place: Path) -> None:
    """Remove the folders of drivers of ours that were killed before they could."""
    for folder in place.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdigit() and folder.stat().st_uid == os.getuid() and not lives(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _short_temp() -> str:
    # Ray's socket paths are limited to 107 bytes, and a long TMPDIR would break them.
    return tempfile.gettempdir() if len(tempfile.gettempdir()) <= 20 else "/tmp"
