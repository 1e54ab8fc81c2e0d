"""States on disk: whole or absent, and refused when anything about them is wrong."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import random
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from study.ledger.read import LedgerError
from study.stages.store import STORE_FORMAT, StageDamaged, StageStore

NOTE = {"epochs_done": 3, "trial": 7}


def a_state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {"epochs_done": 3, "weights": {"a": torch.randn(4, 5, generator=generator)}, "names": ["a"], "loss": None}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return torch.equal(one["weights"]["a"], other["weights"]["a"]) and {**one, "weights": None} == {
        **other,
        "weights": None,
    }


@pytest.fixture
def store(tmp_path: Path) -> StageStore:
    store = StageStore(tmp_path / "study" / "stages")
    store.save("k", a_state(), NOTE)
    return store


@pytest.fixture
def path(store: StageStore, tmp_path: Path) -> Path:
    return tmp_path / "study" / "stages" / "k.stage"


def write(path: Path, data: bytes, **manifest: Any) -> None:
    """A file as the store writes it, its manifest true unless told otherwise."""
    head = {"format": STORE_FORMAT, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **manifest}
    path.write_bytes(json.dumps(head).encode() + b"\n" + data)


def test_a_state_comes_back_as_it_was(store: StageStore, path: Path) -> None:
    assert same(store.load("k"), a_state())
    assert store.keys() == {"k"}
    size = store.save("other", a_state(), NOTE)
    assert store.keys() == {"k", "other"}
    manifest, _, data = path.read_bytes().partition(b"\n")
    assert json.loads(manifest) == {
        "format": STORE_FORMAT,
        "size": size,
        "sha256": hashlib.sha256(data).hexdigest(),
        **NOTE,
    }


def test_a_freed_state_is_gone_and_freeing_it_again_is_no_matter(store: StageStore) -> None:
    store.free("k")
    store.free("k")
    assert store.keys() == set()


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    store = StageStore(tmp_path / "none")
    assert store.keys() == set()
    with pytest.raises(StageDamaged, match=r"k\.stage: cannot be read .*No such file"):
        store.load("k")


def test_only_its_owner_reads_a_state(store: StageStore, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_a_state_cut_short_anywhere_is_refused(store: StageStore, path: Path) -> None:
    whole = path.read_bytes()
    for length in [0, 1, *range(20, len(whole), 61), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StageDamaged, match=r"k\.stage: (cannot be read|holds \d+ bytes of \d+)"):
            store.load("k")
    path.write_bytes(whole + b"\0")
    with pytest.raises(StageDamaged, match="holds"):
        store.load("k")


def test_a_byte_flipped_anywhere_is_refused_or_changes_no_state(store: StageStore, path: Path) -> None:
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    refused = 0
    for place in [*range(head), *range(head, len(whole), 37), len(whole) - 1]:
        for mask in (0x01, 0x80):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
            try:
                found = store.load("k")
            except StageDamaged:
                refused += 1
            else:
                assert place < head, "what is not the state itself may say anything"
                assert same(found, a_state())
    assert refused > 2 * (len(whole) - head) / 37


def broken(content: bytes, draws: random.Random) -> bytes:
    """`content` cut, with bits flipped, a stretch lost, doubled, zeroed or random; or nothing of it."""
    start = draws.randrange(len(content))
    end = min(len(content), start + draws.randint(1, 200))
    stretch = draws.choice([b"", content[start:end] * 2, bytes(end - start), draws.randbytes(end - start)])
    flipped = bytes([content[start] ^ (1 << draws.randrange(8))])
    return draws.choice(
        [
            content[:start],
            content[:start] + flipped + content[start + 1 :],
            content[:start] + stretch + content[end:],
            draws.randbytes(end),
            b"[" * 100_000 + content,
            b"",
        ]
    )


def require_lines(told: list[str], path: Path) -> None:
    """Each is one line that begins with the file's path."""
    assert [line for line in told if not line.startswith(f"{path}: ") or len(line.splitlines()) != 1] == []


def test_a_hundred_damaged_states_are_one_line_each_or_the_state_itself(store: StageStore, path: Path) -> None:
    whole, draws, told = path.read_bytes(), random.Random(0), list[str]()
    for _ in range(100):
        path.write_bytes(broken(whole, draws))
        try:
            assert same(store.load("k"), a_state())
        except StageDamaged as error:
            told.append(str(error))
    assert len(told) > 80
    require_lines(told, path)


def test_damage_that_the_manifest_does_not_tell_is_one_line_or_a_dictionary(store: StageStore, path: Path) -> None:
    data, draws, told = path.read_bytes().partition(b"\n")[2], random.Random(0), list[str]()
    for _ in range(100):
        write(path, broken(data, draws))
        try:
            assert isinstance(store.load("k"), dict)
        except StageDamaged as error:
            told.append(str(error))
    assert len(told) > 50
    require_lines(told, path)


def test_a_foreign_file_is_refused(store: StageStore, path: Path) -> None:
    data = path.read_bytes().partition(b"\n")[2]
    write(path, data, format=STORE_FORMAT + 1)
    with pytest.raises(StageDamaged, match=f"has format {STORE_FORMAT + 1}, this version reads {STORE_FORMAT}"):
        store.load("k")
    for text in (b"[]\n", b"3\n", b"{}\n", b"null\n", b"\xff\n", b"\n", data):
        path.write_bytes(text + data)
        with pytest.raises(StageDamaged, match="cannot be read"):
            store.load("k")
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    write(path, buffer.getvalue())
    with pytest.raises(StageDamaged, match="holds a list, not a state"):
        store.load("k")


class Bad:
    """Runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("kind", ["torch", "pickle", "no pickle"])
def test_code_in_a_state_is_refused_and_never_run(
    store: StageStore, path: Path, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"epochs_done": Bad()}, buffer)
    write(path, {"torch": buffer.getvalue(), "pickle": pickle.dumps(Bad(), protocol=2), "no pickle": b"weights"}[kind])
    with pytest.raises(StageDamaged, match=r"k\.stage: is no state that torch\.load reads"):
        store.load("k")
    assert not (tmp_path / "ran").exists()


def failing(code: int) -> Any:
    def fail(*args: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_kept_weights_are_the_state_under_a_second_name_and_outlive_it(store: StageStore, path: Path) -> None:
    for _ in range(2):  # a driver that died before it had written that down keeps them again
        store.keep_weights("k", 7)
    assert store.weights_path(7).samefile(path)
    store.free("k")
    assert same(StageStore(store.weights_path(7).parent).load("00007"), a_state())


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EXDEV, errno.EMLINK], ids=os.strerror)
def test_where_no_file_has_two_names_the_weights_are_a_copy(
    code: int, store: StageStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(code))
    for _ in range(2):
        store.keep_weights("k", 7)
    assert store.weights_path(7).read_bytes() == path.read_bytes()
    assert not store.weights_path(7).samefile(path)
    assert stat.S_IMODE(store.weights_path(7).stat().st_mode) == 0o600
    assert [found.name for found in store.weights_path(7).parent.iterdir()] == ["00007.stage"]


def test_what_was_half_copied_is_tidied_away(store: StageStore) -> None:
    store.keep_weights("k", 7)
    part = store.weights_path(7).with_name(".00007.stage.0.part")
    part.write_bytes(b"half")
    store.tidy()
    assert [found.name for found in part.parent.iterdir()] == ["00007.stage"]


@pytest.mark.parametrize("links", [True, False])
def test_the_folder_of_kept_weights_is_durable(links: bool, store: StageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    synced: list[str] = []

    def note(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink().name)
        if synced[-1] == "weights":
            assert store.weights_path(7).exists()

    monkeypatch.setattr(os, "fsync", note)
    store.keep_weights("k", 7)
    assert synced[0] == "study", "which names the new folder"
    assert synced[-1] == "weights"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP], ids=os.strerror)
def test_a_file_system_that_knows_no_fsync_of_a_folder_keeps_states_and_weights(
    code: int, store: StageStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: failing(code)() if stat.S_ISDIR(os.fstat(file).st_mode) else fsync(file)
    )
    store.save("other", a_state(), NOTE)
    store.keep_weights("other", 7)
    assert same(store.load("other"), a_state())
    assert store.weights_path(7).exists()


@pytest.mark.parametrize("place", ["link", "fsync", "copy"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS], ids=os.strerror)
def test_weights_that_cannot_be_kept_are_one_line(
    code: int, place: str, store: StageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(code if place == "link" else errno.EPERM))
    if place != "link":
        monkeypatch.setattr(*((os, "fsync") if place == "fsync" else (Path, "read_bytes")), failing(code))
    with pytest.raises(LedgerError, match=r"00007\.stage: cannot be kept \(.*\); make room, then resume") as caught:
        store.keep_weights("k", 7)
    assert len(str(caught.value).splitlines()) == 1
    assert list(store.weights_path(7).parent.glob("*")) == []


@pytest.mark.parametrize("fault", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_state_and_nothing_beside_it(
    store: StageStore, path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    match fault:
        case "write":
            monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: FullFile(descriptor))
        case "fsync":
            monkeypatch.setattr(os, "fsync", full)
        case "replace":
            monkeypatch.setattr(Path, "replace", full)
    for key in ("k", "new"):
        with pytest.raises(OSError, match="No space left"):
            store.save(key, {**a_state(), "epochs_done": 4}, NOTE)
    monkeypatch.undo()
    assert [found.name for found in path.parent.iterdir()] == ["k.stage"]
    assert same(store.load("k"), a_state())
    store.save("k", {**a_state(), "epochs_done": 4}, NOTE)
    assert store.load("k")["epochs_done"] == 4


class FullFile(io.FileIO):
    """Takes ten bytes, then the disk is full."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb")

    def write(self, data: Any) -> int:
        super().write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")
