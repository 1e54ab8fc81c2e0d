"""Every photo set, in miniature: what is read, and one line per fault."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from search_spaces.datasets import Cars196, Cub200, DatasetConfig, ImageFolder, Sop, Split
from search_spaces.datasets import RandomResizedCrop as Crop
from search_spaces.losses import Softmax
from search_spaces.trial_config import Measure, TrialConfig
from study.data import cub200, ingest
from study.data.arrays import DataError
from study.data.build import TrialData, load_trial_data
from study.data.photos import Photos
from tests.study.data import miniatures
from tests.study.data.miniatures import CLASSES, COLORS, EACH, write

SMALL = {"shorter_side": 32, "side": 24}
CUB = Cub200(complete=False, **SMALL)
CARS = Cars196(complete=False, **SMALL)
SOP = Sop(complete=False, **SMALL)
FOLDER = ImageFolder(folder="pets", **SMALL)


IN_ORDER = Split(order="label", train_classes=2, val_classes=1, test_classes=1)


def load(dataset: DatasetConfig, data_dir: Path, split: Split = IN_ORDER) -> TrialData:
    trial = TrialConfig(
        dataset=dataset,
        split=split,
        loss=Softmax(),
        augment=Crop(),
        epochs=1,
        measure=Measure(test=split.test_classes > 0),
    )
    return load_trial_data(trial, data_dir, data_dir / "cache")


def fault(dataset: DatasetConfig, data_dir: Path, split: Split = IN_ORDER) -> str:
    with pytest.raises(DataError) as caught:
        load(dataset, data_dir, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def a_table(data_dir: Path, text: str = "") -> Path:
    folder = miniatures.class_folders(data_dir)
    lines = [f"pet {label}/{image}.JPG,{'dcba'[label]}\n" for label in range(CLASSES) for image in range(1, EACH)]
    return write(folder / "table.csv", text or "path,label\n" + "".join(lines)).parent


TABLE = FOLDER.replace(table="table.csv")
LAYOUTS: list[tuple[DatasetConfig, Callable[[Path], Path], int, tuple[str, str]]] = [
    (CUB, miniatures.cub, EACH, ("001.Bird_0", "002.Bird_1")),
    (CUB, lambda data_dir: miniatures.packed(miniatures.cub(data_dir)), EACH, ("001.Bird_0", "002.Bird_1")),
    (CARS, miniatures.cars, EACH, ("Car 0", "Car 1")),
    (CARS, miniatures.cars_devkit, EACH, ("Car 0", "Car 1")),
    (CARS, lambda data_dir: miniatures.cars_devkit(data_dir, test_beside=True), EACH, ("Car 0", "Car 1")),
    (SOP, miniatures.sop, EACH, ("1", "2")),
    (FOLDER, miniatures.class_folders, EACH, ("pet 0", "pet 1")),
]


@pytest.mark.parametrize(("dataset", "make", "each", "names"), LAYOUTS)
def test_classes_stand_in_the_sets_order_and_labels_name_the_right_photos(
    dataset: DatasetConfig, make: Callable[[Path], Path], each: int, names: tuple[str, str], tmp_path: Path
) -> None:
    make(tmp_path)
    data = load(dataset, tmp_path)
    assert data.val is not None
    assert data.test is not None
    assert data.train.names == names
    assert [part.labels.bincount().tolist() for part in (data.train, data.val, data.test)] == [
        [each] * 2,
        [each],
        [each],
    ]
    for part, first in ((data.train, 0), (data.val, 2), (data.test, 3)):
        (squares,) = part.clean(99)
        assert squares.shape == (len(part.labels), 3, 24, 24)
        assert part.shape == (3, 24)
        for square, label in zip(squares, part.labels.tolist(), strict=True):
            corner = (square[:, -3:, -3:].mean(dim=(1, 2)) * 255).tolist()
            if max(corner) - min(corner) > 20:  # one photo is gray
                assert corner == pytest.approx(COLORS[first + label], abs=12)


def test_photos_are_rgb_with_the_shorter_side_asked_for(tmp_path: Path) -> None:
    miniatures.cub(tmp_path)
    photos = load(CUB, tmp_path).train.images
    assert isinstance(photos, Photos)
    # Width and height 60 x 40, 41 x 67, 50 x 50, 33 x 90, 120 x 37: the longer side is cut to whole pixels.
    assert [tuple(photos.photo(place).shape) for place in range(5)] == [
        (3, 32, 48),
        (3, 52, 32),
        (3, 32, 32),
        (3, 87, 32),
        (3, 32, 103),
    ]


def test_a_table_may_name_the_split_and_sorts_its_classes_by_it(tmp_path: Path) -> None:
    rows = [("pet 3", "zebra", "train"), ("pet 0", "ant", "test"), ("pet 1", "bee", "train"), ("pet 2", "cat", "val")]
    lines = [f"{folder}/{image}.JPG,{label},{split}\n" for image in (1, 2) for folder, label, split in rows]
    a_table(tmp_path, "path,label,split\n" + "".join(lines))
    data = load(TABLE, tmp_path)
    assert data.val is not None
    assert data.test is not None
    assert (data.train.names, data.val.names, data.test.names) == (("bee", "zebra"), ("cat",), ("ant",))
    assert data.train.labels.tolist() == [0, 0, 1, 1]


def parts_of(split: Split, data_dir: Path) -> list[tuple[str, ...]]:
    """Names of the classes in each part."""
    data = load(TABLE, data_dir, split)
    return [() if part is None else part.names for part in (data.train, data.val, data.test)]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(train_classes=2, val_classes=1, test_classes=1), "has a column split, which split.order: seeded would"),
        (Split(seed=7, train_classes=2, val_classes=2, test_classes=0), "which split.order: seeded would ignore"),
        (
            Split(order="label", train_classes=3, val_classes=0, test_classes=1),
            "class cat has split val, and split.train_classes: 3 would take it as train",
        ),
        (
            Split(order="label", train_classes=2, val_classes=2, test_classes=0),
            "class dog has split test, and split.val_classes: 2 would take it as val",
        ),
        (
            Split(order="label", train_classes=2, val_classes=0, test_classes=2),
            "class cat has split val, and split.test_classes: 2 would take it as test",
        ),
    ],
)
def test_a_split_that_the_table_contradicts_is_refused_before_anything_is_decoded(
    split: Split, message: str, tmp_path: Path
) -> None:
    miniatures.split_table(tmp_path)
    line = fault(TABLE, tmp_path, split)
    assert line.startswith(f"{tmp_path / 'pets' / 'table.csv'}: ")
    assert message in line
    assert "; set split to {order: label, train_classes: 2, val_classes: 1, test_classes: 1} (fewer train" in line
    assert not (tmp_path / "cache").exists()


def test_a_split_may_leave_out_classes_of_the_table(tmp_path: Path) -> None:
    miniatures.split_table(tmp_path)
    without_val = Split(order="label", train_classes=2, val_classes=0, test_classes=1)
    assert parts_of(without_val, tmp_path) == [("ant", "bee"), (), ("dog",)]
    text = (tmp_path / "pets" / "table.csv").read_text()
    write(tmp_path / "more" / "pets" / "table.csv", text + "pet 3/3.JPG,aye,train\n")
    for path in (tmp_path / "pets").glob("pet *"):
        path.rename(tmp_path / "more" / "pets" / path.name)
    fewer = Split(order="label", train_classes=2, val_classes=1, test_classes=1)
    assert parts_of(fewer, tmp_path / "more") == [("ant", "aye"), ("cat",), ("dog",)]


def test_a_seeded_split_serves_a_table_without_the_column(tmp_path: Path) -> None:
    a_table(tmp_path)
    names = parts_of(Split(seed=1, train_classes=2, val_classes=1, test_classes=1), tmp_path)
    assert sorted(name for part in names for name in part) == list("abcd")


def test_a_table_without_split_sorts_by_label(tmp_path: Path) -> None:
    a_table(tmp_path)
    data = load(TABLE, tmp_path)
    assert data.train.names == ("a", "b")
    (squares,) = data.train.clean(99)
    assert (squares[0, :, -3:, -3:].mean(dim=(1, 2)) * 255).tolist() == pytest.approx(COLORS[3], abs=12)


def test_a_second_time_decodes_nothing_and_a_changed_photo_decodes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = miniatures.cub(tmp_path)
    counted = []
    real = ingest.decode
    monkeypatch.setattr(ingest, "decode", lambda *args: (counted.append(args[1]), real(*args))[1])
    load(CUB, tmp_path)
    assert len(counted) == CLASSES * EACH
    load(CUB.replace(cache_gib=39.0), tmp_path)  # another configuration of the same photos
    assert len(counted) == CLASSES * EACH
    write(folder / "images" / "001.Bird_0" / "Bird_0_0.jpg", miniatures.photo(3, 1))
    load(CUB.replace(cache_gib=38.0), tmp_path)
    assert len(counted) == 2 * CLASSES * EACH


def test_the_archive_and_the_folder_give_the_same_photos(tmp_path: Path) -> None:
    miniatures.cub(tmp_path / "folder")
    miniatures.packed(miniatures.cub(tmp_path / "archive"))
    folder, archive = load(CUB, tmp_path / "folder"), load(CUB, tmp_path / "archive")
    for one, other in ((folder.train, archive.train), (folder.test, archive.test)):
        assert one is not None
        assert other is not None
        assert all((a == b).all() for a, b in zip(one.clean(7), other.clean(7), strict=True))


def test_the_official_archive_is_known_by_its_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = miniatures.packed(miniatures.cub(tmp_path)).read_bytes()
    monkeypatch.setattr(cub200, "MD5", hashlib.md5(content, usedforsecurity=False).hexdigest())
    assert "has 4 classes and 20 photos" in fault(CUB.replace(complete=True), tmp_path)
    monkeypatch.setattr(cub200, "WHOLE", ingest.Counts(CLASSES, CLASSES * EACH, CLASSES, CLASSES * EACH))
    assert len(load(CUB.replace(complete=True), tmp_path).train.labels) == 2 * EACH


def test_an_archive_puts_nothing_anywhere_and_its_links_are_no_photos(tmp_path: Path) -> None:
    folder = miniatures.cub(tmp_path)
    (folder / "images" / "001.Bird_0" / "Bird_0_0.jpg").unlink()
    link, outside = tarfile.TarInfo("CUB_200_2011/images/001.Bird_0/Bird_0_0.jpg"), tarfile.TarInfo("../outside")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    archive = miniatures.packed(folder, link, outside)
    assert "CUB_200_2011/images/001.Bird_0/Bird_0_0.jpg is listed and not there" in fault(CUB, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [archive.name, "cache"]
    assert not [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]


def linked(folder: Path, elsewhere: Path) -> Path:
    """`folder`, moved to `elsewhere` and linked from where it was."""
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)
    return folder


WHOLE: list[tuple[DatasetConfig, Callable[[Path], Path]]] = [
    (CUB, miniatures.cub),
    (CUB, lambda data_dir: miniatures.cub(data_dir) / "images"),
    (CARS, miniatures.cars),
    (CARS, miniatures.cars_devkit),
    (SOP, miniatures.sop),
    (FOLDER, miniatures.class_folders),
]


@pytest.mark.parametrize(("dataset", "make"), WHOLE)
def test_a_whole_folder_may_be_a_link(
    dataset: DatasetConfig, make: Callable[[Path], Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    linked(make(tmp_path), tmp_path_factory.mktemp("elsewhere") / "photos")
    assert len(load(dataset, tmp_path).train.labels) == 2 * EACH


def test_a_link_within_the_folder_is_a_photo(tmp_path: Path) -> None:
    folder = miniatures.class_folders(tmp_path)
    (folder / "pet 1" / "again.jpg").symlink_to(folder / "pet 0" / "1.JPG")
    assert load(FOLDER, tmp_path).train.labels.tolist() == [0] * EACH + [1] * (EACH + 1)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def break_cub(change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda data_dir: change(miniatures.cub(data_dir))


def no_labels(data_dir: Path) -> None:
    folder = miniatures.cars(data_dir)
    rows = np.zeros(2, dtype=[("fname", object), ("bbox_x1", object)])
    savemat(folder / "cars_annos.mat", {"annotations": rows, "class_names": miniatures.NAMES})


def car_class(number: object) -> Callable[[Path], object]:
    """The original layout, where the third photo's class is `number`."""

    def make(data_dir: Path) -> None:
        path = miniatures.cars(data_dir) / "cars_annos.mat"
        mat = loadmat(path, squeeze_me=True)
        mat["annotations"]["class"][2] = number
        savemat(path, {"annotations": mat["annotations"], "class_names": miniatures.NAMES})

    return make


def devkit_classes(data_dir: Path) -> None:
    """The devkit's layout, where cars_meta.mat names one class less."""
    folder = miniatures.cars_devkit(data_dir)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": miniatures.NAMES[:-1]})


def no_classes(data_dir: Path) -> None:
    """Stanford Online Products' two tables, each with nothing but its header."""
    for part in ("train", "test"):
        write(data_dir / "Stanford_Online_Products" / f"Ebay_{part}.txt", "image_id class_id super_class_id path\n")


def corrupt(make: Callable[[Path], Path], file: str) -> Callable[[Path], object]:
    return lambda data_dir: write(make(data_dir) / file, miniatures.photo(0, 0)[:300])


def corrupt_in_archive(data_dir: Path) -> None:
    folder = miniatures.cub(data_dir)
    write(folder / PHOTO, b"no photo")
    miniatures.packed(folder)


def cut_archive(data_dir: Path) -> None:
    path = miniatures.packed(miniatures.cub(data_dir))
    path.write_bytes(path.read_bytes()[:-400])


PHOTO = "images/003.Bird_2/Bird_2_1.jpg"
FAULTS: list[tuple[str, DatasetConfig, Callable[[Path], object], str]] = [
    (
        "cub absent",
        CUB,
        lambda d: None,
        r"neither CUB_200_2011 nor CUB_200_2011.tgz is there; get https://.*\(md5 97ece",
    ),
    ("cub without images.txt", CUB, break_cub(lambda f: (f / "images.txt").unlink()), r"images.txt: cannot be read"),
    (
        "cub whole",
        CUB.replace(complete=True),
        miniatures.cub,
        "has 4 classes and 20 photos, 20 of them in the first 100 classes; the whole set has 200, 11788 and 5864",
    ),
    (
        "cub whole, packed",
        CUB.replace(complete=True),
        lambda d: miniatures.packed(miniatures.cub(d)),
        f"CUB_200_2011.tgz: md5 is [0-9a-f]{{32}}, the official archive has {cub200.MD5}; delete it and fetch https://data",
    ),
    (
        "cub whole, torn",
        CUB.replace(complete=True),
        cut_archive,
        f"the official archive has {cub200.MD5}; delete it and",
    ),
    (
        "cub label",
        CUB,
        break_cub(lambda f: edit(f / "image_class_labels.txt", "5 1\n", "5 9\n")),
        "label 9, there are 4",
    ),
    ("cub word", CUB, break_cub(lambda f: edit(f / "image_class_labels.txt", "5 1\n", "5 x\n")), "'x', no number"),
    ("cub row", CUB, break_cub(lambda f: edit(f / "images.txt", "5 0", "x5 0")), "images.txt:5: 'x5 001"),
    (
        "cub no label",
        CUB,
        break_cub(lambda f: edit(f / "image_class_labels.txt", "5 1\n", "")),
        "image 5 is not in both",
    ),
    (
        "cub gap",
        CUB,
        break_cub(lambda f: edit(f / "classes.txt", "4 004", "5 004")),
        "not numbered from 1 without gaps",
    ),
    ("cub out", CUB, break_cub(lambda f: edit(f / "images.txt", "5 001.", "5 ../001.")), "'../001.* leaves the folder"),
    ("cub root", CUB, break_cub(lambda f: edit(f / "images.txt", "5 001.", "5 /001.")), "'/001.* leaves the folder"),
    ("cub photo gone", CUB, break_cub(lambda f: (f / PHOTO).unlink()), "Bird_2_1.jpg: cannot be read .* and is listed"),
    (
        "cub corrupt",
        CUB,
        break_cub(lambda f: write(f / PHOTO, b"no photo")),
        r"Bird_2_1.jpg: is no readable JPEG or PNG",
    ),
    (
        "cub torn",
        CUB,
        break_cub(lambda f: write(f / PHOTO, miniatures.photo(2, 1)[:-200])),
        r"Bird_2_1.jpg: is no readable JPEG or PNG .*truncated",
    ),
    (
        "cub link out",
        CUB,
        break_cub(lambda f: ((f / PHOTO).unlink(), (f / PHOTO).symlink_to(write(f.parent / "x.jpg", b"x")))),
        "is a link that leaves the folder; put the photo itself there, or let /.*/images itself be the link$",
    ),
    (
        "cars photos linked",
        CARS,
        lambda d: linked(miniatures.cars(d) / "car_ims", d / "elsewhere"),
        "is a link that leaves the folder; put the photo itself there, or let /.*/cars196 itself be the link$",
    ),
    (
        "folder class linked",
        FOLDER,
        lambda d: linked(miniatures.class_folders(d) / "pet 1", d / "elsewhere"),
        "is a link that leaves the folder; put the photo itself there, or let /.*/pets itself be the link$",
    ),
    ("cub corrupt in archive", CUB, corrupt_in_archive, f"tgz: CUB_200_2011/{PHOTO}: is no readable JPEG or PNG"),
    ("cub binary", CUB, break_cub(lambda f: write(f / "images.txt", b"\xff\xfe1")), "images.txt: is no text"),
    ("cub archive torn", CUB, cut_archive, "is no sound tar archive"),
    ("cub archive of nothing", CUB, lambda d: write(d / "CUB_200_2011.tgz", b"x"), "is no sound tar archive"),
    (
        "cars absent",
        CARS,
        lambda d: None,
        r"holds neither cars_annos.mat nor devkit; put there cars_annos.mat \(md5 b407",
    ),
    ("cars whole", CARS.replace(complete=True), miniatures.cars, "the whole set has 196, 16185 and 8054"),
    ("cars not mat", CARS, lambda d: write(d / "cars196/cars_annos.mat", b"x" * 300), "is no MATLAB file"),
    ("cars empty mat", CARS, lambda d: write(d / "cars196/cars_annos.mat", b""), "is no MATLAB file"),
    ("cars without labels", CARS, no_labels, "annotations have no relative_im_path and class"),
    (
        "cars without test",
        CARS,
        lambda d: (miniatures.cars_devkit(d) / "devkit" / "cars_test_annos_withlabels.mat").unlink(),
        "cars_test_annos_withlabels.mat: cannot be read",
    ),
    (
        "cars corrupt",
        CARS,
        corrupt(miniatures.cars, "car_ims/000003.jpg"),
        "car_ims/000003.jpg: is no readable JPEG or PNG",
    ),
    (
        "cars devkit corrupt",
        CARS,
        corrupt(miniatures.cars_devkit, "cars_test/00003.jpg"),
        "cars_test/00003.jpg: is no readable JPEG or PNG",
    ),
    ("cars label", CARS, car_class(5), "cars_annos.mat: car_ims/000003.jpg has label 5, there are 4 classes"),
    ("cars label 0", CARS, car_class(0), "cars_annos.mat: car_ims/000003.jpg has label 0, there are 4 classes"),
    ("cars devkit label", CARS, devkit_classes, "cars_train/00004.jpg has label 4, there are 3 classes"),
    ("cars class empty", CARS, car_class(np.array([])), r"car_ims/000003.jpg has class '\[\]', no whole number"),
    ("cars class nan", CARS, car_class(np.nan), "cars_annos.mat: car_ims/000003.jpg has class 'nan', no whole number"),
    ("cars class half", CARS, car_class(1.5), "cars_annos.mat: car_ims/000003.jpg has class '1.5', no whole number"),
    ("cars class word", CARS, car_class("BMW"), "cars_annos.mat: car_ims/000003.jpg has class 'BMW', no whole number"),
    ("sop absent", SOP, lambda d: None, "Ebay_train.txt: cannot be read .*md5 7f73d41a2f44250d4779881525aea32e"),
    ("sop whole", SOP.replace(complete=True), miniatures.sop, "the whole set has 22634, 120053 and 59551"),
    ("sop header", SOP, lambda d: edit(miniatures.sop(d) / "Ebay_train.txt", "image_id", "id"), "does not begin with"),
    ("sop row", SOP, lambda d: edit(miniatures.sop(d) / "Ebay_test.txt", "1 3 1 ", "1 3 "), "Ebay_test.txt:2: "),
    ("sop both", SOP, lambda d: edit(miniatures.sop(d) / "Ebay_test.txt", "1 3 1 ", "1 2 1 "), "product 2 is in both"),
    ("sop gap", SOP, lambda d: edit(miniatures.sop(d) / "Ebay_test.txt", "1 3 1 ", "1 9 1 "), "without gaps"),
    ("sop label 0", SOP, lambda d: edit(miniatures.sop(d) / "Ebay_train.txt", "1 1 1 ", "1 0 1 "), "without gaps"),
    ("sop corrupt", SOP, corrupt(miniatures.sop, "chair_final/1_1.JPG"), "1_1.JPG: is no readable JPEG or PNG"),
    ("sop of nothing", SOP, no_classes, "Stanford_Online_Products: names no class"),
    ("folder absent", FOLDER, lambda d: None, "pets: is no folder"),
    ("folder out", FOLDER.replace(folder="../pets"), lambda d: None, "dataset.folder: '../pets' leaves"),
    ("folder flat", FOLDER, lambda d: write(d / "pets" / "1.jpg", b""), "holds no folders"),
    (
        "folder empty class",
        FOLDER,
        lambda d: (miniatures.class_folders(d) / "pet 9").mkdir(),
        "class pet 9 has no photo",
    ),
    ("folder corrupt", FOLDER, corrupt(miniatures.class_folders, "pet 1/2.JPG"), "2.JPG: is no readable JPEG or PNG"),
    ("table corrupt", TABLE, corrupt(a_table, "pet 1/2.JPG"), "pet 1/2.JPG: is no readable JPEG or PNG"),
    ("table photo gone", TABLE, lambda d: (a_table(d) / "pet 1/2.JPG").unlink(), "2.JPG: cannot be read .* is listed"),
    ("table absent", TABLE, miniatures.class_folders, "table.csv: cannot be read as CSV"),
    ("table out", FOLDER.replace(table="../t.csv"), miniatures.class_folders, "dataset.table: '../t.csv' leaves"),
    ("table header", TABLE, lambda d: a_table(d, "file,label\nx,y\n"), "has no path and label"),
    ("table empty", TABLE, lambda d: a_table(d, "path,label\n"), "lists no photo"),
    ("table short row", TABLE, lambda d: a_table(d, "path,label\npet 0/1.JPG\n"), "table.csv:2: has not one value per"),
    (
        "table long row",
        TABLE,
        lambda d: a_table(d, "path,label\npet 0/1.JPG,a,b\n"),
        "table.csv:2: has not one value per",
    ),
    (
        "table split",
        TABLE,
        lambda d: a_table(d, "path,label,split\npet 0/1.JPG,a,dev\n"),
        "split is 'dev'; write train",
    ),
    (
        "table two splits",
        TABLE,
        lambda d: a_table(d, "path,label,split\npet 0/1.JPG,a,train\npet 0/2.JPG,a,test\n"),
        "class a is in train and in test",
    ),
    (
        "table Split",
        TABLE,
        lambda d: a_table(d, "path,label, Split\npet 0/1.JPG,a,val\n"),
        "header has ' Split'; write",
    ),
    ("table twice", TABLE, lambda d: a_table(d, "path,label\npet 0/1.JPG,a\npet 0/1.JPG,a\n"), "names a photo twice"),
    ("table outside", TABLE, lambda d: a_table(d, "path,label\n../x.jpg,a\n"), "'../x.jpg' leaves the folder"),
    ("too much", CUB.replace(cache_gib=1e-5), miniatures.cub, "dataset.cache_gib is 1e-05; raise it, or lower"),
]


@pytest.mark.parametrize(("dataset", "make", "message"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_fault_is_one_line(
    dataset: DatasetConfig, make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    import re

    make(tmp_path)
    line = fault(dataset, tmp_path)
    assert re.search(message, line), line
    assert not list((tmp_path / "cache").glob("*.photos"))
    assert not list((tmp_path / "cache").glob(".*"))
