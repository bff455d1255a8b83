"""Glyphs: few-shot characters that need no download.

Characters of several scripts are rendered from the twelve DejaVu text fonts that
Matplotlib ships, brought to one size, and bent, slanted and thickened like
handwriting.  Scripts are divided among the splits, so that a learner is tested
on scripts that it has never seen: Latin, Cyrillic, Canadian syllabics and
symbols for training, Greek, Hebrew, Arabic, Coptic and Old Italic for validation,
Georgian, Armenian, Lao and Lisu for testing.  Which of their characters are
used is settled in ``glyphs.json``, made by ``tests/data/glyph_choice.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .cache import Picture

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

FONTS = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, slanted in (("Sans", "Oblique"), ("Serif", "Italic"), ("SansMono", "Oblique"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)

CHARACTERS: dict[str, str] = json.loads(
    resources.files(__package__).joinpath("glyphs.json").read_text(encoding="utf-8")
)
"""The characters of each split."""

CLASSES = sum(map(len, CHARACTERS.values()))
PER_CLASS = 20
SEED = 2021
RECIPE = [metadata.version("matplotlib"), 1, SEED, PER_CLASS, CHARACTERS]
"""What the images depend on; the first number is raised with the code."""

_SIDE = 64  # pixels of a rendering
_INK = 0.64  # longer side of the ink, as a part of the rendering
_CHUNK = 500  # images that are distorted at once


def fonts() -> list[FT2Font]:
    """Open the fonts."""
    import matplotlib  # noqa: PLC0415 - a fifth of a second, where glyphs are not drawn
    from matplotlib.ft2font import FT2Font  # noqa: PLC0415

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    opened = [FT2Font(str(folder / name)) for name in FONTS]
    for font in opened:
        font.set_size(64, 72)
    return opened


def render(font: FT2Font, character: str, side: int = _SIDE) -> np.ndarray:
    """Render one character, centred and brought to one size."""
    from matplotlib.ft2font import LoadFlags  # noqa: PLC0415

    font.set_text(character, 0, flags=LoadFlags.NO_HINTING)
    font.draw_glyphs_to_bitmap(antialiased=True)
    ink = np.asarray(font.get_image(), dtype=np.uint8)
    rows, columns = np.flatnonzero((ink > 32).any(1)), np.flatnonzero((ink > 32).any(0))
    page = np.zeros((side, side), np.uint8)
    if len(rows) == 0:
        return page
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = _INK * side / max(ink.shape)
    height, width = (max(1, round(length * scale)) for length in ink.shape)
    fitted = Image.fromarray(ink).resize((width, height), Image.Resampling.LANCZOS)
    top, left = (side - height) // 2, (side - width) // 2
    page[top : top + height, left : left + width] = np.asarray(fitted)
    return page


def renderings(characters: str, opened: list[FT2Font], side: int = _SIDE) -> list[np.ndarray]:
    """Render each character in every font that has it."""
    maps = [font.get_charmap() for font in opened]
    return [
        np.stack(
            [
                render(font, c, side)
                for font, known in zip(opened, maps, strict=True)
                if ord(c) in known
            ]
        )
        for c in characters
    ]


def draw(image_size: int) -> Iterator[Picture]:
    """Draw all images; the same ones at every call."""
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415

    rng = np.random.default_rng(SEED)
    opened = fonts()
    for split, characters in CHARACTERS.items():
        labels, pages = [], []
        for character, styles in zip(characters, renderings(characters, opened), strict=True):
            smooth = gaussian_filter(styles.astype(np.float32) / 255, (0, 1.2, 1.2))
            # each style in turn, in random order
            turns = rng.permutation(PER_CLASS) % len(styles)
            pages.append(smooth[turns])
            labels += [f"{character} U+{ord(character):04X}"] * PER_CLASS
        sources = np.concatenate(pages)  # [classes * PER_CLASS, _SIDE, _SIDE]
        for start in range(0, len(sources), _CHUNK):
            images = distort(sources[start : start + _CHUNK], image_size, rng)
            for row, pixels in enumerate(images, start):
                yield Picture(split, labels[row], f"{row:06}", pixels[:, :, None])


def distort(sources: np.ndarray, image_size: int, rng: np.random.Generator) -> np.ndarray:
    """Bend, slant, move and thicken renderings, each in its own way."""
    count, side = len(sources), sources.shape[1]
    angle = rng.uniform(-0.2, 0.2, count)  # radians
    slant = rng.uniform(-0.2, 0.2, count)
    stretch = rng.uniform(0.85, 1.05, (2, count))
    shift = rng.uniform(-0.04, 0.04, (2, count))
    waves = rng.normal(0, 0.012, (2, 2, 2, count))  # (axis moved, wave along, sine or cosine)
    threshold = rng.uniform(0.22, 0.5, count)

    fine = image_size * (2 if image_size < 48 else 1)
    line = ((np.arange(fine) + 0.5) / fine - 0.5).astype(np.float32)
    v, u = np.meshgrid(line, line, indexing="ij")  # where to draw, in [-0.5, 0.5]

    def each(numbers: np.ndarray) -> np.ndarray:
        return numbers.astype(np.float32)[:, None, None]

    # Where to look, [N, fine, fine]: the inverse of move, turn, slant, stretch.
    dx, dy = u - each(shift[0]), v - each(shift[1])
    cos, sin = each(np.cos(angle)), each(np.sin(angle))
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    x = (x - each(slant) * y) / each(stretch[0])
    y = y / each(stretch[1])
    bends = []
    for moved in range(2):
        bend = np.zeros((count, fine, fine), np.float32)
        for along, where in enumerate((2 * np.pi * u, 2 * np.pi * v)):
            sine, cosine = waves[moved, along]
            bend += each(sine) * np.sin(where) + each(cosine) * np.cos(where)
        bends.append(bend)

    value = _bilinear(sources, (x + bends[0] + 0.5) * side - 0.5, (y + bends[1] + 0.5) * side - 0.5)
    ink = np.clip((value - each(threshold)) * 4 + 0.5, 0, 1)
    step = fine // image_size
    ink = ink.reshape(count, image_size, step, image_size, step).mean((2, 4))
    return np.round(255 * ink).astype(np.uint8)


def _bilinear(sources: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Look up [N, S, S] at pixel positions [N, F, F]; outside is 0."""
    padded = np.pad(sources, ((0, 0), (1, 2), (1, 2)))
    side = padded.shape[1]
    x = np.clip(x + 1, 0, side - 1.001).astype(np.float32)
    y = np.clip(y + 1, 0, side - 1.001).astype(np.float32)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x -= left
    y -= top
    corner = np.arange(len(sources), dtype=np.int32)[:, None, None] * side**2 + top * side + left
    flat = padded.ravel()
    above = flat[corner] * (1 - x) + flat[corner + 1] * x
    below = flat[corner + side] * (1 - x) + flat[corner + side + 1] * x
    return above * (1 - y) + below * y
