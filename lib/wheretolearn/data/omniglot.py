"""Omniglot: 1,623 handwritten characters of 50 alphabets, by 20 people each.

Lake, Salakhutdinov & Tenenbaum (2015).  The published archives and rebuilt ones
differ in their bytes, so what is checked is the content: every drawing's name
and its black and white pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import ImageOps

from .archives import members
from .cache import Picture
from .decoding import decode, is_image, resize
from .errors import DataError

CONTENT_SHA256 = {
    "images_background": "d95e9818c75a189b5668608539b2b37626e2aabe7a7644c46378120d9b629d0d",
    "images_evaluation": "099100125dff7813a5689f9c3cf773901e1e788141917d2deb4a17f171a84bc3",
}
"""Digest of the drawings in each archive, see :func:`content_digest`."""


def content_digest(drawings: Iterable[tuple[str, bytes]]) -> str:
    """Return the SHA-256 of drawings, whatever their order and container."""
    digest = hashlib.sha256()
    for name, pixels in sorted(drawings):
        digest.update(name.encode() + b"\0" + pixels)
    return digest.hexdigest()


def read_pictures(paths: Iterable[Path], image_size: int) -> Iterator[Picture]:
    """Decode the drawings: ink 255 on 0, resized."""
    for path in paths:
        seen = []
        for name, read in members(path):
            parts = PurePosixPath(name).parts
            if not is_image(name) or len(parts) < 3:
                continue
            image = ImageOps.invert(decode(read(), f"{path}: {name}", 1))
            bits = np.packbits(np.asarray(image) > 127).tobytes()
            seen.append(("/".join(parts[-3:]), hashlib.sha256(bits).digest()))
            yield Picture(None, "/".join(parts[-3:-1]), parts[-1], resize(image, image_size))
        expected, found = CONTENT_SHA256[path.name.removesuffix(".zip")], content_digest(seen)
        if found != expected:
            raise DataError(
                f"{path} does not hold the published drawings ({len(seen)} were found): "
                f"expected content SHA-256 {expected}, found {found}"
            )
