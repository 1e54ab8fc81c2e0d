from __future__ import annotations

import errno
import io
import os
import random
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search_spaces.datasets import Cub200
from study.data import ingest
from study.data.arrays import DataError
from study.data.ingest import Listing, decode, load_photos
from study.data.photos import read_photos
from tests.study.data.disk_faults import CODES, PLACES, failing
from tests.study.data.miniatures import photo


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def flag() -> Image.Image:
    """20 wide, 10 high: red left half, blue right half."""
    pixels = np.zeros((10, 20, 3), dtype=np.uint8)
    pixels[:, :10, 0] = pixels[:, 10:, 2] = 255
    return Image.fromarray(pixels)


def test_a_photo_of_the_right_size_keeps_its_pixels() -> None:
    assert (decode(encoded(flag()), "a.png", 10) == np.asarray(flag())).all()


@pytest.mark.parametrize(("size", "expected"), [((20, 10), (5, 10)), ((10, 21), (10, 5)), ((7, 7), (5, 5))])
def test_the_shorter_side_is_resized_and_the_longer_keeps_the_ratio(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    # 10 x 21 becomes 5 x 10.5: torchvision's Resize cuts that to 10.
    assert decode(encoded(Image.new("RGB", size)), "a.png", 5).shape == (*expected, 3)


def test_a_photo_taken_sideways_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by 90 degrees
    turned = decode(encoded(flag(), "JPEG", exif=exif, quality=95, subsampling=0), "a.jpg", 10)
    assert turned.shape == (20, 10, 3)
    assert turned[2, 5].tolist() == pytest.approx([255, 0, 0], abs=12)  # the left half is now above
    assert turned[17, 5].tolist() == pytest.approx([0, 0, 255], abs=12)


ORIENTED = [
    (1, [[1, 2], [3, 4], [5, 6]]),
    (2, [[2, 1], [4, 3], [6, 5]]),
    (3, [[6, 5], [4, 3], [2, 1]]),
    (4, [[5, 6], [3, 4], [1, 2]]),
    (5, [[1, 3, 5], [2, 4, 6]]),
    (6, [[5, 3, 1], [6, 4, 2]]),
    (7, [[6, 4, 2], [5, 3, 1]]),
    (8, [[2, 4, 6], [1, 3, 5]]),
    (9, [[1, 2], [3, 4], [5, 6]]),
]


@pytest.mark.parametrize(("orientation", "expected"), ORIENTED)
def test_each_orientation_is_turned_as_exif_defines_it(orientation: int, expected: list[list[int]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.array(ORIENTED[0][1], dtype=np.uint8))
    pixels = decode(encoded(image, exif=exif), "a.png", 2)
    assert pixels[:, :, 0].tolist() == expected


def an_exif() -> Image.Exif:
    """To be turned, with tags of several types."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A], exif[0x0128] = 6, "maker", 72.0, 2
    exif[0x8769] = {0x9003: "2026:01:01 00:00:00"}
    return exif


def mutated(content: bytes, block: bytes, draws: random.Random) -> bytes:
    """`content` with up to six bytes of its `block` changed; a PNG's checksum still fits."""
    start, end = content.index(block), content.index(block) + len(block)
    data = bytearray(content)
    for _ in range(draws.randint(1, 6)):
        data[draws.randrange(start, end)] = draws.choice([0, 255, draws.randrange(256)])
    if data.startswith(b"\x89PNG"):
        data[end : end + 4] = zlib.crc32(data[start - 4 : end]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_damaged_exif_block_costs_the_turn_at_most(kind: str, tmp_path: Path) -> None:
    draws, block = random.Random(0), an_exif().tobytes().removeprefix(b"Exif\0\0")
    whole = encoded(flag(), kind, exif=an_exif())
    made = listing(tmp_path, *(mutated(whole, block, draws) for _ in range(200)))
    config = Cub200(complete=False, shorter_side=10, side=10)
    photos = load_photos(config, "x", "key", tmp_path / "cache", lambda: made)
    sizes = Counter(zip(photos.heights.tolist(), photos.widths.tolist(), strict=True))
    assert set(sizes) == {(20, 10), (10, 20)}
    assert sizes[20, 10] > 50  # most damage is elsewhere, and the orientation is read past it


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("the maker's type 2, a text, is 5, a ratio", ("010f 0002", "010f 0005")),
        ("the resolution's type 5, a ratio, is 1, a byte", ("011a 0005", "011a 0001")),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated", "ignore:Tag data")
def test_a_damaged_tag_does_not_hide_the_orientation(tag: str, kind: tuple[str, str]) -> None:
    sound, damaged = (bytes.fromhex(part) for part in kind)
    whole = encoded(flag(), "JPEG", exif=an_exif())
    assert whole.count(sound) == 1
    assert decode(whole.replace(sound, damaged), "a.jpg", 10).shape == (20, 10, 3), tag


def test_whatever_else_a_reader_raises_is_one_line_with_the_photos_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AttributeError("no such\nthing")

    monkeypatch.setattr(ingest, "_upright", broken)
    with pytest.raises(DataError, match=r"^a.png: is no readable JPEG or PNG \(no such thing\); restore it"):
        decode(encoded(flag()), "a.png", 10)


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("L", "JPEG", (76, 76, 76)),
        ("CMYK", "JPEG", (255, 0, 0)),
        ("P", "PNG", (255, 0, 0)),
        ("RGBA", "PNG", (255, 0, 0)),
    ],
)
def test_other_modes_become_rgb(mode: str, kind: str, expected: tuple[int, int, int]) -> None:
    red = Image.new("RGB", (12, 12), (255, 0, 0)).convert(mode)  # .299 x 255 = 76 in gray
    assert decode(encoded(red, kind), "a", 12)[6, 6].tolist() == pytest.approx(list(expected), abs=3)


def test_sixteen_bits_are_refused_rather_than_cut() -> None:
    deep = Image.fromarray(np.full((12, 12), 40_000, dtype=np.uint16))
    with pytest.raises(DataError, match=r"a.png: has pixels of more than 8 bits"):
        decode(encoded(deep), "a.png", 12)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(DataError, match="is no readable JPEG or PNG"):
        decode(encoded(flag(), kind), "a", 12)


def listing(folder: Path, *photos: bytes) -> Listing:
    for place, data in enumerate(photos):
        (folder / f"{place}.jpg").write_bytes(data)
    files = tuple(f"{place}.jpg" for place in range(len(photos)))
    return Listing(folder, files, np.arange(len(photos)), files)


def test_a_decompression_bomb_is_refused_in_every_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # from there on a warning, from 1000 on an error
    made = listing(tmp_path, photo(0, 0), encoded(Image.new("RGB", (30, 20)), "JPEG"))
    with pytest.raises(DataError, match=r"is no readable JPEG or PNG \(Image size .* decompression bomb"):
        load_photos(Cub200(complete=False), "x", "key", tmp_path / "cache", lambda: made)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_MAX_FILE_BYTES", 100)
    made = listing(tmp_path, photo(0, 0))
    with pytest.raises(DataError, match=r"0.jpg: is \d+ bytes, a photo may have 100"):
        load_photos(Cub200(complete=False), "x", "key", tmp_path / "cache", lambda: made)


def test_a_disk_that_will_not_hold_the_photos_is_told_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = listing(tmp_path, photo(0, 0), photo(1, 1), photo(2, 2))
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr(ingest, "_TOGETHER", 2)
    monkeypatch.setattr(ingest.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="and the disk has not so much left"):
        load_photos(Cub200(complete=False), "x", "key", tmp_path / "cache", lambda: made)


@pytest.mark.parametrize("keep", [0, 5, 500, -1])
def test_a_torn_cache_file_is_made_again(keep: int, tmp_path: Path) -> None:
    made = listing(tmp_path, photo(0, 0), photo(1, 1))
    config = Cub200(complete=False, shorter_side=24, side=16)
    pixels = np.array(load_photos(config, "x", "key", tmp_path / "cache", lambda: made).pixels)
    (path,) = (tmp_path / "cache").glob("*.photos")
    path.write_bytes(path.read_bytes()[:keep])
    assert read_photos(path) is None
    again = load_photos(config, "x", "key", tmp_path / "cache", lambda: made)
    assert (again.pixels == pixels).all()
    assert [path.name for path in (tmp_path / "cache").glob("*.photos")] == [path.name]


def test_pixels_are_mapped_from_the_file_and_not_read_into_memory(tmp_path: Path) -> None:
    made = listing(tmp_path, photo(0, 0), photo(1, 1))
    whole = load_photos(Cub200(complete=False), "x", "key", tmp_path / "cache", lambda: made)
    assert isinstance(whole.pixels, np.memmap)
    assert len(whole.pixels) == 3 * int((whole.heights * whole.widths).sum())


@pytest.mark.parametrize("code", CODES, ids=os.strerror)
@pytest.mark.parametrize("place", [*PLACES, "lock"])
def test_a_disk_that_fails_is_one_line_with_a_mend_and_leaves_no_half_file(
    place: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, folder = listing(tmp_path, photo(0, 0), photo(1, 1)), tmp_path / "cache"
    config = Cub200(complete=False, shorter_side=24, side=16)
    with monkeypatch.context() as patch:
        failing(patch, place, code)
        if place == "lock":
            patch.setattr(ingest, "FileLock", refuse(code))
        with pytest.raises(DataError) as caught:
            load_photos(config, "x", "key", folder, lambda: made)
    line = str(caught.value)
    assert line.startswith(f"{folder}: cannot keep the photos of x there ({os.strerror(code)}); ")
    assert line.endswith(f"{CODES[code]}, or choose another --home")
    left = [path for path in folder.glob("*") if path.suffix != ".lock"]
    assert len(left) == (place == "fsync of the folder"), "then the file is whole"
    assert len(load_photos(config, "x", "key", folder, lambda: made).labels) == 2


def refuse(code: int) -> Callable[[Path], object]:
    def lock(path: Path) -> object:
        raise OSError(code, os.strerror(code), str(path))

    return lock


def test_photos_that_were_decoded_serve_from_a_folder_that_may_only_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = listing(tmp_path, photo(0, 0), photo(1, 1))
    config = Cub200(complete=False, shorter_side=24, side=16)
    load_photos(config, "x", "key", tmp_path / "cache", lambda: made)
    monkeypatch.setattr(ingest, "FileLock", refuse(errno.EROFS))
    assert len(load_photos(config, "x", "key", tmp_path / "cache", lambda: made).labels) == 2


def test_a_disk_that_loses_what_was_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = listing(tmp_path, photo(0, 0))
    monkeypatch.setattr(ingest, "read_photos", lambda path: None)
    with pytest.raises(DataError, match=r"\.photos: was written and cannot be read; mend the disk"):
        load_photos(Cub200(complete=False), "x", "key", tmp_path / "cache", lambda: made)


def test_a_photo_that_the_disk_does_not_give_is_not_told_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = listing(tmp_path, photo(0, 0))

    def broken(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(DataError, match=r"0.jpg: cannot be read \(Input/output error\); restore it"):
        load_photos(Cub200(complete=False), "x", "key", tmp_path / "cache", lambda: made)
