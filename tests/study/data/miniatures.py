"""Miniatures of the photo sets' layouts: real JPEG, PNG, MAT and text files, with photos of odd sizes and modes."""

from __future__ import annotations

import io
import tarfile
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
