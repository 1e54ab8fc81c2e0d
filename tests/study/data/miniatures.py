"""Miniatures of the sets' layouts: real JPEG, PNG, MAT, idx, zip and text files, with photos of odd sizes and modes."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

CLASSES = 4
EACH = 5
COLORS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (180, 180, 30)]
SIZES = [(60, 40), (41, 67), (50, 50), (33, 90), (120, 37)]  # width, height


def photo(label: int, image: int, mode: str = "RGB", kind: str = "JPEG", exif: Image.Exif | None = None) -> bytes:
    """A plain photo of its class's color, with a light upper left quarter."""
    width, height = SIZES[image % len(SIZES)]
    pixels = np.full((height, width, 3), COLORS[label % len(COLORS)], dtype=np.uint8)
    pixels[: height // 2, : width // 2] = 250
    data = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(data, kind, **({} if exif is None else {"exif": exif}))
    return data.getvalue()


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def cub(data_dir: Path) -> Path:
    """CUB_200_2011: 4 classes of 5; one photo gray, one CMYK. Numbers of images do not follow the classes."""
    folder = data_dir / "CUB_200_2011"
    images, classes = [], []
    for number in range(1, CLASSES * EACH + 1):
        image, label = divmod(number - 1, CLASSES)
        file = f"{label + 1:03}.Bird_{label}/Bird_{label}_{image}.jpg"
        mode = {0: "L", 1: "CMYK"}.get(number - 1, "RGB")
        write(folder / "images" / file, photo(label, image, mode))
        images.append(f"{number} {file}\n")
        classes.append(f"{number} {label + 1}\n")
    write(folder / "images.txt", "".join(images))
    write(folder / "image_class_labels.txt", "".join(classes))
    write(folder / "classes.txt", "".join(f"{label + 1} {label + 1:03}.Bird_{label}\n" for label in range(CLASSES)))
    return folder


def packed(folder: Path, *extra: tarfile.TarInfo) -> Path:
    """`folder` as .tgz beside it, photos first, without the folder; extra: members that carry no data."""
    path = folder.with_suffix(".tgz")
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.rglob("*")):
            archive.add(file, f"{folder.name}/{file.relative_to(folder)}", recursive=False)
        for member in extra:
            archive.addfile(member)
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()
    return path


NAMES = np.array([f"Car {label}" for label in range(CLASSES)], dtype=object)


def _struct(rows: list[tuple[str, int]], field: str) -> np.ndarray:
    array = np.zeros(len(rows), dtype=[(field, object), ("bbox_x1", object), ("class", object), ("test", object)])
    for place, (file, label) in enumerate(rows):
        array[place] = (file, 1.0, float(label), 0.0)
    return array


def cars(data_dir: Path) -> Path:
    """cars196, original layout."""
    folder = data_dir / "cars196"
    rows = []
    for number in range(1, CLASSES * EACH + 1):
        label = (number - 1) % CLASSES
        write(folder / "car_ims" / f"{number:06}.jpg", photo(label, number))
        rows.append((f"car_ims/{number:06}.jpg", label + 1))
    savemat(folder / "cars_annos.mat", {"annotations": _struct(rows, "relative_im_path"), "class_names": NAMES})
    return folder


def cars_devkit(data_dir: Path, test_beside: bool = False) -> Path:
    """cars196, devkit layout: file names repeat between train and test."""
    folder = data_dir / "cars196"
    (folder / "devkit").mkdir(parents=True)
    for part, images in (("train", 3), ("test", 2)):
        rows = []
        for number in range(1, CLASSES * images + 1):
            label = (number - 1) % CLASSES
            write(folder / f"cars_{part}" / f"{number:05}.jpg", photo(label, number))
            rows.append((f"{number:05}.jpg", label + 1))
        name = "cars_train_annos.mat" if part == "train" else "cars_test_annos_withlabels.mat"
        place = folder if test_beside and part == "test" else folder / "devkit"
        savemat(place / name, {"annotations": _struct(rows, "fname")})
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": NAMES})
    return folder


def sop(data_dir: Path) -> Path:
    """Stanford_Online_Products: products 1 and 2 train, 3 and 4 test."""
    folder = data_dir / "Stanford_Online_Products"
    for part, labels in (("train", (0, 1)), ("test", (2, 3))):
        lines = ["image_id class_id super_class_id path\n"]
        for label in labels:
            for image in range(EACH):
                file = f"chair_final/{label}_{image}.JPG"
                write(folder / file, photo(label, image))
                lines.append(f"{len(lines)} {label + 1} 1 {file}\n")
        write(folder / f"Ebay_{part}.txt", "".join(lines))
    return folder


def class_folders(data_dir: Path) -> Path:
    """pets: a folder per class, JPEG and PNG, and a text that is no photo."""
    folder = data_dir / "pets"
    for label in range(CLASSES):
        for image in range(EACH):
            kind, ending = ("PNG", "png") if image == 0 else ("JPEG", "JPG")
            write(folder / f"pet {label}" / f"{image}.{ending}", photo(label, image, kind=kind))
    write(folder / "pet 0" / "notes.txt", "none")
    return folder


def split_table(data_dir: Path) -> Path:
    """pets with table.csv: classes ant and bee train, cat val, dog test."""
    folder = class_folders(data_dir)
    rows = [("pet 0", "ant", "train"), ("pet 1", "bee", "train"), ("pet 2", "cat", "val"), ("pet 3", "dog", "test")]
    lines = [f"{place}/{image}.JPG,{label},{split}\n" for image in (1, 2) for place, label, split in rows]
    write(folder / "table.csv", "path,label,split\n" + "".join(lines))
    return folder


def idx(array: np.ndarray) -> bytes:
    """Unsigned bytes in the idx format: 0, 0, type 8, number of dimensions, then each as 4 bytes, big end first."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def idx_files(raw: Path, images: str, labels: str, classes: list[int]) -> None:
    """An image per class given, of gray value 10 + its class, its upper right pixel 200."""
    pixels = np.stack([np.full((28, 28), 10 + label) for label in classes])
    pixels[:, 0, 27] = 200
    write(raw / images, idx(pixels))
    write(raw / labels, idx(np.array(classes)))


def mnist(data_dir: Path, folder: str = "MNIST", train: list[int] | None = None) -> Path:
    """MNIST or a set in its layout: one or two images of each class."""
    raw = data_dir / folder / "raw"
    idx_files(raw, "train-images-idx3-ubyte", "train-labels-idx1-ubyte", train or [*range(9, -1, -1), 3])
    idx_files(raw, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", [3, 0])
    return raw


def emnist_letters(data_dir: Path) -> Path:
    """EMNIST's letters, a train and a test image of each."""
    raw = data_dir / "EMNIST" / "raw"
    for part in ("train", "test"):
        names = (f"emnist-letters-{part}-images-idx3-ubyte", f"emnist-letters-{part}-labels-idx1-ubyte")
        idx_files(raw, *names, classes=list(range(1, 27)))
    return raw


def drawing(side: int = 105, ink: tuple[slice, slice] = (slice(0, 50), slice(0, 105))) -> bytes:
    """A PNG as Omniglot's, black ink on white."""
    white = np.ones((side, side), dtype=bool)
    white[ink] = False
    data = io.BytesIO()
    Image.fromarray(white).save(data, "PNG")
    return data.getvalue()


def zipped(path: Path, files: dict[str, bytes], mode: int = 0o100644) -> Path:
    """A zip archive of `files`, each of the kind that `mode` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            file.writestr(member, content)
    return path


def omniglot(data_dir: Path) -> Path:
    """images_background_small1: 4 characters of 2 drawings."""
    name = "images_background_small1"
    files = {
        f"{name}/Greek/character{label:02}/0394_{image:02}.png": drawing(ink=(slice(0, 20 * label + image), slice(105)))
        for label in range(1, CLASSES + 1)
        for image in (1, 2)
    }
    return zipped(data_dir / "omniglot" / f"{name}.zip", files)
