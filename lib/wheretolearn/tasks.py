"""Few-shot tasks: N-way K-shot episodes from a labelled image set.

Episode number `i` of a sampler is a pure function of (seed, split, i).  There is
no hidden random state: a run that resumes at update 137 sees the episodes that it
would have seen, and two methods with the same seed see the same episodes.
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
import torch

from .data import ImageSet
from .suggestions import closest
from .types import Batch, Task

T = TypeVar("T")


class EpisodeSampler:
    """N-way K-shot episodes from one split of an image set.

    Parameters
    ----------
    images : ImageSet
        Labelled images with class-disjoint splits.
    split : str
        ``train``, ``val`` or ``test``.
    ways : int
        Classes of an episode.
    shots, queries : int
        Support and query images of each class; no image is both.
    seed : int
        Seed of the stream of episodes.

    Raises
    ------
    ValueError
        If the split does not exist or has fewer than `ways` classes, if a class
        has fewer than ``shots + queries`` images (the classes are named), or if a
        number is not positive.

    Notes
    -----
    Where ``images.rotations`` is true, each class counts as four: its images turned
    by 0, 90, 180 and 270 degrees (Vinyals et al., 2016).
    """

    def __init__(
        self, images: ImageSet, split: str, *, ways: int, shots: int, queries: int, seed: int
    ) -> None:
        if split not in images.splits:
            raise ValueError(f"{images.name} has no split {split!r}{closest(split, images.splits)}")
        if min(ways, shots, queries) < 1 or seed < 0:
            raise ValueError(
                "ways, shots and queries must be positive and seed not negative, got "
                f"{ways=}, {shots=}, {queries=}, {seed=}"
            )
        self.images, self.split = images, split
        self.ways, self.shots, self.queries, self.seed = ways, shots, queries, seed
        self._classes = np.asarray(images.splits[split], dtype=np.int64)
        self._turns = 4 if images.rotations else 1
        available = len(self._classes) * self._turns
        if available < ways:
            raise ValueError(
                f"{ways}-way episodes need {ways} classes, but split {split!r} of "
                f"{images.name} has {available}"
            )
        sizes = np.diff(images.offsets)[self._classes]
        small = self._classes[sizes < shots + queries]
        if len(small):
            names = ", ".join(f"{images.classes[c]}" for c in small[:5])
            more = f" and {len(small) - 5} more" if len(small) > 5 else ""
            raise ValueError(
                f"{shots} shots and {queries} queries need {shots + queries} images a class; "
                f"too few in {images.name}: {names}{more} (smallest has {sizes.min()})"
            )
        self._split_key = zlib.crc32(split.encode())
        mean = torch.tensor(images.mean, dtype=torch.float32)
        std = torch.tensor(images.std, dtype=torch.float32)
        self._scale = (1 / (255 * std)).view(1, -1, 1, 1)
        self._shift = (-mean / std).view(1, -1, 1, 1)

    def draw(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the image rows of an episode.

        Parameters
        ----------
        index : int
            Number of the episode.

        Returns
        -------
        support, query : ndarray of int
            Rows of the image set, [ways, shots] and [ways, queries]; disjoint within
            each class.  (Two classes that are turns of one are drawn independently.)
        turns : ndarray of int
            Quarter turns of each class, [ways].
        """
        rng = np.random.default_rng([self.seed, self._split_key, index])
        chosen = rng.choice(len(self._classes) * self._turns, self.ways, replace=False)
        classes, turns = self._classes[chosen // self._turns], chosen % self._turns
        start, stop = self.images.offsets[classes], self.images.offsets[classes + 1]
        rows = np.stack(
            [
                a + rng.choice(b - a, self.shots + self.queries, replace=False)
                for a, b in zip(start, stop, strict=True)
            ]
        )
        return rows[:, : self.shots], rows[:, self.shots :], turns

    def __getitem__(self, index: int) -> Task:
        """Return episode number `index`.

        Parameters
        ----------
        index : int
            Any number from 0 on.

        Returns
        -------
        Task
            Support inputs [ways * shots, C, H, W] and query inputs
            [ways * queries, C, H, W], float32, normalised; targets int64 in
            [0, ways), class by class.
        """
        if index < 0:
            raise IndexError(f"episodes are numbered from 0, got {index}")
        support, query, turns = self.draw(index)
        return Task(self._batch(support, turns), self._batch(query, turns))

    def batch(self, update: int, size: int) -> list[Task]:
        """Return the `size` episodes of meta-update number `update` (from 0)."""
        return [self[update * size + i] for i in range(size)]

    def _batch(self, rows: np.ndarray, turns: np.ndarray) -> Batch:
        pixels = np.stack(
            [np.rot90(self.images.images[r], t, (1, 2)) for r, t in zip(rows, turns, strict=True)]
        )  # [ways, n, H, W, C]
        x = torch.from_numpy(pixels).flatten(0, 1).permute(0, 3, 1, 2)  # [ways * n, C, H, W]
        x = x.to(torch.float32) * self._scale + self._shift
        y = torch.arange(self.ways).repeat_interleave(rows.shape[1])  # [ways * n]
        return Batch(x, y)


class Ahead(Generic[T]):
    """Make things in a thread of its own, up to two ahead of their use, in order.

    Parameters
    ----------
    make : callable
        ``make(index)``, such as ``sampler.__getitem__``; it must be free to run beside
        the user of what it makes.
    indices : iterable of int
        What to make.

    Attributes
    ----------
    seconds_waited : float
        How long its user has waited so far.
    """

    def __init__(self, make: Callable[[int], T], indices: Iterable[int]) -> None:
        self.make, self.indices = make, indices
        self.seconds_waited = 0.0

    def __iter__(self) -> Iterator[T]:
        """Yield ``make(index)`` for each index; what `make` raises is raised here."""
        waiting: deque[Future[T]] = deque()
        indices = iter(self.indices)
        with ThreadPoolExecutor(1, "ahead") as thread:
            while True:
                for index in islice(indices, 2 - len(waiting)):
                    waiting.append(thread.submit(self.make, index))
                if not waiting:
                    return
                started = time.monotonic()
                made = waiting.popleft().result()
                self.seconds_waited += time.monotonic() - started
                yield made
