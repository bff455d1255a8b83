"""How the characters in ``glyphs.json`` were chosen.

Characters look alike across scripts (Latin A, Greek Alpha, Cyrillic A), within
them (c and C, once all have one size), and when an accent vanishes at 28 pixels.
A character is therefore taken only if in no style it resembles any character
taken before in any style.  ``python tests/data/glyph_choice.py`` writes the file anew.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from wheretolearn.data import glyphs
from wheretolearn.data.glyphs import fonts, renderings

MAX_RESEMBLANCE = 0.9
"""Highest correlation between slightly blurred 28-pixel renderings of two classes."""

MIN_STYLES = 4
"""A character must be in so many of the fonts."""

SCRIPTS = {
    "train": ("LATIN", "CYRILLIC", "CANADIAN"),
    "val": ("GREEK", "HEBREW", "ARABIC", "COPTIC", "OLD"),
    "test": ("GEORGIAN", "ARMENIAN", "LAO", "LISU"),
}
_PLAIN = ("WITH", "LIGATURE", "DIGRAPH", "FINAL FORM", "INITIAL FORM", "MEDIAL FORM")
_SYMBOLS = {"Nd", "Sm", "Sc", "Po"}


def split_of(character: str) -> str | None:
    """Return the split that a character could be in, by its script; None for no split."""
    name = unicodedata.name(character, "")
    category = unicodedata.category(character)
    if any(word in name for word in _PLAIN):
        return None
    for split, scripts in SCRIPTS.items():
        if name.startswith(scripts):
            return split if category in {"Lu", "Ll", "Lo"} else None
    return "train" if category in _SYMBOLS and not name.startswith(("BRAILLE", "BOX")) else None


def features(styles: np.ndarray) -> np.ndarray:
    """Return blurred, centred and normed renderings, so that a product is a correlation."""
    blurred = gaussian_filter(styles.astype(np.float32), (0, 1, 1)).reshape(len(styles), -1)
    blurred -= blurred.mean(1, keepdims=True)
    norms = np.linalg.norm(blurred, axis=1, keepdims=True)
    return blurred / np.maximum(norms, 1e-6)


def choose() -> dict[str, str]:
    """Return the characters of each split, in the order of their code points."""
    opened = fonts()
    styles = Counter(code for font in opened for code in font.get_charmap())
    candidates = [
        chr(code)
        for code, number in styles.items()
        if number >= MIN_STYLES and split_of(chr(code)) is not None
    ]
    # Small pools choose first, after the characters that readers know.
    turn = ["", "test", "val", "train"]
    candidates.sort(key=lambda c: (turn.index("" if c.isascii() else split_of(c) or ""), c))
    taken: dict[str, str] = dict.fromkeys(SCRIPTS, "")
    bank = np.zeros((0, 28 * 28), np.float32)
    for character in candidates:
        (shapes,) = renderings(character, opened, side=28)
        if not shapes.any((1, 2)).all():
            continue  # nothing to see in some style
        own = features(shapes)
        if len(bank) and (own @ bank.T).max() > MAX_RESEMBLANCE:
            continue
        bank = np.concatenate([bank, own])
        taken[split_of(character) or ""] += character
    return {split: "".join(sorted(characters)) for split, characters in taken.items()}


if __name__ == "__main__":
    text = json.dumps(choose(), ensure_ascii=False, indent=1)
    Path(glyphs.__file__).with_name("glyphs.json").write_text(text + "\n", encoding="utf-8")
