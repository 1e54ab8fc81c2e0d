"""What a node answers, and what the driver makes of it; the cluster itself is met in tests/end_to_end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayError

from search_spaces.load import ConfigError
from search_spaces.trial_config import Compute
from study.tuning import cluster
from study.tuning.cluster import Answer, Question, answer, check_nodes, joined_ray
from study.tuning.worker import Workplace

HERE = cluster._versions()
CPU = cluster.cpu_capability()
NODES = [
    {
        "NodeID": name,
        "Alive": name != "gone",
        "NodeManagerHostname": f"host-{name}",
        "NodeManagerAddress": "10.0.0.1",
        "Resources": {"CPU": 1.0},
    }
    for name in ("one", "two", "gone")
]
ONE_THREAD = Compute()
Node = Callable[[Question, str], Answer]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, ...]]:
    """The problems that check_nodes finds where node two answers as given; both nodes share this machine's disk."""
    workplace = Workplace(data_dir=str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"), stages_dir=None)

    def get(asked: Answer, timeout: float) -> Answer:
        return asked

    monkeypatch.setattr(cluster, "ray", SimpleNamespace(nodes=lambda: NODES, get=get))
    monkeypatch.setattr(cluster, "answers", lambda node: True)
    monkeypatch.setattr(cluster, "slots", lambda compute: 2)
    monkeypatch.setattr(cluster, "SEEN_S", 0.0)

    def problems(two: Node, compute: Compute = ONE_THREAD) -> tuple[str, ...]:
        def send(question: Question, node: str) -> Any:
            assert node != "gone"
            return two(question, node) if node == "two" else answer(question, node)

        monkeypatch.setattr(cluster, "_ask", send)
        (tmp_path / "study").mkdir(exist_ok=True)
        try:
            check_nodes(tmp_path / "study", workplace, compute)
        except ConfigError as error:
            return error.problems
        finally:
            assert list((tmp_path / "study").iterdir()) == [], "nothing is left behind"
        return ()

    return problems


def test_nodes_that_share_the_folder_are_taken(ask: Callable[..., tuple[str, ...]]) -> None:
    assert ask(answer) == ()


def test_a_node_without_the_folder_is_named_with_the_path(ask: Callable[..., tuple[str, ...]], tmp_path: Path) -> None:
    def elsewhere(question: Question, node: str) -> Answer:
        return answer(question.replace(nonce_file="/nowhere/study/.nonce"), node)

    assert ask(elsewhere) == (
        "node host-two (10.0.0.1): /nowhere/study/.nonce: No such file or directory; mount the same folders at the "
        "same paths on all nodes",
    )


def test_a_folder_of_the_same_name_with_other_content_is_found_out(
    ask: Callable[..., tuple[str, ...]], tmp_path: Path
) -> None:
    def another(question: Question, node: str) -> Answer:
        other = tmp_path / "another" / "study" / Path(question.nonce_file).name
        other.parent.mkdir(parents=True)
        other.write_text("an older nonce", encoding="utf-8")
        return answer(question.replace(nonce_file=str(other)), node)

    (problem,) = ask(another)
    assert "another/study: is another folder than the driver's; mount" in problem


def test_a_node_whose_answer_is_not_seen_is_named(ask: Callable[..., tuple[str, ...]], tmp_path: Path) -> None:
    def copy(question: Question, node: str) -> Answer:
        other = tmp_path / "copy" / Path(question.nonce_file).name
        other.parent.mkdir()
        other.write_text(question.nonce, encoding="utf-8")
        return answer(question.replace(nonce_file=str(other)), node)

    assert ask(copy) == (
        f"node host-two (10.0.0.1): {tmp_path / 'study'}: what it writes there is not seen here; mount the same "
        "folder on all nodes",
    )


def test_a_node_without_the_data_is_named(ask: Callable[..., tuple[str, ...]], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()

    def without(question: Question, node: str) -> Answer:
        assert question.data_dir == str(tmp_path / "data")
        return answer(question.replace(data_dir="/nowhere/data"), node)

    (problem,) = ask(without)
    assert problem.startswith("node host-two (10.0.0.1): /nowhere/data: cannot be read (the data sets); mount")


def test_a_node_that_died_a_moment_ago_is_passed_over(
    ask: Callable[..., tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For 17 s Ray counts it as alive; then what was asked of it fails."""

    def get(asked: Answer | None, timeout: float) -> Answer:
        if asked is None:
            raise RayError("The node specified via NodeAffinitySchedulingStrategy doesn't exist any more")
        return asked

    def never(question: Question, node: str) -> Any:
        raise AssertionError("nobody is there")

    monkeypatch.setattr(cluster.ray, "get", get)
    lives = iter([True, True, False])
    monkeypatch.setattr(cluster, "answers", lambda node: next(lives))
    assert ask(lambda question, node: None) == (), "it died while it was asked"
    monkeypatch.setattr(cluster, "answers", lambda node: node["NodeID"] == "one")
    assert ask(never) == (), "it was dead before"
    monkeypatch.setattr(cluster, "answers", lambda node: True)
    (problem,) = ask(lambda question, node: None)
    assert problem.startswith("node host-two (10.0.0.1): cannot run our code (The node specified via")


def test_other_versions_are_named(ask: Callable[..., tuple[str, ...]]) -> None:
    def older(question: Question, node: str) -> Answer:
        return answer(question, node).replace(versions={**HERE, "torch": "2.0.0"})

    assert ask(older) == (
        f"node host-two (10.0.0.1): has torch 2.0.0 (here {HERE['torch']}); install the same on all nodes",
    )


def test_another_processor_matters_to_trials_on_processors_only(ask: Callable[..., tuple[str, ...]]) -> None:
    def other(question: Question, node: str) -> Answer:
        return answer(question, node).replace(cpu="VSX")

    (problem,) = ask(other)
    assert problem.startswith(f"node host-two (10.0.0.1): computes with VSX, this machine with {CPU}")
    assert ask(other, Compute(device="cuda", gpus=0.5)) == ()


def test_a_trial_that_fits_nowhere_is_refused(
    ask: Callable[..., tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "slots", lambda compute: 0)
    (problem,) = ask(answer, Compute(threads=8))
    assert problem.startswith("no node has the 8 CPUs and 0 GPUs that a trial takes")


def test_rays_client_is_refused() -> None:
    with pytest.raises(ConfigError, match="run on a node of the cluster"), joined_ray("ray://head:10001"):
        pass


@pytest.mark.parametrize("address", ["auto", "head", "head:", ""])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is not HOST:PORT"), joined_ray(address):
        pass


def test_nobody_at_the_address_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConfigError, match=f"--address 127.0.0.1:{port}: nobody answers there"):
        joined_ray(f"127.0.0.1:{port}").__enter__()


def test_a_version_mismatch_is_one_line() -> None:
    told = (
        "Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.12.1\n"
        "This process on 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
    )
    assert cluster._why_not(told) == (
        "the cluster runs Ray 2.59.0, Python 3.12.1, this driver Ray 2.60.0, Python 3.11.7; install the same on all "
        "nodes"
    )
