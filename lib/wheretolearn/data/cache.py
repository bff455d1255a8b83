"""Decoded images on disk: decoded once, then mapped into memory.

One folder for each (name, image size, content of the source) holds ``images.npy``
(uint8 [N, H, W, C]) and ``index.json`` (everything else in an
:class:`~wheretolearn.data.image_set.ImageSet`).  Both are checked against their
digests when a process first opens them.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from .archives import folder_files, read_file, regular
from .decoding import is_image
from .errors import DataError
from .image_set import SPLITS, ImageSet

FORMAT = 3
"""Raised whenever decoding changes, so that older caches are left alone."""

_CHECKED: set[tuple[str, tuple[int, ...]]] = set()
"""What was found right in this process: each digest of an index, with the state of the pixels."""


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


def state_of(paths: Iterable[Path]) -> list[tuple[str, Path, tuple[int, ...]]]:
    """Return what is read of sources, by name and path, each with what changes when it does.

    Of a folder these are its images.  Links are followed to what they mean.
    """
    found = []
    for path in paths:
        images = ((n, p) for n, p in folder_files(path) if is_image(n))
        for name, file in images if path.is_dir() else [("", path)]:
            found.append((name, file, _identity(regular(file))))
    return found


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return which file it is and when it changed; nobody can set back the last of these times."""
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_dev, status.st_ino, status.st_size, *times)


def content_of(state: list[tuple[str, Path, tuple[int, ...]]], cache: Path) -> str:
    """Return the digest of sources.

    Their files are read once only: the cache keeps the digest for as long as their state lasts.
    """
    key = _digest([FORMAT, [(name, identity) for name, _, identity in state]])
    known = cache / ".contents" / key
    with suppress(DataError, ValueError):
        digest, seal = read_file(known).decode("ascii").split()
        if seal == _digest([key, digest]):
            return digest
    contents = []
    for name, path, _ in state:
        try:
            with path.open("rb") as file:
                contents.append((name, hashlib.file_digest(file, "sha256").hexdigest()))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
    digest = _digest(contents)
    with suppress(OSError):  # then they are read again
        known.parent.mkdir(parents=True, exist_ok=True)
        known.unlink(missing_ok=True)  # it may be a pipe
        known.write_text(f"{digest} {_digest([key, digest])}", encoding="ascii")
    return digest


def _digest(data: Any) -> str:
    """Return the SHA-256 of what can be written as JSON."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def read(folder: Path) -> ImageSet | None:
    """Map a cache folder into memory."""
    try:
        index = json.loads(read_file(folder / "index.json"))
        seal = index.pop("digest")
        if seal != _digest(index) or (index["format"], index["key"]) != (FORMAT, folder.name):
            return None
        status = regular(folder / "images.npy")
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        if (
            list(images.shape) != index["shape"]
            or images.dtype != np.uint8
            or images.offset + images.nbytes != status.st_size
        ):
            return None
        found = ImageSet(
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
        if not _fits(found):
            return None
        if (seen := (seal, _identity(status))) not in _CHECKED:
            digest = _names_digest(found.classes, found.splits)
            digest.update(np.ascontiguousarray(images).data)
            if digest.hexdigest() != found.fingerprint:
                return None
            _CHECKED.add(seen)
        return found
    except Exception:  # whatever the damage leads to
        return None


def _fits(images: ImageSet) -> bool:
    """Tell whether every image is in one class, and every class in one split at most."""
    counts = np.diff(images.offsets, prepend=0)
    split_classes = [c for classes in images.splits.values() for c in classes]
    return (
        len(images.offsets) == len(images.classes) + 1
        and images.offsets[0] == 0
        and images.offsets[-1] == len(images.images)
        and bool((counts[1:] > 0).all())
        and len(set(split_classes)) == len(split_classes)
        and set(split_classes) <= set(range(len(images.classes)))
    )


def _names_digest(classes: Sequence[str], splits: Mapping[str, Sequence[int]]) -> hashlib._Hash:
    """Begin a fingerprint with the class names and splits; the pixels follow."""
    return hashlib.sha256(json.dumps([classes, splits], sort_keys=True).encode())


def read_any(cache: Path, name: str, image_size: int) -> ImageSet | None:
    """Return the only readable cache of a set at a size, if there is exactly one."""
    found = [read(folder) for folder in sorted(cache.glob(f"{name}-{image_size}-*"))]
    usable = [images for images in found if images is not None]
    return usable[0] if len(usable) == 1 else None


def read_or_build(
    cache: Path,
    meta: Meta,
    image_size: int,
    paths: Sequence[Path],
    pictures: Callable[[], Iterable[Picture]],
    splits: Mapping[str, Sequence[str]] | None,
    recipe: Any = None,
    prefix: str = "",
    unsplit: str = "train",
    total: int | None = None,
    progress: bool = True,
) -> ImageSet:
    """Read a cache folder, or fill it first.

    Two processes that ask for the same images wait for one another, and a
    folder appears only when it is complete.
    """
    state = state_of(paths)
    digest = _digest([FORMAT, asdict(meta), splits, recipe, content_of(state, cache)])
    stem = f"{prefix}{meta.name[:50]}-{image_size}-"  # a file's name has 255 bytes at most
    key = stem + digest[:16]
    folder, partial = cache / key, cache / f".{key}"
    if (ready := read(folder)) is not None:
        return ready
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _clear(cache.glob(f".{glob.escape(stem)}{'[0-9a-f]' * 16}/"))
        with FileLock(cache / f".{key}.lock"):
            if (ready := read(folder)) is not None:  # another process was first
                return ready
            partial.mkdir(exist_ok=True)
            bar = tqdm(
                pictures(),
                total=total,
                desc=f"decoding {meta.name} at {image_size}",
                unit="img",
                disable=None if progress else True,  # None: only on a terminal
            )
            try:
                _write(partial, key, meta, bar, splits, unsplit)
                if state_of(paths) != state:
                    raise DataError(f"{meta.name}: files were changed while they were read")
                if folder.exists():  # damaged
                    shutil.rmtree(folder)
                partial.rename(folder)
                _sync(cache)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"decoded images cannot be written to {cache} ({error}); make room, "
            "or set WHERETOLEARN_CACHE to another folder that can be written"
        ) from error
    built = read(folder)
    if built is None:
        raise DataError(f"{folder} could not be read back after it was written")
    return built


def _clear(folders: Iterable[Path]) -> None:
    """Remove what killed processes left, and nothing that another is writing."""
    for folder in folders:
        with suppress(Timeout), FileLock(f"{folder}.lock", timeout=0):
            shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """Have the disk write a file or a folder now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(
    folder: Path,
    key: str,
    meta: Meta,
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
    digest = _names_digest(classes, indices)
    arrived = np.memmap(stream, dtype=np.uint8, mode="r", shape=(rows, *shape))
    arrival = np.asarray([row for _, _, row in order])
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *shape)}
    with (folder / "images.npy").open("wb") as file:  # in a map, a full disk is a bus error
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, 4096):
            chunk = arrived[arrival[start : start + 4096]]
            file.write(chunk)
            digest.update(chunk)
    del arrived
    stream.unlink()

    labels = [label for label, _, _ in order]
    index = {
        "format": FORMAT,
        "key": key,
        **asdict(meta),
        "shape": [rows, *shape],
        "classes": classes,
        "offsets": [*np.searchsorted(labels, classes).tolist(), rows],
        "splits": indices,
        "fingerprint": digest.hexdigest(),
    }
    text = json.dumps({**index, "digest": _digest(index)})
    (folder / "index.json").write_text(text, encoding="utf-8")
    for path in (folder / "images.npy", folder / "index.json", folder):
        _sync(path)


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
