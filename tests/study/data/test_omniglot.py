import hashlib
import io
import os
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image

from search_spaces.datasets import Omniglot
from study.data import omniglot
from study.data.arrays import DataError
from tests.study.data.miniatures import drawing, zipped

DATA_DIR = Path(os.environ.get("STUDY_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
SMALL1: Final = "images_background_small1"

needs_archives = pytest.mark.skipif(
    not (DATA_DIR / "omniglot" / f"{SMALL1}.zip").exists(),
    reason="Omniglot's archives are not there; name their folder's parent in STUDY_TEST_DATA",
)


@pytest.fixture
def two_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two made-up archives that share one character, registered as official."""
    folder = tmp_path / "omniglot"
    folder.mkdir()
    shared = {f"Greek/character01/0394_{i:02}.png": drawing(ink=(slice(0, 10 * i), slice(0, 105))) for i in (1, 2)}
    contents = {
        SMALL1: shared | {"Zulu/character01/0900_01.png": drawing()},
        "images_background_small2": shared | {"Arcadian/character02/0100_01.png": drawing()},
    }
    for name, files in contents.items():
        path = zipped(folder / f"{name}.zip", {f"{name}/{key}": content for key, content in files.items()})
        monkeypatch.setitem(omniglot.MD5, name, hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())
    return tmp_path


@needs_archives
def test_the_two_small_sets_hold_242_characters_of_20_drawings(cache_dir: Path) -> None:
    images = omniglot.load(Omniglot(), DATA_DIR, cache_dir)
    assert len(images.names) == 242
    assert len({name.split("/")[0] for name in images.names}) == 8
    assert (np.bincount(images.labels) == 20).all()
    assert images.pixels.shape == (4840, 32, 32)
    assert list(images.names) == sorted(images.names, key=lambda name: tuple(name.split("/")))
    ink = images.pixels.mean() / 255
    assert 0.03 < ink < 0.15  # a stroke on an empty ground, not its negative


@needs_archives
def test_one_set_alone_holds_its_own_characters() -> None:
    path = omniglot.official_archive(SMALL1, DATA_DIR / "omniglot")
    drawings = omniglot.read_archive(path, SMALL1)
    assert len(drawings) == 136
    assert {len(images) for images in drawings.values()} == {20}


def test_a_character_in_two_sets_counts_once(two_sets: Path) -> None:
    images = omniglot.load(Omniglot(), two_sets, two_sets / "cache")
    assert images.names == ("Arcadian/character02", "Greek/character01", "Zulu/character01")
    assert images.labels.tolist() == [0, 1, 1, 2]


def test_a_character_that_differs_between_two_sets_is_refused(two_sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(two_sets / "omniglot" / f"{SMALL1}.zip", {f"{SMALL1}/Greek/character01/0394_01.png": drawing()})
    monkeypatch.setitem(omniglot.MD5, SMALL1, hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())
    with pytest.raises(DataError, match="Greek/character01 is not the same in"):
        omniglot.load(Omniglot(), two_sets, two_sets / "cache")


def test_what_is_cached_needs_no_archive(two_sets: Path) -> None:
    made = omniglot.load(Omniglot(), two_sets, two_sets / "cache")
    (two_sets / "omniglot").rename(two_sets / "elsewhere")
    assert (omniglot.load(Omniglot(), two_sets, two_sets / "cache").pixels == made.pixels).all()


def test_a_wrong_md5_is_refused_with_both_sums(two_sets: Path) -> None:
    path = two_sets / "omniglot" / f"{SMALL1}.zip"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match=f"md5 is [0-9a-f]{{32}}, the official archive has {omniglot.MD5[SMALL1]}"):
        omniglot.load(Omniglot(), two_sets, two_sets / "cache")


def test_a_missing_archive_that_cannot_be_fetched_is_named_with_folder_url_and_md5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(url: str, root: str, filename: str, md5: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", no_network)
    with pytest.raises(DataError) as error:
        omniglot.load(Omniglot(sets=(SMALL1,)), tmp_path, tmp_path / "cache")
    message = str(error.value)
    assert "\n" not in message
    for part in (f"{SMALL1}.zip", str(tmp_path / "omniglot"), f"{omniglot.URL}/{SMALL1}.zip", omniglot.MD5[SMALL1]):
        assert part in message
    assert list((tmp_path / "omniglot").iterdir()) == []


def test_a_missing_archive_is_fetched_whole_or_not_at_all(two_sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = two_sets / "omniglot"
    content = (folder / f"{SMALL1}.zip").read_bytes()
    (folder / f"{SMALL1}.zip").unlink()

    def network(url: str, root: str, filename: str, md5: str) -> None:
        assert url == f"{omniglot.URL}/{SMALL1}.zip"
        assert not (folder / f"{SMALL1}.zip").exists()
        (Path(root) / filename).write_bytes(content)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", network)
    assert len(omniglot.load(Omniglot(sets=(SMALL1,)), two_sets, two_sets / "cache").names) == 2
    assert sorted(path.name for path in folder.iterdir()) == [f"{SMALL1}.zip", "images_background_small2.zip"]


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"not an archive")
    with pytest.raises(DataError, match="no sound zip archive"):
        omniglot.read_archive(tmp_path / "a.zip", "a")


def test_a_zip_with_damaged_content_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a/Greek/character01/0394_01.png": drawing()})
    content = bytearray(path.read_bytes())
    content[80] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="no sound zip archive"):
        omniglot.read_archive(path, "a")


@pytest.mark.parametrize(
    "name",
    ["a/../character01/0394_01.png", "/etc/character01/0394_01.png", "b/Greek/character01/0394_01.png", "a/notes.txt"],
)
def test_a_member_outside_the_layout_is_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.zip", {name: drawing()})
    with pytest.raises(DataError, match="which is no drawing"):
        omniglot.read_archive(path, "a")


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a/Greek/character01/0394_01.png": b"/etc/passwd"}, mode=0o120777)
    with pytest.raises(DataError, match="which is no drawing"):
        omniglot.read_archive(path, "a")


def test_an_absurd_size_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a/Greek/character01/0394_01.png": bytes(100_000)})
    with pytest.raises(DataError, match="is 100000 bytes, a drawing has at most 65536"):
        omniglot.read_archive(path, "a")


def test_a_drawing_is_ink_on_an_empty_ground() -> None:
    ink = omniglot.decode(drawing(), "x")
    assert ink[:50].min() == 255
    assert ink[50:].max() == 0


@pytest.mark.parametrize("content", [b"", b"GIF89a, not a PNG", drawing()[:60]])
def test_what_is_no_whole_png_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(DataError, match=r"small1.zip: Greek/character01/0394_01.png: is no readable PNG"):
        omniglot.decode(content, "small1.zip: Greek/character01/0394_01.png")


def test_another_format_is_refused_even_if_pillow_could_read_it() -> None:
    buffer = io.BytesIO()
    Image.new("L", (105, 105)).save(buffer, "BMP")
    with pytest.raises(DataError, match="no readable PNG"):
        omniglot.decode(buffer.getvalue(), "x")


def test_a_png_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="is 104 x 104"):
        omniglot.decode(drawing(side=104), "x")


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 105 * 105 - 1)  # Pillow then warns, from twice as much on it raises
    with pytest.raises(DataError, match="no readable PNG"):
        omniglot.decode(drawing(), "x")


def test_shrinking_averages_areas() -> None:
    drawing = np.zeros((105, 105), dtype=np.uint8)
    drawing[:, :53] = 255
    small = omniglot.shrink(drawing)
    assert small.shape == (32, 32)
    assert (small[:, :16] == 255).all()
    assert (small[:, 17:] == 0).all()
    assert abs(int(small[0, 16]) - 255 * 0.5 / (105 / 32)) < 2  # half a pixel of ink in a cell of 105/32 pixels
