"""One configuration type per dataset, the class-disjoint split, and how training images are distorted."""

from __future__ import annotations

from typing import Annotated, Literal, assert_never

from pydantic import Field

from search_spaces.base import Count, Frozen, Index, NonNegative, Seed


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


AugmentConfig = Annotated[Distort | NoAugment, Field(discriminator="kind")]


class Glyphs(Frozen):
    """Characters drawn by us from 12 DejaVu faces, 32 x 32 gray, one image per class and face. No download.

    max_similarity: a character whose mean cosine over the faces with an already kept one exceeds this is dropped, so
    that every class is distinct. distortion: done to each image once, when the dataset is drawn, by `seed`; without it
    printed characters are so alike that every network finds them.
    """

    kind: Literal["glyphs"] = "glyphs"
    max_similarity: Annotated[float, Field(gt=0, le=1)] = 0.92
    distortion: AugmentConfig = Distort(elastic=0.06, contrast_low=0.4, background=0.35, noise=0.12)
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


DatasetConfig = Annotated[Glyphs | Digits | Omniglot | MnistLike | Emnist, Field(discriminator="kind")]

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
