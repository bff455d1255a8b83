"""Small image sets in the layouts in which people have them, and a bound on memory."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MIB = 2**20


@contextmanager
def memory_below(limit: int) -> Iterator[None]:
    """Check that no more memory is held at any time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def image_bytes(value: int, size: int = 8, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """Return an image of one colour."""
    return encoded(Image.fromarray(np.full((size, size, 3), value, np.uint8)).convert(mode), kind)


def class_folders(
    classes: int = 3, images: int = 4, above: str = "", size: int = 8
) -> dict[str, bytes]:
    """Return files by name: image `j` of class `i` has the colour 10 i + j."""
    return {
        f"{above}class{i}/{j}.png": image_bytes(10 * i + j, size)
        for i in range(classes)
        for j in range(images)
    }


def write(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files as a folder, zip or tar, whatever the path's name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif ".tar" in path.name or path.suffix == ".tgz":
        kind = {"gz": "gz", "tgz": "gz", "xz": "xz"}.get(path.suffix[1:], "")
        with tarfile.open(path, f"w:{kind}") as tar:  # type: ignore[call-overload]
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    else:
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path
