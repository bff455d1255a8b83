"""How a data set is loaded: found or fetched, decoded, counted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ..suggestions import closest
from . import glyphs, idx
from .cache import Meta, Picture, own_splits, read_any, read_or_build
from .catalogue import DATASETS, REGISTERED, DataSet, Splits, row_of
from .class_folders import IMAGENET_MEAN, IMAGENET_STD, load_folder
from .decoding import check_size
from .errors import AbsentError, DataError
from .image_set import SPLITS, ImageSet
from .locations import cache_root, data_root
from .sources import fetch


def load(
    name: str,
    image_size: int,
    root: Path | None = None,
    cache: Path | None = None,
    progress: bool = True,
) -> ImageSet:
    """Load a data set; decode it first if that was not done before.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    image_size : int
        Height and width to resize to.
    root : Path, optional
        Folder of raw files, by default :func:`data_root`.  Files that are absent
        are downloaded there, where they have an address.
    cache : Path, optional
        Folder of decoded images, by default :func:`cache_root`.
    progress : bool, default True
        Whether to show progress bars.

    Returns
    -------
    ImageSet

    Raises
    ------
    ValueError
        If the name is unknown or the size makes no sense.
    DataError
        If files are absent, damaged, or not what they should be.
    """
    row = row_of(name)
    check_size(image_size)
    cache = cache or cache_root()
    if row.load:
        return replace(row.load(image_size=image_size, cache=cache, progress=progress), name=name)
    folder = (root or data_root()) / row.folder
    paths = row.find(folder)
    if row.folder and not paths:
        decoded = read_any(cache, name, image_size)  # raw files are no longer needed
        if decoded is not None:
            return replace(decoded, note=row.editions.get(len(decoded.images), ""))
        paths = fetched(row, folder, progress)
    images = read_or_build(
        cache,
        row.meta,
        image_size,
        paths,
        lambda: counted(row, folder, row.read_pictures(paths, image_size)),
        row.splits(),
        recipe=None if paths else glyphs.RECIPE,
        unsplit=row.unsplit,
        total=max(row.editions),
        progress=progress,
    )
    return replace(images, note=row.editions[len(images.images)])


def register(
    name: str,
    path: Path | str,
    splits: Mapping[str, Sequence[str]] | str | Path | None = None,
    channels: int = 3,
) -> None:
    """Give a reader's own images a name that :func:`load` and experiments know in this process.

    Parameters
    ----------
    name : str
        Not one of `DATASETS`.
    path, splits, channels
        As for :func:`load_folder`.

    Raises
    ------
    ValueError
        If the name is taken, or is none for a file.
    """
    if name in DATASETS or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError(f"{name!r} cannot be the name of an image set of your own")
    colour = channels == 3
    REGISTERED[name] = DataSet(
        meta=Meta(name, IMAGENET_MEAN if colour else (0.0,), IMAGENET_STD if colour else (1.0,)),
        title=f"your own images in {path}",
        licence="yours",
        folder="",
        layout="",
        native_size=0,
        classes=0,
        editions={},
        find=lambda folder: [],
        read_pictures=lambda paths, size: iter(()),
        splits=lambda: None,
        load=partial(load_folder, path, splits=splits, channels=channels),
    )


def at_hand(
    name: str, image_size: int, root: Path | None = None, cache: Path | None = None
) -> bool:
    """Tell at little cost whether a data set is there: nothing is decoded or downloaded.

    Parameters
    ----------
    name, image_size, root, cache
        As for :func:`load`.

    Returns
    -------
    bool
        False if :func:`load` would have to download it or fail.  Files that are there may
        still turn out to be damaged.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    row = row_of(name)
    if not row.folder or row.find((root or data_root()) / row.folder):
        return True
    return read_any(cache or cache_root(), name, image_size) is not None


def mnist_arrays(
    root: Path | None = None, name: str = "mnist"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return images and labels of MNIST or FashionMNIST, for continual learning.

    Parameters
    ----------
    root : Path, optional
        Folder of raw files, by default :func:`data_root`.
    name : {"mnist", "fashion-mnist"}, default "mnist"
        Which.

    Returns
    -------
    train_images, train_labels, test_images, test_labels : ndarray of uint8
        Shapes [60000, 28, 28], [60000], [10000, 28, 28] and [10000].
    """
    if name not in idx.CONTENT_SHA256:
        raise ValueError(f"{name!r} has no IDX files{closest(name, idx.CONTENT_SHA256)}")
    row = DATASETS[name]
    folder = (root or data_root()) / row.folder
    paths = row.find(folder) or fetched(row, folder, progress=True)
    return idx.read_arrays(paths, idx.CONTENT_SHA256[name])


def absent(row: DataSet, folder: Path) -> AbsentError:
    """Return the error that says what must be put where."""
    missing = [file.name for file in row.remote if not file.at(folder)]
    what = ", ".join(missing) if len(missing) < len(row.remote) else row.layout
    return AbsentError(
        f"{row.meta.name} is not in {folder}. Put there {what}; or set WHERETOLEARN_DATA "
        f"to the folder in which {row.folder}/ has them"
    )


def fetched(row: DataSet, folder: Path, progress: bool) -> list[Path]:
    """Download what is absent and return the files."""
    fetch(row.remote, folder, progress)
    if paths := row.find(folder):
        return paths
    raise absent(row, folder)


def counted(row: DataSet, folder: Path, pictures: Iterator[Picture]) -> Iterator[Picture]:
    """Pass pictures on, and check their numbers at the end."""
    where = f"{row.meta.name} in {folder}" if row.folder else row.meta.name
    counts: dict[str, int] = {}
    split_of: dict[str, str | None] = {}
    for picture in pictures:
        counts[picture.label] = counts.get(picture.label, 0) + 1
        split_of[picture.label] = picture.split
        yield picture
    splits = splits_of(row, split_of)
    expected = {label for labels in splits.values() for label in labels}
    if absent := sorted(expected - counts.keys()):
        raise DataError(f"{where}: {len(absent)} classes have no images, first {absent[0]!r}")
    if unknown := sorted(counts.keys() - expected):
        raise DataError(f"{where}: {len(unknown)} unknown classes, first {unknown[0]!r}")
    for label, count in counts.items():
        if row.per_class not in {None, count}:
            raise DataError(f"{where}: class {label!r} has {count} images, not {row.per_class}")
    images = sum(counts.values())
    if images not in row.editions:
        numbers = " or ".join(map(str, row.editions))
        raise DataError(f"{where}: {numbers} images expected, {images} found")
    sizes = sizes_of(splits)
    if sizes != row.split_sizes.get(images, sizes):
        raise DataError(
            f"{where}: {per_split(row.split_sizes[images])} expected, {per_split(sizes)} found; "
            "the class folders must stand in folders of these names"
        )
    if images not in row.split_sizes and len(counts) != row.classes:
        raise DataError(f"{where}: {row.classes} classes expected, {len(counts)} found")


def splits_of(row: DataSet, split_of: Mapping[str, str | None]) -> Splits:
    """Return the class names of each split: the row's own, or what the pictures say."""
    return row.splits() or own_splits(row.meta.name, split_of, row.unsplit)


def sizes_of(splits: Splits) -> tuple[int, ...]:
    """Return the numbers of classes in train, val and test."""
    return tuple(len(splits.get(split, ())) for split in SPLITS)


def per_split(sizes: tuple[int, ...]) -> str:
    """Say how many classes each split has."""
    return f"{' / '.join(map(str, sizes))} classes in {' / '.join(SPLITS)}"
