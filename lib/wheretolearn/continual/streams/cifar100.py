"""Split CIFAR-100: twenty tasks of five classes, each with a head of its own.

The reader supplies the *binary version* of CIFAR-100 (Krizhevsky, 2009): ``train.bin`` and
``test.bin`` in the folder ``cifar100`` of the raw data.  A record of these files is a coarse
label, a fine label, and 3 x 32 x 32 pixels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from ...data import DataError, data_root
from ...data.archives import read_file
from ...types import Batch
from .stream import Stream

CLASSES, WAYS, SHAPE = 100, 5, (3, 32, 32)
IMAGES, KEPT = 500, 450  # training images of a class; those of them not held out for validation
_RECORD = 2 + 3 * 32 * 32  # bytes
_CLASSES, _SAMPLES = range(2)  # what random numbers are for


class SplitCIFAR100(Stream):
    """CIFAR-100 in twenty tasks of five classes.

    Parameters
    ----------
    seed : int
        Seed of the order of the classes and of the samples.
    root : Path, optional
        Folder of raw data, by default :func:`wheretolearn.data.data_root`.
    samples : int, optional
        Training samples of a task; by default all 2500, or the 2250 that `validation` leaves.
    validation : bool, default False
        Hold out the last 50 of the 500 training images of each class, and test on them.  The
        training images are among those of the other streams, in another order of classes.

    Raises
    ------
    wheretolearn.data.DataError
        If a file is missing, or is not the binary version.
    ValueError
        If a task has fewer training images than `samples`.
    """

    def __init__(
        self,
        seed: int,
        root: Path | None = None,
        samples: int | None = None,
        *,
        validation: bool = False,
    ) -> None:
        folder = (root or data_root()) / "cifar100"
        train, test = (read(folder / name) for name in ("train.bin", "test.bin"))
        self._train_rows, self._test_rows = train, test
        if validation:
            last = _rank(train[:, 1]) >= KEPT
            self._train_rows, self._test_rows = train[~last], train[last]
        rng = np.random.default_rng([seed, _CLASSES, validation])
        self._order = rng.permutation(CLASSES)  # task t has classes 5t ... 5t + 4 of it
        each = KEPT if validation else IMAGES
        self._seed, self._samples = seed, WAYS * each if samples is None else samples
        parts = (self._train_rows, self._test_rows)
        super().__init__(
            "split-cifar100",
            tasks=CLASSES // WAYS,
            classes=CLASSES,
            shape=SHAPE,
            ways=WAYS,
            fingerprint=" ".join(hashlib.sha256(rows.tobytes()).hexdigest() for rows in parts),
        )

    def _train(self, task: int) -> Batch:
        inputs, targets = self._of(task, self._train_rows)
        if len(targets) < self._samples:
            raise ValueError(
                f"{self.name}, task {task}: {self._samples} training samples asked for, "
                f"{len(targets)} images are there"
            )
        rng = np.random.default_rng([self._seed, _SAMPLES, task])
        rows = torch.from_numpy(rng.permutation(len(targets))[: self._samples])
        return Batch(inputs[rows], targets[rows])

    def _test(self, task: int, limit: int | None) -> Batch:
        inputs, targets = self._of(task, self._test_rows)
        return Batch(inputs[:limit], targets[:limit])

    def _of(self, task: int, rows: np.ndarray) -> Batch:
        place = np.argsort(self._order)[rows[:, 1]]  # class -> place in the order
        mine = place // WAYS == task
        pixels = torch.from_numpy(rows[mine, 2:].astype(np.float32) / 255)
        return Batch(pixels.view(-1, *SHAPE), torch.from_numpy(place[mine].astype(np.int64)))


def read(path: Path) -> np.ndarray:
    """Return the records of a file, uint8 [N, 3074].

    Raises
    ------
    DataError
        If it is missing, absurdly large, no whole number of records, or has labels that do not
        exist.
    """
    if not path.is_file():
        raise DataError(
            f"{path} is missing. Put there the binary version of CIFAR-100, train.bin and test.bin"
        )
    content = np.frombuffer(read_file(path), np.uint8)
    if content.size == 0 or content.size % _RECORD:
        raise DataError(
            f"{path} is truncated or not the binary version of CIFAR-100: {content.size} bytes "
            f"are no whole number of records of {_RECORD}"
        )
    rows = content.reshape(-1, _RECORD)
    if rows[:, 1].max() >= CLASSES:
        raise DataError(f"{path} has a class {rows[:, 1].max()}; there are {CLASSES}, from 0")
    return rows


def _rank(labels: np.ndarray) -> np.ndarray:
    """Return how many earlier rows have the same label."""
    rank = np.empty(len(labels), np.int64)
    for label in range(CLASSES):
        mine = labels == label
        rank[mine] = np.arange(mine.sum())
    return rank
