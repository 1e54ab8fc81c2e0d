"""A Ray cluster of several nodes on this machine, started as docs/cluster.md says, a session for each node."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_QUIET = ("--object-store-memory=100000000", "--disable-usage-stats", "--block")
_TRIES = 3
_DEADLINE = "--deadline-remaining-seconds=30"
_NODE_ID = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False)
print(next(node["NodeID"] for node in ray.nodes() if node["NodeName"] == sys.argv[2]))
"""


def _name(node: int) -> str:
    return f"node-{node}"


def environment(pid: int) -> dict[str, str]:
    """The variables that a process was started with; none where it has ended."""
    try:
        text = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return dict(word.partition("=")[::2] for word in text.split("\0"))


class Nodes:
    """The nodes' processes. environment: what a driver needs to join."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.address = f"127.0.0.1:{server.getsockname()[1]}"
        token = folder / "token"
        token.write_text(secrets.token_hex(32), encoding="utf-8")
        token.chmod(0o600)
        root = str(Path(__file__).parents[2])
        ours = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # set in this process where a test imported study.tuning
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != ours},
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        }
        self._folder = folder
        self._nodes: list[subprocess.Popen[bytes]] = []

    def head(self) -> None:
        """The node that the others join; no trial runs on it."""
        port = self.address.rpartition(":")[2]
        self._start(
            "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={self._folder}"
        )

    def join(self, cpus: int = 1) -> int:
        """One more node; its place among all, the head's is 0."""
        self._start(f"--address={self.address}", f"--num-cpus={cpus}")
        return len(self._nodes) - 1

    def kill(self, node: int) -> None:
        """End all processes of a node at once, as a power cut does."""
        os.killpg(self._nodes[node].pid, signal.SIGKILL)
        self._nodes[node].wait()

    def processes(self) -> list[int]:
        """All that holds the cluster's token: nodes, their workers (also where the node was killed), drivers."""
        token = "RAY_AUTH_TOKEN_PATH"
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        return [number for number in numbers if environment(number).get(token) == self.environment[token]]

    def node_id(self, node: int) -> str:
        """Ray's name for a node."""
        arguments = [sys.executable, "-c", _NODE_ID, self.address, _name(node)]
        told = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, check=True)
        return told.stdout.split()[-1]

    def announce_preemption(self, node_id: str) -> None:
        """Tell Ray that a node will be taken away, as a cloud does shortly before."""
        drain = ["drain-node", "--address", self.address, "--node-id", node_id]
        drain += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot", _DEADLINE]
        command = [sys.executable, "-m", "ray.scripts.scripts", *drain]
        subprocess.run(command, env=self.environment, capture_output=True, check=True)

    def close(self) -> None:
        """End what is left."""
        for node in reversed(range(len(self._nodes))):
            if self._nodes[node].poll() is None:
                self.kill(node)

    def _start(self, *arguments: str) -> None:
        """One after the other: two nodes that start at once on one machine collide."""
        arguments = (*arguments, f"--node-name={_name(len(self._nodes))}")
        for _ in range(_TRIES):  # Ray gives up after 30 s, which a busy machine may take
            log = self._folder / f"node-{len(self._nodes)}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments, *_QUIET],
                    env=self.environment,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            while process.poll() is None:
                if b"Ray runtime started" in log.read_bytes():
                    self._nodes.append(process)
                    return
                time.sleep(0.2)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(log.read_text(encoding="utf-8")[-2000:])


@contextmanager
def nodes(workers: int) -> Iterator[Nodes]:
    """A head and `workers` nodes of one processor each."""
    folder = Path(tempfile.mkdtemp(prefix="nodes-", dir="/tmp"))  # Ray's socket paths must be short
    cluster = Nodes(folder)
    try:
        cluster.head()
        for _ in range(workers):
            cluster.join()
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)
