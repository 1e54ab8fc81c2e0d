"""Ray's own death: noticed, and told in one line."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Self

import ray
from rich.console import Console

from study.tuning.deaths import takes_connections

EXIT_CODE = 2


class Lifeline:
    """Watches, from a thread, the parts of Ray that a driver hangs on: its cluster's server (GCS), its node's raylet.

    Ray itself says nothing of a dead raylet, whose workers die with it: a study would wait for ever. Of a dead server
    it says something after a minute, and ends the process. A part is dead once it takes no connection for PATIENCE_S.
    A process that still runs GRACE_S later, waiting perhaps in a call to what is dead, is ended by this thread; its
    last words are `dead`, which ends with `advice`. The ledger holds every event, so nothing is lost.
    """

    PATIENCE_S = 20.0
    GRACE_S = 15.0
    EVERY_S = 1.0

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._over = threading.Event()
        self._dead = ""

    @property
    def dead(self) -> str:
        """What is wrong, in a line; empty while all is well."""
        return self._dead and f"Ray's {self._dead} died (was there too little memory?); {self._advice}"

    def __enter__(self) -> Self:
        """Begin; Ray runs."""
        context = ray.get_runtime_context()
        host, _, port = context.gcs_address.rpartition(":")
        node = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
        raylet = node["NodeManagerAddress"], node["NodeManagerPort"]
        parts = {"server (GCS)": (host, int(port)), "raylet": raylet}
        threading.Thread(target=self._run, args=(parts,), name="lifeline", daemon=True).start()
        return self

    def _run(self, parts: dict[str, tuple[str, int]]) -> None:
        asked = time.monotonic()
        heard = dict.fromkeys(parts, asked)
        while not self._over.wait(self.EVERY_S):
            now = time.monotonic()
            slept, asked = now - asked > self.PATIENCE_S, now
            for part, place in parts.items():
                if slept or takes_connections(*place):
                    heard[part] = now
                elif now - heard[part] > self.PATIENCE_S:
                    self._dead = part
                    time.sleep(self.GRACE_S)
                    self._end()
                    return

    def _end(self) -> None:
        with contextlib.suppress(Exception):
            Console(stderr=True).show_cursor()
            print(self.dead, file=sys.stderr, flush=True)
        os._exit(EXIT_CODE)

    def __exit__(self, *exc: object) -> None:
        if not self._dead:  # else what follows, Ray's own shutdown, may still wait for what is dead
            self._over.set()
