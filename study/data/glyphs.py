"""Characters drawn from the DejaVu fonts that matplotlib carries: many classes, twelve images each, no download."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont, features

from search_spaces.datasets import Distort, Glyphs, NoAugment
from study.data.arrays import ClassImages, DataError, cached
from study.data.augment import distort
from study.data.draws import generator

VERSION = 2
FACES = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, styles in {
        "Sans": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "SansMono": ("", "-Bold", "-Oblique", "-BoldOblique"),
        "Serif": ("", "-Bold", "-Italic", "-BoldItalic"),
    }.items()
    for style in styles
)
SIDE = 32
_FONT_PIXELS = 24
_DISTORTED_TOGETHER = 1024
# Letters, numbers, punctuation and symbols, without modifiers: those are tiny marks that look alike.
_CATEGORIES = "LNPS"
_EXCLUDED = ("Lm", "Sk")


def load(config: Glyphs, cache_dir: Path) -> ClassImages:
    """All glyph classes in code point order, (N, 32, 32), face by face within a class.

    What is drawn depends on the versions of FreeType and of Unicode's tables, so both are in the cache's key.
    Raises: DataError if matplotlib's fonts are not where it keeps them, or the cache folder cannot be written.
    """
    key = f"{VERSION}|{config.model_dump_json()}|{features.version('freetype2')}|{unicodedata.unidata_version}"
    return cached(cache_dir, "glyphs", key, lambda: _draw(config))


def _draw(config: Glyphs) -> ClassImages:
    import matplotlib  # only when drawing: a cached dataset must not pay for it

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    if missing := [face for face in FACES if not (folder / face).is_file()]:
        raise DataError(f"{folder}: matplotlib's font {missing[0]} is missing; reinstall matplotlib")
    paths = [folder / face for face in FACES]
    characters, images = _render(_common_characters(paths), paths)
    kept = distinct_classes(images, config.max_similarity)
    drawn = images[kept].reshape(-1, SIDE, SIDE)
    return ClassImages(
        pixels=distorted(drawn, config.distortion, config.seed),
        labels=np.repeat(np.arange(len(kept), dtype=np.int64), len(FACES)),
        names=tuple(f"U+{ord(characters[index]):04X}" for index in kept),
    )


def distorted(drawn: npt.NDArray[np.uint8], config: Distort | NoAugment, seed: int) -> npt.NDArray[np.uint8]:
    """(N, 32, 32) images, each distorted once, by draws of its own."""
    if isinstance(config, NoAugment):
        return drawn
    draws = generator(seed, "glyphs")
    chunks = [
        distort(chunk.unsqueeze(1).float().div_(255.0), config, draws)
        for chunk in torch.split(torch.from_numpy(drawn), _DISTORTED_TOGETHER)
    ]
    pixels: npt.NDArray[np.uint8] = torch.cat(chunks).squeeze(1).mul_(255.0).round_().to(torch.uint8).numpy()
    return pixels


def _common_characters(paths: list[Path]) -> list[str]:
    """Characters that every face holds, in code point order, of the categories that we draw."""
    from matplotlib.ft2font import FT2Font

    common = set.intersection(*(set(FT2Font(str(path)).get_charmap()) for path in paths))
    characters = [chr(code) for code in sorted(common) if code <= sys.maxunicode]
    categories = [unicodedata.category(character) for character in characters]
    return [
        character
        for character, category in zip(characters, categories, strict=True)
        if category[0] in _CATEGORIES and category not in _EXCLUDED
    ]


def _render(characters: list[str], paths: list[Path]) -> tuple[list[str], npt.NDArray[np.uint8]]:
    """The characters that fit, are not blank, in every face, and their images (n, faces, 32, 32)."""
    fonts = [ImageFont.truetype(str(path), _FONT_PIXELS, layout_engine=ImageFont.Layout.BASIC) for path in paths]
    fitting, drawn = [], []
    for character in characters:
        faces = [_render_one(character, font) for font in fonts]
        if all(face is not None for face in faces):
            fitting.append(character)
            drawn.append(np.stack([face for face in faces if face is not None]))
    return fitting, np.stack(drawn)


def _render_one(character: str, font: ImageFont.FreeTypeFont) -> npt.NDArray[np.uint8] | None:
    """One image, centered by its bounding box; None if it is blank or does not fit whole."""
    left, top, right, bottom = font.getbbox(character)
    if right - left > SIDE or bottom - top > SIDE:
        return None
    image = Image.new("L", (SIDE, SIDE))
    origin = ((SIDE - (left + right)) // 2, (SIDE - (top + bottom)) // 2)
    ImageDraw.Draw(image).text(origin, character, fill=255, font=font)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels if pixels.any() else None


def distinct_classes(images: npt.NDArray[np.uint8], max_similarity: float) -> list[int]:
    """Indices of the classes kept, in order: one is dropped if it is too similar to a class that is kept already.

    Args: images (n, faces, H, W). Similarity of two classes: the mean over the faces of the images' cosine.
    """
    flat = images.reshape(*images.shape[:2], -1).astype(np.float32)
    flat /= np.linalg.norm(flat, axis=2, keepdims=True)
    joined = flat.reshape(len(flat), -1) / np.float32(np.sqrt(images.shape[1]))
    similarity = joined @ joined.T
    kept: list[int] = []
    for index in range(len(images)):
        if not kept or similarity[index, kept].max() <= max_similarity:
            kept.append(index)
    return kept
