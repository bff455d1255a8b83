r"""Streams that move the pixels of one data set: Rotations, Permutations, Many Permutations.

Task `t` shows the same ten digits with their pixels put elsewhere: rotated by an angle
drawn from :math:`U[t/T, (t+1)/T] \cdot 180` degrees, or shuffled by a permutation of its
own (Lopez-Paz and Ranzato, 2017; Riemer et al., 2019).  Either is a list that says for
each pixel where it comes from, so a stream needs no more memory than the data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ...data import glyphs, mnist_arrays
from ...data.idx import CONTENT_MD5
from ...suggestions import closest
from ...types import Batch
from .stream import Stream

HELD_OUT = 15_000
"""Training images of MNIST that no study stream uses: 10,000 to learn from and 5,000 to test on,
in the validation streams."""


class Images(NamedTuple):
    """Labelled images, and what they depend on."""

    train: tuple[np.ndarray, np.ndarray]
    """uint8 [N, S, S] and labels [N]."""
    test: tuple[np.ndarray, np.ndarray]
    fingerprint: str


@dataclass(frozen=True)
class Recipe:
    """How many tasks, of how many samples, and what happens to the pixels."""

    tasks: int
    samples: int
    """Training samples of a task."""
    move: Callable[[int, int, int, np.random.Generator], np.ndarray]
    """``move(task, tasks, side, rng)``: see :func:`rotation`."""


def rotation(task: int, tasks: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return where each pixel of a square image comes from when it is rotated, [side * side].

    The nearest pixel is taken; they are counted from 1, and 0 is outside, and black.
    """
    angle = 180 * (task + rng.random()) / tasks
    pixels = np.arange(1, side * side + 1, dtype=np.int32).reshape(side, side)
    return np.asarray(Image.fromarray(pixels).rotate(angle)).ravel()


def permutation(task: int, tasks: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return where each pixel of a shuffled image comes from; as :func:`rotation`."""
    return rng.permutation(side * side) + 1


RECIPES = {
    "rotations": Recipe(20, 1000, rotation),
    "permutations": Recipe(20, 1000, permutation),
    "many-permutations": Recipe(100, 200, permutation),
    "glyph-rotations": Recipe(5, 200, rotation),
}
"""Streams by name; the last is small and embedded, the others are made of MNIST."""

MNIST_STREAMS = tuple(RECIPES)[:3]


class PixelStream(Stream):
    """A stream whose tasks are one data set of square grey images with its pixels moved.

    The seed is that of the moves, and of which samples arrive in which order.
    """

    def __init__(self, name: str, images: Images, recipe: Recipe, seed: int) -> None:
        for pixels, labels in (images.train, images.test):
            if pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2] or pixels.dtype != np.uint8:
                raise ValueError(
                    f"{name}: square grey images of bytes expected, [N, S, S], "
                    f"found {list(pixels.shape)} of {pixels.dtype}"
                )
            if len(pixels) != len(labels):
                raise ValueError(f"{name}: {len(pixels)} images, but {len(labels)} labels")
        if not 0 < recipe.samples <= len(images.train[0]):
            raise ValueError(
                f"{name}: {recipe.samples} training samples a task asked for, "
                f"{len(images.train[0])} images are there"
            )
        self._side = images.train[0].shape[1]
        self._recipe, self._seed = recipe, seed
        # one row for each pixel, the first one black: moving pixels is choosing rows
        self._images = [
            (
                torch.from_numpy(np.pad(pixels.reshape(len(pixels), -1).T, ((1, 0), (0, 0)))),
                torch.from_numpy(labels.astype(np.int64)),
            )
            for pixels, labels in (images.train, images.test)
        ]
        classes = int(images.train[1].max()) + 1
        super().__init__(
            name,
            tasks=recipe.tasks,
            classes=classes,
            shape=(self._side**2,),
            fingerprint=images.fingerprint,
        )

    def _rng(self, task: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, task, purpose])

    def _moved(self, task: int, pixels: torch.Tensor, labels: torch.Tensor) -> Batch:
        source = self._recipe.move(task, len(self), self._side, self._rng(task, 0))
        rows = pixels.index_select(0, torch.from_numpy(source.astype(np.int64)))  # [S * S, n]
        return Batch(rows.t() / 255, labels)

    def _train(self, task: int) -> Batch:
        pixels, labels = self._images[0]
        order = self._rng(task, 1).permutation(len(labels))[: self._recipe.samples]
        chosen = torch.from_numpy(order)
        inputs, targets = self._moved(task, pixels.index_select(1, chosen), labels[chosen])
        return Batch(inputs.contiguous(), targets)

    def _test(self, task: int, limit: int | None) -> Batch:
        pixels, labels = self._images[1]
        return self._moved(task, pixels[:, :limit], labels[:limit])


def make_stream(
    name: str, seed: int, *, validation: bool = False, root: Path | None = None
) -> PixelStream:
    """Make a stream by name, a key of :data:`RECIPES`.

    Parameters
    ----------
    name, seed
        What to make; the seed is 0 or more.
    validation : bool, default False
        Make it of images that the others never use, and with other moves: to choose
        hyper-parameters on.
    root : Path, optional
        Folder of raw data, see :func:`wheretolearn.data.data_root`.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown stream {name!r}{closest(name, RECIPES)}")
    images = glyph_digits(validation) if name == "glyph-rotations" else mnist(root, validation)
    return PixelStream(name, images, RECIPES[name], 2 * seed + validation)


@lru_cache(maxsize=1)
def mnist(root: Path | None, validation: bool) -> Images:
    """Return MNIST: for study streams all but the held-out images, or those alone."""
    images, labels, test_images, test_labels = mnist_arrays(root)
    order = np.random.default_rng(0).permutation(len(images))
    held, study = order[:HELD_OUT], order[HELD_OUT:]
    fingerprint = " ".join([*CONTENT_MD5["mnist"], "validation" if validation else "study"])
    if not validation:
        # the halves of the file come from different writers: a part would not be like the whole
        order = np.random.default_rng(1).permutation(len(test_images))
        test = test_images[order], test_labels[order]
        return Images((images[study], labels[study]), test, fingerprint)
    learn, judge = held[: HELD_OUT * 2 // 3], held[HELD_OUT * 2 // 3 :]
    return Images((images[learn], labels[learn]), (images[judge], labels[judge]), fingerprint)


@lru_cache(maxsize=1)
def glyph_digits(validation: bool, each: int = 300) -> Images:
    """Draw the ten digits in many fonts, bent like handwriting; a third of them is for tests."""
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415

    rng = np.random.default_rng([glyphs.SEED, validation])
    pages = []
    for styles in glyphs.renderings("0123456789", glyphs.fonts()):
        smooth = gaussian_filter(styles.astype(np.float32) / 255, (0, 1.2, 1.2))
        pages.append(smooth[rng.permutation(each) % len(styles)])
    pixels = np.stack([glyphs.distort(page, 28, rng) for page in pages])  # [10, each, 28, 28]
    labels = np.repeat(np.arange(10), each).reshape(10, each)
    cut = each * 2 // 3
    parts = [(pixels[:, s].reshape(-1, 28, 28), labels[:, s].ravel()) for s in np.s_[:cut, cut:]]
    return Images(parts[0], parts[1], f"glyph digits {each} {validation} {glyphs.RECIPE[:3]}")
