r"""The stream of OSAKA: contexts that stay for a while and change unannounced.

At every step a new context comes with probability :math:`1 - \alpha`: one of a few data sets is
drawn, then some of its classes, which get labels from 0 on.  Otherwise the context stays, with
its classes and their labels.  Each step brings a few new images of every class (Caccia et al.,
2020).  A learner sees images and, after it has predicted, labels; never a context.

Step `t` is a pure function of the seed and `t`, so nothing is stored and a run can go on
anywhere.  As in the code released with OSAKA, the images of a step are drawn with replacement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ...data import ImageSet
from ...types import Batch


class Source(NamedTuple):
    """One data set of a stream."""

    name: str
    """What to call it."""
    share: float
    """Probability that a new context is drawn from it."""
    pixels: np.ndarray
    """Grey square images, uint8 [N, S, S]."""
    rows: tuple[np.ndarray, ...]
    """Rows of the images of each class."""
    fingerprint: str = ""
    """What the images depend on."""


class Context(NamedTuple):
    """What stays the same from a switch to the next one."""

    start: int
    """Its first step."""
    source: int
    """Number of its data set."""
    classes: np.ndarray
    """Its classes of that data set, int64 [ways]; the place in this array is the label."""


class ContextStream:
    r"""Labelled images, step by step, from contexts that change at random.

    Parameters
    ----------
    name : str
        What to call it.
    sources : sequence of Source
        The data sets; their shares sum to 1.
    alpha : float
        Probability :math:`\alpha` that the context stays, in [0, 1].
    steps, ways, shots : int
        Length of the stream, classes of a context, and images of each class that a step brings.
    seed : int
        Seed of everything.  A longer stream with the same seed begins with the shorter one.

    Attributes
    ----------
    starts : ndarray of int64
        First step of each context; the first context starts at step 0.  For metrics only.
    shape : tuple of int
        Shape of an image, (1, S, S).
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[Source],
        *,
        alpha: float,
        steps: int,
        ways: int,
        shots: int,
        seed: int,
    ) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is a probability, in [0, 1]; got {alpha}")
        if steps < 1 or ways < 2 or shots < 1 or seed < 0:
            raise ValueError(
                "steps and shots must be positive, ways at least 2 and seed not negative, got "
                f"{steps=}, {ways=}, {shots=}, {seed=}"
            )
        if any(s.share < 0 for s in sources) or not math.isclose(sum(s.share for s in sources), 1):
            raise ValueError(f"shares must sum to 1, got {[s.share for s in sources]}")
        for source in sources:
            _check(source, ways, sources[0].pixels.shape[1:])
        self.name, self.sources = name, list(sources)
        self.alpha, self.ways, self.shots, self.seed = alpha, ways, shots, seed
        self.shape = (1, *sources[0].pixels.shape[1:])
        self.fingerprint = " | ".join(f"{s.name} {s.share} {s.fingerprint}" for s in sources)
        self._steps = steps
        new = self._rng(0).random(steps) >= alpha
        new[0] = True
        self.starts = np.flatnonzero(new)

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *purpose])

    def __len__(self) -> int:
        """Return the number of steps."""
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        """Return what a step brings, in random order.

        Inputs are float32 [ways * shots, 1, S, S] in [0, 1], whatever the data set, and targets
        int64 in [0, ways).
        """
        context = self.context(step)
        source, rng = self.sources[context.source], self._rng(2, step)
        rows = np.stack([rng.choice(source.rows[c], self.shots) for c in context.classes])
        order = rng.permutation(self.ways * self.shots)
        pixels = source.pixels[rows.ravel()[order]].astype(np.float32) / 255  # [n, S, S]
        targets = np.repeat(np.arange(self.ways), self.shots)[order]
        return Batch(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(targets))

    def context(self, step: int) -> Context:
        """Return the context of a step: the truth, for metrics and not for learners."""
        if not 0 <= step < self._steps:
            raise IndexError(f"{self.name} has steps 0 to {self._steps - 1}, not {step}")
        start = int(self.starts[np.searchsorted(self.starts, step, "right") - 1])
        rng = self._rng(1, start)
        source = int(rng.choice(len(self.sources), p=[s.share for s in self.sources]))
        available = len(self.sources[source].rows)
        return Context(start, source, rng.choice(available, self.ways, replace=False))


def of_image_set(
    images: ImageSet, classes: Sequence[int], share: float, name: str | None = None
) -> Source:
    """Return some classes of a set of grey images as a source, by default with its name."""
    if images.images.shape[-1] != 1:
        raise ValueError(f"{images.name}: grey images expected, [N, S, S, 1]")
    rows = tuple(np.arange(images.offsets[c], images.offsets[c + 1]) for c in classes)
    return Source(name or images.name, share, images.images[..., 0], rows, images.fingerprint)


def _check(source: Source, ways: int, shape: tuple[int, ...]) -> None:
    name, pixels = source.name, source.pixels
    if pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2] or pixels.dtype != np.uint8:
        raise ValueError(
            f"{name}: square grey images of bytes expected, [N, S, S], found "
            f"{list(pixels.shape)} of {pixels.dtype}"
        )
    if pixels.shape[1:] != shape:
        raise ValueError(
            f"{name}: images of {pixels.shape[1:]} pixels, but the first data set's have {shape}; "
            "load all at one size"
        )
    if len(source.rows) < ways:
        raise ValueError(f"{name}: contexts of {ways} classes, but it has {len(source.rows)}")
    if empty := [c for c, rows in enumerate(source.rows) if len(rows) == 0]:
        raise ValueError(f"{name}: class {empty[0]} has no images")
