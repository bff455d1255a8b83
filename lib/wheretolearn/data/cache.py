"""Decoded images on disk: decoded once, then mapped into memory.

One folder for each (name, image size, state of the source) holds ``images.npy``
(uint8 [N, H, W, C]) and ``index.json`` (everything else in an
:class:`~wheretolearn.data.image_set.ImageSet`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from .errors import DataError
from .image_set import SPLITS, ImageSet

FORMAT = 1
"""Raised whenever decoding changes, so that older caches are left alone."""


class Picture(NamedTuple):
    """One decoded image."""

    split: str | None
    """"train", "val" or "test"; None where a list of classes decides."""
    label: str
    """Class name."""
    name: str
    """Order among the images of the class."""
    pixels: np.ndarray
    """uint8 [H, W, C]."""


@dataclass(frozen=True)
class Meta:
    """What is known of an image set before it is decoded."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rotations: bool = False


def state_of(paths: Iterable[Path]) -> list[list[Any]]:
    """Return name, size and time of change of each file, with all files of folders."""
    found: list[list[Any]] = []
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            status = file.stat()
            name = file.relative_to(path.parent).as_posix()
            found.append([name, status.st_size, status.st_mtime_ns])
    return found


def cache_key(meta: Meta, image_size: int, source: Any) -> str:
    """Return the name of a cache folder: set, size and digest of all that went in."""
    text = json.dumps([FORMAT, asdict(meta), image_size, source], sort_keys=True)
    return f"{meta.name}-{image_size}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def read(folder: Path) -> ImageSet | None:
    """Map a cache folder into memory.

    Parameters
    ----------
    folder : Path
        One cache folder.

    Returns
    -------
    ImageSet or None
        None if the folder is absent, damaged or incomplete.
    """
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            return None
        if (folder / "images.npy").stat().st_size != index["bytes"]:
            return None
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        if list(images.shape) != index["shape"] or images.dtype != np.uint8:
            return None
        return ImageSet(
            name=index["name"],
            images=images,
            classes=tuple(index["classes"]),
            offsets=np.asarray(index["offsets"], dtype=np.int64),
            splits={s: tuple(index["splits"][s]) for s in SPLITS},
            mean=tuple(index["mean"]),
            std=tuple(index["std"]),
            rotations=index["rotations"],
            fingerprint=index["fingerprint"],
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def read_any(cache: Path, name: str, image_size: int) -> ImageSet | None:
    """Return the only readable cache of a set at a size, if there is exactly one."""
    found = [read(folder) for folder in sorted(cache.glob(f"{name}-{image_size}-*"))]
    usable = [images for images in found if images is not None]
    return usable[0] if len(usable) == 1 else None


def read_or_build(
    cache: Path,
    key: str,
    meta: Meta,
    image_size: int,
    pictures: Callable[[], Iterable[Picture]],
    splits: Mapping[str, Sequence[str]] | None,
    unsplit: str = "train",
    total: int | None = None,
    progress: bool = True,
) -> ImageSet:
    """Read a cache folder, or fill it first.

    Two processes that ask for the same images wait for one another, and a
    folder appears only when it is complete.

    Parameters
    ----------
    cache : Path
        The folder of all caches.
    key : str
        From :func:`cache_key`.
    meta : Meta
        Name and statistics of the set.
    image_size : int
        Height and width of the pictures.
    pictures : callable
        Gives the decoded pictures, in any order.
    splits : mapping of str to sequence of str, or None
        Class names of each split; None: each picture says its own.
    unsplit : str, default "train"
        Where neither `splits` nor any picture says one, the split of all classes.
    total : int, optional
        Number of pictures, for the progress bar.
    progress : bool, default True
        Whether to show a progress bar on standard error.

    Returns
    -------
    ImageSet

    Raises
    ------
    DataError
        If the pictures or the splits are wrong, or the cache cannot be written.
    """
    folder = cache / key
    if (ready := read(folder)) is not None:
        return ready
    try:
        cache.mkdir(parents=True, exist_ok=True)
        held = FileLock(cache / f".{key}.lock").acquire()
    except OSError as error:
        raise DataError(
            f"decoded images cannot be written to {cache} ({error}); "
            "set WHERETOLEARN_CACHE to a folder that can be written"
        ) from error
    with held:
        if (ready := read(folder)) is not None:  # another process was first
            return ready
        with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=cache) as name:
            partial = Path(name, "partial")
            partial.mkdir()
            bar = tqdm(
                pictures(),
                total=total,
                desc=f"decoding {meta.name} at {image_size}",
                unit="img",
                disable=None if progress else True,  # None: only on a terminal
            )
            _write(partial, meta, image_size, bar, splits, unsplit)
            if folder.exists():  # damaged, or of another format
                shutil.rmtree(folder)
            partial.rename(folder)
    built = read(folder)
    if built is None:
        raise DataError(f"{folder} could not be read back after it was written")
    return built


def _write(
    folder: Path,
    meta: Meta,
    image_size: int,
    pictures: Iterable[Picture],
    splits: Mapping[str, Sequence[str]] | None,
    unsplit: str,
) -> None:
    """Write ``images.npy`` and ``index.json``, sorted by class and then by name."""
    order: list[tuple[str, str, int]] = []
    split_of: dict[str, str | None] = {}
    shape: tuple[int, ...] = ()
    stream = folder / "stream"  # in the order of arrival, which may be any
    with stream.open("wb") as file:
        for row, (split, label, name, pixels) in enumerate(pictures):
            if split_of.setdefault(label, split) != split:
                raise DataError(
                    f"{meta.name}: class {label!r} is in two splits, {split_of[label]} and {split}"
                )
            shape = pixels.shape
            order.append((label, name, row))
            file.write(pixels.tobytes())
    if not order:
        raise DataError(f"{meta.name}: there are no images")
    order.sort()
    classes = sorted(split_of)
    if splits is None:
        splits = own_splits(meta.name, split_of, unsplit)
    indices = _split_indices(meta.name, classes, splits)

    rows = len(order)
    arrived = np.memmap(stream, dtype=np.uint8, mode="r", shape=(rows, *shape))
    images = np.lib.format.open_memmap(
        folder / "images.npy", mode="w+", dtype=np.uint8, shape=(rows, *shape)
    )
    digest = hashlib.sha256(json.dumps([classes, indices], sort_keys=True).encode())
    arrival = np.asarray([row for _, _, row in order])
    for start in range(0, rows, 4096):
        chunk = arrived[arrival[start : start + 4096]]
        images[start : start + 4096] = chunk
        digest.update(chunk.tobytes())
    images.flush()
    del images, arrived
    stream.unlink()

    labels = [label for label, _, _ in order]
    index = {
        "format": FORMAT,
        **asdict(meta),
        "image_size": image_size,
        "shape": [rows, *shape],
        "bytes": (folder / "images.npy").stat().st_size,
        "classes": classes,
        "offsets": [*np.searchsorted(labels, classes).tolist(), rows],
        "splits": indices,
        "fingerprint": digest.hexdigest(),
    }
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def own_splits(name: str, split_of: Mapping[str, str | None], unsplit: str) -> dict[str, list[str]]:
    """Return the splits that the pictures say; if none says any, all classes are `unsplit`."""
    outside = [label for label, split in split_of.items() if split is None]
    if outside and len(outside) < len(split_of):
        raise DataError(f"{name}: class {outside[0]!r} is in no split, though others are")
    return {
        s: [label for label, split in split_of.items() if (split or unsplit) == s] for s in SPLITS
    }


def _split_indices(
    name: str, classes: Sequence[str], splits: Mapping[str, Sequence[str]]
) -> dict[str, list[int]]:
    """Return the class indices of each split, after checking the splits."""
    if unknown := sorted(set(splits) - set(SPLITS)):
        raise DataError(f"{name}: splits are {SPLITS}, not {unknown}")
    position = {label: i for i, label in enumerate(classes)}
    seen: dict[str, str] = {}
    for split in SPLITS:
        for label in splits.get(split, ()):
            if label not in position:
                raise DataError(f"{name}: class {label!r} of the {split} split has no images")
            if label in seen:
                raise DataError(
                    f"{name}: class {label!r} is in two splits, {seen[label]} and {split}"
                )
            seen[label] = split
    return {s: sorted(position[label] for label in splits.get(s, ())) for s in SPLITS}
