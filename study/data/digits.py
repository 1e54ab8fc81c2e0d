"""scikit-learn's handwritten digits: ten classes that come with the package."""

from __future__ import annotations

import numpy as np
from PIL import Image

from search_spaces.datasets import Digits
from study.data.arrays import ClassImages

SIDE = 32
_INK = 16.0  # largest gray value in scikit-learn's 8 x 8 images


def load(config: Digits) -> ClassImages:
    """The first `images_per_class` images of each digit (fewer where there are fewer), enlarged to 32 x 32."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    indices = np.concatenate([np.flatnonzero(digits.target == digit)[: config.images_per_class] for digit in range(10)])
    small = np.round(digits.images[indices] * (255.0 / _INK)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in small]
    return ClassImages(
        np.stack(large), digits.target[indices].astype(np.int64), tuple(str(digit) for digit in range(10))
    )
