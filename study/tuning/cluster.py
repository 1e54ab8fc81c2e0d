"""A running Ray cluster: joining it, and asking each of its nodes whether a study can run there."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import re
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search_spaces.base import Frozen
from search_spaces.load import ConfigError
from search_spaces.trial_config import Compute
from study.ledger.write import write_atomic
from study.tuning import WORKER_ENVIRONMENT
from study.tuning.capability import cpu_capability
from study.tuning.deaths import answers
from study.tuning.ray_local import end_ray, own_sigterm
from study.tuning.slots import slots, slots_on
from study.tuning.worker import SEEN_S, Workplace

_PACKAGES = ("ray", "torch", "scale-study")
_CARD = "accelerator_type:"
_PROBE_S = 10.0
_NODE_S = 120.0


@contextlib.contextmanager
def joined_ray(address: str) -> Iterator[None]:
    """The cluster at `address`, of which this machine is a node. Raises: ConfigError."""
    where = f"--address {address}"
    if address.startswith("ray://"):
        raise ConfigError(f"{where}: Ray's client cannot carry a study; run on a node of the cluster, with host:port")
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise ConfigError(f"{where}: is not HOST:PORT; give the address that `ray start --head` printed")
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_S).close()  # Ray itself tries for minutes
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{where}: nobody answers there ({error}); start the cluster (docs/cluster.md)") from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    handler = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryFile() as said:
        try:
            with own_sigterm(), _stderr_into(said):
                ray.init(
                    address=address,
                    runtime_env={"env_vars": WORKER_ENVIRONMENT},
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
        except (RayError, ConnectionError, RuntimeError, ValueError) as error:
            said.seek(0)
            raise ConfigError(f"{where}: {_why_not(str(error), said.read().decode(errors='replace'))}") from error
        finally:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        end_ray()


@contextlib.contextmanager
def _stderr_into(file: IO[bytes]) -> Iterator[None]:
    """What this process writes to standard error meanwhile, its C++ parts too, goes into `file`.

    There Ray says, once a second, why a cluster does not let it in; its exception does not.
    """
    before = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _why_not(message: str, said: str = "") -> str:
    """Ray's refusal in words. said: what it wrote to standard error."""
    text = " ".join(message.split())
    if "Version mismatch" in text:
        found = re.findall(r"(Ray|Python): (\S+)", text)
        theirs, ours = (", ".join(f"{name} {version}" for name, version in half) for half in (found[:2], found[2:]))
        return f"the cluster runs {theirs}, this driver {ours}; install the same on all nodes"
    if "token" in text.lower() or "Unauthenticated" in text + said:
        return "the cluster does not take our token; give all nodes the same ~/.ray/auth_token (or RAY_AUTH_TOKEN)"
    return f"cannot join it ({text[:160]}); is it running, and is this machine one of its nodes (ray start)?"


class Question(Frozen):
    """What a node is asked. nonce_file: written by the driver, holds `nonce`. data_dir: None where none is needed."""

    nonce_file: str
    nonce: str
    data_dir: str | None
    cache_dir: str


class Answer(Frozen):
    """What a node says of itself. fault: what keeps a study from running there, empty if nothing."""

    host: str
    versions: dict[str, str]
    cpu: str
    fault: str


def answer(question: Question, node: str) -> Answer:
    """Runs on a node: read the nonce, write beside it what only a reader of it can know, and look for the data."""
    return Answer(host=socket.gethostname(), versions=_versions(), cpu=cpu_capability(), fault=_fault(question, node))


def _fault(question: Question, node: str) -> str:
    nonce_file = Path(question.nonce_file)
    try:
        if nonce_file.read_text(encoding="utf-8") != question.nonce:
            return f"{nonce_file.parent}: is another folder than the driver's"
        write_atomic(answer_file(nonce_file, node), proof(question.nonce, node).encode())
    except OSError as error:
        return f"{error.filename or nonce_file}: {error.strerror}"
    if question.data_dir is not None and not os.access(question.data_dir, os.R_OK | os.X_OK):
        return f"{question.data_dir}: cannot be read (the data sets)"
    try:
        Path(question.cache_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        return f"{question.cache_dir}: {error.strerror} (the cache of images)"
    return "" if os.access(question.cache_dir, os.W_OK | os.X_OK) else f"{question.cache_dir}: cannot be written"


def answer_file(nonce_file: Path, node: str) -> Path:
    """Where `node` answers."""
    return nonce_file.with_name(f"{nonce_file.name}-{node}")


def proof(nonce: str, node: str) -> str:
    """What `node` writes there."""
    return hashlib.sha256(f"{nonce} {node}".encode()).hexdigest()


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def check_nodes(folder: Path, workplace: Workplace, compute: Compute) -> None:
    """Ask every node that lives. Leaves nothing behind in `folder`, the study's.

    Raises: ConfigError with a line for each node that cannot take part, naming it, the path and the mend.
    """
    nonce_file = folder / f".nonce-{secrets.token_hex(8)}"
    question = Question(
        nonce_file=str(nonce_file),
        nonce=secrets.token_hex(32),
        data_dir=workplace.data_dir if Path(workplace.data_dir).is_dir() else None,
        cache_dir=workplace.cache_dir,
    )
    nodes = [node for node in ray.nodes() if node["Alive"] and answers(node)]
    try:
        write_atomic(nonce_file, question.nonce.encode())
        asked = {node["NodeID"]: _ask(question, node["NodeID"]) for node in nodes}
        problems = [_problem(node, asked[node["NodeID"]], question, compute) for node in nodes]
    finally:
        for path in folder.glob(f"{nonce_file.name}*"):
            path.unlink(missing_ok=True)
    if found := [problem for problem in problems if problem]:
        raise ConfigError(*found)
    if slots(compute) == 0:
        raise ConfigError(
            f"no node has the {compute.threads} CPUs and {compute.gpus:g} GPUs that a trial takes; lower "
            "trial.compute, or start nodes with more"
        )
    if compute.device == "cuda" and len(cards := gpu_names()) > 1:
        raise ConfigError(
            f"the nodes have {' and '.join(cards)}, which compute to other last bits; run on nodes with one kind of GPU"
        )


def gpu_names() -> list[str]:
    """The kinds of GPU that the cluster's living nodes have, as Ray names them."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    kinds = {name.removeprefix(_CARD) for resources in nodes for name in resources if name.startswith(_CARD)}
    return sorted(kinds)


def _ask(question: Question, node: str) -> Any:
    task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
    return task(answer).remote(question, node)


def _problem(node: dict[str, Any], asked: Any, question: Question, compute: Compute) -> str:
    """What keeps a node from taking part, in a line; empty if nothing, or if it died meanwhile."""
    name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    try:
        told: Answer = ray.get(asked, timeout=_NODE_S)
    except GetTimeoutError:
        return f"{name}: has not answered within {_NODE_S:.0f} s; stop it, or wait until it is free"
    except RayError as error:
        if not answers(node):
            return ""
        last = (str(error).strip().splitlines() or ["no word"])[-1]
        return f"{name}: cannot run our code ({last[:160]}); install the same scale-study on all nodes"
    if told.fault:
        return f"{name}: {told.fault}; mount the same folders at the same paths on all nodes"
    file = answer_file(Path(question.nonce_file), node["NodeID"])
    if not _appears(file, proof(question.nonce, node["NodeID"])):
        return f"{name}: {file.parent}: what it writes there is not seen here; mount the same folder on all nodes"
    ours = _versions()
    if other := [
        f"{key} {told.versions.get(key)} (here {ours[key]})" for key in ours if told.versions[key] != ours[key]
    ]:
        return f"{name}: has {', '.join(other)}; install the same on all nodes"
    if compute.device == "cpu" and slots_on(node["Resources"], compute) and told.cpu != cpu_capability():
        return (
            f"{name}: computes with {told.cpu}, this machine with {cpu_capability()}, to other last bits; set "
            "ATEN_CPU_CAPABILITY=default on all nodes"
        )
    return ""


def _appears(file: Path, content: str) -> bool:
    deadline = time.monotonic() + SEEN_S
    while True:
        with contextlib.suppress(OSError):
            if file.read_text(encoding="utf-8") == content:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
