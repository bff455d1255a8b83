"""MNIST and FashionMNIST in their IDX files.

What is checked is the SHA-256 of the uncompressed bytes, because gzip files of the
same content differ.
"""

from __future__ import annotations

import gzip
import hashlib
import math
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
"""MD5 of each file's uncompressed bytes, in the order of `FILES`; names data in records."""

CONTENT_SHA256 = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion-mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
"""SHA-256 of the same bytes: what is checked."""

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


def read_idx(path: Path, expected_sha256: str | None = None) -> np.ndarray:
    """Read one IDX file of bytes."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged or truncated: {error}") from error
    if expected_sha256 not in {None, found := hashlib.sha256(content).hexdigest()}:
        raise DataError(
            f"{path} is not the published file: expected SHA-256 {expected_sha256} of the "
            f"uncompressed bytes, found {found}"
        )
    if len(content) < 4 or content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError(f"{path} is not an IDX file of bytes")
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    pixels = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * content[3])
    if pixels.size != (expected := math.prod(shape)):
        damage = "is truncated" if pixels.size < expected else "has more than its header says"
        raise DataError(f"{path} {damage}: {shape} values expected, {pixels.size} found")
    return pixels.reshape(shape)


def read_arrays(
    paths: Sequence[Path], expected_sha256: Sequence[str | None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read the four files, see :func:`read_idx`."""
    a, b, c, d = (read_idx(p, digest) for p, digest in zip(paths, expected_sha256, strict=True))
    if len(a) != len(b) or len(c) != len(d):
        raise DataError(f"{paths[0].parent}: numbers of images and labels differ")
    return a, b, c, d


def read_pictures(
    paths: Sequence[Path], image_size: int, expected_sha256: Sequence[str], classes: Sequence[str]
) -> Iterator[Picture]:
    """Yield the training images, resized; none says a split."""
    images, labels, _, _ = read_arrays(paths, expected_sha256)
    rows: Iterable[tuple[np.ndarray, int]] = zip(images, labels.tolist(), strict=True)
    for row, (image, label) in enumerate(rows):
        yield Picture(None, classes[label], f"{row:05}", resize(Image.fromarray(image), image_size))
