"""Archives and folders of data sets, damaged at random: what loads is whole, or one line names what is broken."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from search_spaces.datasets import DatasetConfig
from study.data import omniglot
from study.data.build import DataError, LabeledImages, TrialData, load_trial_data
from tests.study.data.test_every_set_trains import SETS, a_trial

EACH = 12
"""Damages of each set: 156 in all."""
SUMS = ("cub200 tgz", "omniglot", "mnist gz")
"""Archives that hold a sum over every byte: of what loads from them, not a pixel may differ."""
DAMAGED = {**SETS, "mnist gz": (SETS["mnist"][0], lambda data_dir: packed_mnist(SETS["mnist"][1](data_dir)))}


def packed_mnist(raw: Path) -> Path:
    """The idx files of `raw`, each packed by gzip, as they are fetched."""
    for path in sorted(raw.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return raw


def official(patch: pytest.MonkeyPatch, data_dir: Path) -> None:
    """Let sums be those of the files that are there, so that their readers are tried too; nothing is fetched."""
    from torchvision.datasets import MNIST, utils

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    for path in data_dir.glob("omniglot/*.zip"):
        patch.setitem(omniglot.MD5, path.stem, md5(path))
    raw = data_dir / "MNIST" / "raw"
    patch.setattr(MNIST, "resources", [(name, md5(raw / name)) for name, _ in MNIST.resources])
    patch.setattr(utils, "_urlretrieve", unreachable)
    patch.setattr(utils, "_get_redirect_url", lambda url, **_: url)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes() if path.is_file() else b"", usedforsecurity=False).hexdigest()


def cut(path: Path, draws: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draws.randrange(len(data))])


def flip(path: Path, draws: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(draws.randint(1, 8)):
        data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
    path.write_bytes(data)


def zeros(path: Path, draws: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = draws.randrange(len(data))
    end = min(len(data), start + draws.randint(1, 600))
    data[start:end] = bytes(end - start)
    path.write_bytes(data)


def noise(path: Path, draws: random.Random) -> None:
    path.write_bytes(draws.randbytes(draws.randint(1, 3000)))


def empty(path: Path, draws: random.Random) -> None:
    path.write_bytes(b"")


def dangling(path: Path, draws: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def loop(path: Path, draws: random.Random) -> None:
    path.unlink()
    path.symlink_to(path)


def leaving(path: Path, draws: random.Random) -> None:
    """A link to a file that lies outside all folders of data."""
    path.unlink()
    path.symlink_to("/etc/hostname")


def a_folder(path: Path, draws: random.Random) -> None:
    path.unlink()
    path.mkdir()


def members(path: Path, draws: random.Random) -> None:
    """One member of an archive under another name, absolute, above, a link, empty, twice; other files are cut."""
    if path.suffix == ".tgz":
        damage_tar(path, draws)
    elif path.suffix == ".zip":
        damage_zip(path, draws)
    else:
        cut(path, draws)


def other_name(name: str, outside: Path, draws: random.Random) -> str:
    names = [f"{outside}/absolute", "../above", "a/../../above", f"wrong/{name}", name.upper(), f"{name}\n", "\udcff"]
    return draws.choice(names)


def damage_tar(path: Path, draws: random.Random) -> None:
    with tarfile.open(path) as archive:
        opened = [(member, archive.extractfile(member)) for member in archive]
        found = [(member, b"" if file is None else file.read()) for member, file in opened]
    place = draws.choice([place for place, (member, _) in enumerate(found) if member.isfile()])
    member, data = found[place]
    match draws.randrange(5):
        case 0:
            member.name = other_name(member.name, path.parent, draws)
        case 1:
            member.type, member.linkname, member.size = tarfile.SYMTYPE, draws.choice(["/etc/hostname", "../x"]), 0
        case 2:
            member.type, member.linkname, member.size = tarfile.LNKTYPE, "../../x", 0
        case 3:
            member.size, data = 0, b""
        case 4:
            member.type, member.size = draws.choice([tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]), 0
    found[place] = member, data
    with tarfile.open(path, "w:gz") as archive:
        for member, data in found:
            archive.addfile(member, io.BytesIO(data[: member.size]))


def damage_zip(path: Path, draws: random.Random) -> None:
    with zipfile.ZipFile(path) as archive:
        found = [(member.filename, archive.read(member), member.external_attr) for member in archive.infolist()]
    place = draws.randrange(len(found))
    name, data, kind = found[place]
    match draws.randrange(4):
        case 0:
            name = other_name(name, path.parent, draws).replace("\udcff", "\0")
        case 1:
            data, kind = b"/etc/hostname", (stat.S_IFLNK | 0o777) << 16
        case 2:
            data = b""
        case 3:
            found = [(f"{name}/", b"", kind)] if draws.random() < 0.5 else []
    if found:
        found[place % len(found)] = name, data, kind
    with zipfile.ZipFile(path, "w") as archive:
        for name, data, kind in found:
            member = zipfile.ZipInfo(name)
            member.external_attr = kind
            archive.writestr(member, data)


DAMAGES: list[Callable[[Path, random.Random], None]] = [
    cut, flip, zeros, noise, empty, dangling, loop, leaving, a_folder, members, members, members
]  # fmt: skip
assert len(DAMAGES) == EACH


def tree(folder: Path) -> dict[str, object]:
    """Every file, link and folder below `folder`, with what it holds; locks are no matter."""
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix != ".lock"
    }


def parts(data: TrialData) -> Iterator[LabeledImages]:
    assert data.val is not None
    assert data.test is not None
    yield from (data.train, data.val, data.test)


def require_sound(data: TrialData) -> None:
    """What loads has images for its labels and labels for its classes."""
    for part in parts(data):
        images = torch.cat(list(part.clean(64)))
        assert images.shape == (len(part.labels), *part.shape[:1], part.shape[1], part.shape[1])
        assert 0 <= images.min() <= images.max() <= 1
        assert part.labels.unique().tolist() == list(range(len(part.names)))


def require_equal(data: TrialData, whole: TrialData) -> None:
    for part, other in zip(parts(data), parts(whole), strict=True):
        assert part.names == other.names
        assert torch.equal(part.labels, other.labels)
        assert torch.equal(torch.cat(list(part.clean(64))), torch.cat(list(other.clean(64))))


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_set_loads_unharmed_or_is_one_line_and_writes_nothing_outside_the_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, make = DAMAGED[name]
    whole = tmp_path / "whole"
    made = make(whole)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    expected = undamaged(config, whole, tmp_path / "expected", monkeypatch) if name in SUMS else None
    told = 0
    for seed, damage in enumerate(DAMAGES):
        draws = random.Random(f"{name} {seed}")
        place = tmp_path / str(seed)
        shutil.copytree(whole, place / "data")
        broken = place / "data" / draws.choice(files)
        damage(broken, draws)
        with monkeypatch.context() as patch:
            official(patch, place / "data")
            told += load(config, place, (broken.name, made.name), expected, f"{seed} {broken}")
    assert told >= EACH // 3


def undamaged(config: DatasetConfig, whole: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> TrialData:
    shutil.copytree(whole, place / "data")
    with monkeypatch.context() as patch:
        official(patch, place / "data")
        return load_trial_data(a_trial(config), place / "data", place / "cache")


def load(config: DatasetConfig, place: Path, words: tuple[str, ...], expected: TrialData | None, case: str) -> bool:
    """Load what lies in `place`/data; whether that was refused, by a line with one of `words`."""
    trial = a_trial(config)
    before = tree(place)
    try:
        data = load_trial_data(trial, place / "data", place / "cache")
    except DataError as error:
        line = str(error)
        assert len(line.splitlines()) == 1, f"{case}: {line}"
        assert any(word in line for word in words), f"{case}: {line}"
        require_nothing_beside(before, tree(place))
        assert not [path for path in (place / "cache").glob("*") if path.suffix != ".lock"], "nothing half written"
        return True
    require_nothing_beside(before, tree(place))
    require_sound(data)
    if expected is not None:
        require_equal(data, expected)
    return False


def require_nothing_beside(before: dict[str, object], after: dict[str, object]) -> None:
    """No file that was there has changed, and new ones are in the cache (what gzip held: beside its packed file)."""
    assert {path: after.get(path) for path in before} == before
    new = [path for path in after.keys() - before.keys() if path.split("/")[0] != "cache"]
    assert all(f"{path}.gz" in before for path in new), new
