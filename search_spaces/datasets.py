"""One configuration type per dataset, the class-disjoint split, and how training images are distorted."""

from __future__ import annotations

from typing import Annotated, Literal, Self, assert_never

from pydantic import Field, model_validator

from search_spaces.base import Count, Fraction, Frozen, Index, NonNegative, Positive, Seed


class Distort(Frozen):
    """Random distortion of many images at once; each field is the half-width or sd of one draw per image.

    rotation_degrees; scale, shear, shift as shares of the image; elastic: sd of a 5 x 5 displacement grid, in half
    image widths; contrast_low: ink is multiplied by U(contrast_low, 1); background: amplitude of a smooth background;
    noise: sd of pixel noise, gray values in [0, 1]. The defaults are the affine part alone, which suits training on
    images that are distorted, handwritten or photographed already.
    """

    kind: Literal["distort"] = "distort"
    rotation_degrees: NonNegative = 10.0
    scale: NonNegative = 0.12
    shear: NonNegative = 0.15
    shift: NonNegative = 0.05
    elastic: NonNegative = 0.0
    contrast_low: Annotated[float, Field(gt=0, le=1)] = 1.0
    background: NonNegative = 0.0
    noise: NonNegative = 0.0


class NoAugment(Frozen):
    """Training images as they are."""

    kind: Literal["none"] = "none"


class RandomResizedCrop(Frozen):
    """For photos: a random rectangle, resized to the network's square, then flipped with probability `flip`.

    area: shares of the photo's area between which the rectangle's is drawn; aspect: width / height, drawn evenly in its
    logarithm. As torchvision's of that name: ten tries, then the central rectangle that fits.
    """

    kind: Literal["random_resized_crop"] = "random_resized_crop"
    area: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.08, 1.0)
    aspect: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    flip: Fraction = 0.5

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for name, (low, high) in (("area", self.area), ("aspect", self.aspect)):
            if low > high:
                raise ValueError(f"{name}: {low} is above {high}; give the smaller one first")
        return self


class RandomCrop(Frozen):
    """For photos: a random square of the network's side, not resized, flipped with probability `flip`."""

    kind: Literal["random_crop"] = "random_crop"
    flip: Fraction = 0.5


AugmentConfig = Annotated[Distort | RandomResizedCrop | RandomCrop | NoAugment, Field(discriminator="kind")]


class Glyphs(Frozen):
    """Characters drawn by us from 12 DejaVu faces, 32 x 32 gray, one image per class and face. No download.

    max_similarity: a character whose mean cosine over the faces with an already kept one exceeds this is dropped, so
    that every class is distinct. distortion: done to each image once, when the dataset is drawn, by `seed`; without it
    printed characters are so alike that every network finds them.
    """

    kind: Literal["glyphs"] = "glyphs"
    max_similarity: Annotated[float, Field(gt=0, le=1)] = 0.92
    distortion: Annotated[Distort | NoAugment, Field(discriminator="kind")] = Distort(
        elastic=0.06, contrast_low=0.4, background=0.35, noise=0.12
    )
    seed: Seed = 0


class Digits(Frozen):
    """scikit-learn's 8 x 8 digits, 10 classes, enlarged to 32 x 32. images_per_class caps the number used."""

    kind: Literal["digits"] = "digits"
    images_per_class: Annotated[int, Field(ge=2)] = 100


class Omniglot(Frozen):
    """Handwritten characters (Lake et al. 2015), 20 drawings a class, 32 x 32 gray.

    sets: the official archives to read from the data folder, in sorted (alphabet, character) order; a character that
    two archives hold counts once.
    """

    kind: Literal["omniglot"] = "omniglot"
    sets: Annotated[
        tuple[
            Literal["images_background_small1", "images_background_small2", "images_background", "images_evaluation"],
            ...,
        ],
        Field(min_length=1),
    ] = ("images_background_small1", "images_background_small2")


ImagesCap = Annotated[Count, Field(ge=2)] | None
"""How many images of each class to use, its first ones; None all."""


class MnistLike(Frozen):
    """MNIST, Fashion-MNIST or KMNIST: 10 classes, 28 x 28 gray padded to 32 x 32, train and test files together.

    complete: refuse a copy that has not all 70,000 images.
    """

    kind: Literal["mnist", "fashion_mnist", "kmnist"]
    images_per_class: ImagesCap = None
    complete: bool = True


class Emnist(Frozen):
    """Handwritten letters and digits (Cohen et al. 2017), as MnistLike, upright.

    part: balanced has 47 classes, letters 26 (upper and lower case together), digits 10, byclass 62, bymerge 47.
    """

    kind: Literal["emnist"] = "emnist"
    part: Literal["balanced", "letters", "digits", "byclass", "bymerge"] = "balanced"
    images_per_class: ImagesCap = None
    complete: bool = True


class PhotoSet(Frozen):
    """Base of all sets of colored photos of any size.

    shorter_side: pixels to which each photo's shorter side is resized, once, when the set is first read; side: of the
    square that the network sees, cropped from that. cache_gib: refuse to keep more decoded pixels than this.
    """

    shorter_side: Annotated[int, Field(ge=8, le=4096)] = 256
    side: Annotated[int, Field(ge=8, le=4096)] = 224
    cache_gib: Positive = 40.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.side > self.shorter_side:
            raise ValueError(f"side: {self.side} is above shorter_side={self.shorter_side}; lower it")
        return self


class Cub200(PhotoSet):
    """CUB-200-2011 (Wah et al. 2011): 200 birds, 11,788 photos, read from CUB_200_2011 or CUB_200_2011.tgz.

    complete: refuse a copy that has not all photos, or an archive that is not the official one.
    """

    kind: Literal["cub200"] = "cub200"
    complete: bool = True


class Cars196(PhotoSet):
    """Cars-196 (Krause et al. 2013): 196 models, 16,185 photos, read from the folder cars196.

    Either the original layout, cars_annos.mat and car_ims, or the devkit's, cars_train and cars_test. complete: refuse
    a copy that has not all photos.
    """

    kind: Literal["cars196"] = "cars196"
    complete: bool = True


class Sop(PhotoSet):
    """Stanford Online Products (Oh Song et al. 2016): 22,634 products, 120,053 photos.

    Read from the folder Stanford_Online_Products. complete: refuse a copy that has not all photos.
    """

    kind: Literal["sop"] = "sop"
    complete: bool = True


class ImageFolder(PhotoSet):
    """Photos of one's own in a folder below the data folder.

    table: None takes each folder directly below as a class; else the name of a CSV file in the folder, with a header,
    columns path (from the folder) and label, and perhaps split (train, val or test, one per class). Classes come in
    sorted order, by split first, so that a Split with `order: label` and those numbers of classes is that split. A
    Split that would shuffle them, or take a class as another part than the table says, is refused.
    """

    kind: Literal["image_folder"] = "image_folder"
    folder: Annotated[str, Field(min_length=1)]
    table: Annotated[str, Field(min_length=1)] | None = None


Drawings = Glyphs | Digits | Omniglot | MnistLike | Emnist
DatasetConfig = Annotated[Drawings | Cub200 | Cars196 | Sop | ImageFolder, Field(discriminator="kind")]

_MNIST_IMAGES = 7000
_EMNIST_IMAGES = {"balanced": 2800, "letters": 5600, "digits": 28000, "byclass": 13133, "bymerge": 17325}


def images_per_class(dataset: DatasetConfig) -> int:
    """Mean number of images in a class of `dataset`, as far as it is known without looking, to estimate costs."""
    match dataset:
        case Glyphs():
            return 12
        case Omniglot():
            return 20
        case Digits():
            return dataset.images_per_class
        case MnistLike():
            return dataset.images_per_class or _MNIST_IMAGES
        case Emnist():
            return dataset.images_per_class or _EMNIST_IMAGES[dataset.part]
        case Cub200():
            return 59
        case Cars196():
            return 83
        case Sop():
            return 5
        case ImageFolder():
            return 50  # nothing is known without looking
        case _:
            assert_never(dataset)


class Split(Frozen):
    """Class-disjoint train, val and test classes.

    The classes are put in an order ('label': the dataset's own; 'seeded': shuffled by `seed`). Test takes the last
    test_classes of it, val the val_classes before those, train the first train_classes. So val and test stay the same
    when the number of training classes varies. val_classes 0 is the thesis's way: choices are then made on test.
    """

    order: Literal["seeded", "label"] = "seeded"
    seed: Seed = 0
    train_classes: Annotated[int, Field(ge=2)]
    val_classes: Index
    test_classes: Index

    @property
    def classes(self) -> int:
        """Number of classes that the split needs of its dataset."""
        return self.train_classes + self.val_classes + self.test_classes


class Batches(Frozen):
    """How a training epoch is cut into batches.

    size: images a batch, the last partial one kept. images_per_class: None shuffles all images; a number k makes P x k
    batches, P = size / k classes, which pair losses need (they take 4 where this is None).
    """

    size: Annotated[int, Field(ge=2)] = 32
    images_per_class: Annotated[Count, Field(ge=2)] | None = None
