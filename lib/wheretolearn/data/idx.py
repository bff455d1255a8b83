"""MNIST and FashionMNIST in their IDX files.

What is checked is the MD5 of the uncompressed bytes, because gzip files of the
same content differ.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .cache import Picture
from .decoding import resize
from .errors import DataError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

CONTENT_MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion-mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}
"""MD5 of each file's uncompressed bytes, in the order of `FILES`."""

CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion-mnist": (
        "0 T-shirt",
        "1 Trouser",
        "2 Pullover",
        "3 Dress",
        "4 Coat",
        "5 Sandal",
        "6 Shirt",
        "7 Sneaker",
        "8 Bag",
        "9 Ankle boot",
    ),
}
"""Class names, in the order of the labels."""

_MAX_BYTES = 64 * 2**20


def find(folder: Path) -> list[Path]:
    """Return the four files, compressed or not; empty if one is absent."""
    found = []
    for name in FILES:
        choices = [folder / f"{name}.gz", folder / name]
        found += [path for path in choices if path.is_file()][:1]
    return found if len(found) == len(FILES) else []


def read_idx(path: Path, expected_md5: str | None = None) -> np.ndarray:
    """Read one IDX file of bytes.

    Parameters
    ----------
    path : Path
        A file, compressed if its name ends in ``.gz``.
    expected_md5 : str, optional
        MD5 of the uncompressed bytes; not checked if None.

    Returns
    -------
    ndarray of uint8
        With the shape that the file's header says.

    Raises
    ------
    DataError
        If the file is damaged or another one than expected.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged or truncated: {error}") from error
    if expected_md5 is not None:
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != expected_md5:
            raise DataError(
                f"{path} is not the published file: expected MD5 {expected_md5} of the "
                f"uncompressed bytes, found {found}"
            )
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path} is not an IDX file of bytes")
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    pixels = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * content[3])
    if pixels.size != np.prod(shape, dtype=object):
        raise DataError(f"{path} is truncated: {shape} values expected, {pixels.size} found")
    return pixels.reshape(shape)


def read_arrays(
    paths: Sequence[Path], expected_md5: Sequence[str | None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read the four files, see :func:`read_idx`."""
    a, b, c, d = (read_idx(p, md5) for p, md5 in zip(paths, expected_md5, strict=True))
    if len(a) != len(b) or len(c) != len(d):
        raise DataError(f"{paths[0].parent}: numbers of images and labels differ")
    return a, b, c, d


def read_pictures(
    paths: Sequence[Path], image_size: int, expected_md5: Sequence[str], classes: Sequence[str]
) -> Iterator[Picture]:
    """Yield the training images, resized; none says a split.

    Parameters
    ----------
    paths : sequence of Path
        From :func:`find`.
    image_size : int
        Height and width to resize to.
    expected_md5 : sequence of str
        For each file.
    classes : sequence of str
        Class names, in the order of the labels.

    Yields
    ------
    Picture
    """
    images, labels, _, _ = read_arrays(paths, expected_md5)
    rows: Iterable[tuple[np.ndarray, int]] = zip(images, labels.tolist(), strict=True)
    for row, (image, label) in enumerate(rows):
        yield Picture(None, classes[label], f"{row:05}", resize(Image.fromarray(image), image_size))
