"""What OSAKA's streams are made of, and what learners are pretrained on.

============================  =================================================================
stream                        data sets
============================  =================================================================
``omniglot-mnist-fashion``    Omniglot 1/2, MNIST 1/4, FashionMNIST 1/4 (Caccia et al., 2020)
``glyph-scripts``             glyphs of three groups of scripts 1/2, 1/4, 1/4; no download
============================  =================================================================

As in the code released with OSAKA, the stream draws from all 1623 classes of Omniglot, those of
pretraining among them: it asks for what was learned before as well as for what is new.  Pretraining
has the first 900 classes, in the order of their names, and the next 100 for validation; which ones
came first in the released code depended on the file system.

All pixels are in [0, 1], with bright ink on black.  In the branch behind the sparse learners
those of MNIST and FashionMNIST go from 0 to 255, those of Omniglot from 0 to 1, with dark ink on
white.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...data import ImageSet, load, mnist_arrays
from ...data.idx import CONTENT_MD5
from ...suggestions import closest
from .stream import Source, of_image_set

PRETRAINING, VALIDATION = 900, 100
"""Classes of Omniglot for pretraining, and for its validation."""

_SIZE = 28


class OsakaData(NamedTuple):
    """The data sets of a stream, and what comes before it."""

    name: str
    """Name of the stream."""
    sources: tuple[Source, ...]
    """What the stream draws from."""
    pretraining: ImageSet
    """Classes to pretrain on (``train``) and to stop early on (``val``)."""


def open_data(name: str, root: Path | None = None, *, validation: bool = False) -> OsakaData:
    """Open the data of a stream.

    Parameters
    ----------
    name, root
        A key of :data:`STREAMS`, and the folder of raw data if it is not the usual one.
    validation : bool, default False
        For a stream to choose hyper-parameters on: the test images of MNIST and FashionMNIST,
        which the others never use, and the 100 validation classes of Omniglot, which they do.

    Raises
    ------
    ValueError
        For an unknown stream (the nearest known one is suggested), or one without validation.
    wheretolearn.data.DataError
        If a data set is missing or damaged.
    """
    if name not in STREAMS:
        raise ValueError(f"unknown stream {name!r}{closest(name, STREAMS)}")
    return STREAMS[name](root, validation)


@lru_cache(maxsize=2)
def _omniglot_mnist_fashion(root: Path | None, validation: bool) -> OsakaData:
    omniglot = load("omniglot", _SIZE, root)
    seen = range(PRETRAINING, PRETRAINING + VALIDATION)
    drawings = of_image_set(omniglot, seen if validation else range(len(omniglot.classes)), 1 / 2)
    digits, clothes = (_idx(root, name, validation) for name in ("mnist", "fashion-mnist"))
    before = _split(omniglot, range(PRETRAINING), seen)
    return OsakaData("omniglot-mnist-fashion", (drawings, digits, clothes), before)


@lru_cache(maxsize=1)
def _glyph_scripts(root: Path | None, validation: bool) -> OsakaData:
    if validation:
        raise ValueError("glyph-scripts has no validation stream; choose on another seed")
    images = load("glyphs", _SIZE, root)
    shares = {"train": 1 / 2, "val": 1 / 4, "test": 1 / 4}
    names = {"train": "latin to canadian", "val": "greek to coptic", "test": "georgian to lisu"}
    sources = tuple(of_image_set(images, images.splits[s], shares[s], names[s]) for s in shares)
    first = images.splits["train"]
    cut = len(first) * PRETRAINING // (PRETRAINING + VALIDATION)
    return OsakaData("glyph-scripts", sources, _split(images, first[:cut], first[cut:]))


STREAMS: dict[str, Callable[[Path | None, bool], OsakaData]] = {
    "omniglot-mnist-fashion": _omniglot_mnist_fashion,
    "glyph-scripts": _glyph_scripts,
}
"""What opens the data of each stream."""


def _idx(root: Path | None, name: str, validation: bool) -> Source:
    images, labels, test_images, test_labels = mnist_arrays(root, name)
    part = "test" if validation else "train"
    if validation:
        images, labels = test_images, test_labels
    rows = tuple(np.flatnonzero(labels == c) for c in range(10))
    return Source(name, 1 / 4, images, rows, " ".join([*CONTENT_MD5[name], part]))


def _split(images: ImageSet, train: Sequence[int], val: Sequence[int]) -> ImageSet:
    """Return an image set of upright classes, divided for pretraining."""
    return replace(
        images, rotations=False, splits={"train": tuple(train), "val": tuple(val), "test": ()}
    )
