"""A labelled image set: what every sampler of tasks draws from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images by class, with classes by split.

    Images of the class at index ``c`` are ``images[offsets[c]:offsets[c + 1]]``.
    """

    name: str
    """Name under which it was loaded."""
    images: np.ndarray
    """Read-only memory map of pixels, uint8 [N, H, W, C], rows sorted by class."""
    classes: tuple[str, ...]
    """Class names, sorted."""
    offsets: np.ndarray
    """First row of each class, and the number of rows; int64 [len(classes) + 1]."""
    splits: dict[str, tuple[int, ...]]
    """Class indices of "train", "val" and "test"; no class is in two of them."""
    mean: tuple[float, ...]
    """Mean of each channel, for pixels in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation of each channel, for pixels in [0, 1]."""
    rotations: bool
    """Whether quarter turns of a class count as classes of their own (Omniglot)."""
    fingerprint: str
    """SHA-256 of the pixels, the class names and the splits."""
    note: str = ""
    """What to say wherever results on this set are shown; empty if nothing."""
