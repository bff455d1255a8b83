"""The table of data sets, and how one is loaded, checked and described."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..suggestions import closest
from . import class_folders, glyphs, idx, omniglot
from .cache import Meta, Picture, cache_key, read_any, read_or_build, state_of
from .decoding import check_size
from .errors import DataError
from .image_set import ImageSet
from .locations import cache_root, data_root
from .sources import RemoteFile, fetch, md5_of

Splits = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class DataSet:
    """One row of the table."""

    meta: Meta
    """Name and statistics."""
    title: str
    """Full name."""
    licence: str
    """Under which terms it can be used."""
    folder: str
    """Where it lies below the data root; empty if it needs no files."""
    layout: str
    """What must lie there."""
    native_size: int
    """Height and width of the stored images."""
    classes: int
    """Number of classes."""
    editions: dict[int, str]
    """Known numbers of images, each with what to say about it."""
    find: Callable[[Path], list[Path]]
    """Files present in its folder; empty if they do not suffice."""
    read_pictures: Callable[[list[Path], int], Iterator[Picture]]
    """Decoder: (paths, image size) -> pictures."""
    splits: Callable[[], Splits | None]
    """Class names of each split; None: each picture says its own."""
    per_class: int | None = None
    """Number of images of every class, where it is fixed."""
    remote: tuple[RemoteFile, ...] = field(default=())
    """Where it can be had."""


@functools.cache
def _bundled_splits() -> dict[str, Splits]:
    text = resources.files(__package__).joinpath("splits.json").read_text(encoding="utf-8")
    return json.loads(text)


def _mnist_like(name: str, title: str, licence: str, folder: str, url: str, md5s: str) -> DataSet:
    """Return the row of a data set in four IDX files."""
    statistics = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.2860, 0.3530)}
    mean, std = statistics[name]
    return DataSet(
        meta=Meta(name, (mean,), (std,)),
        title=title,
        licence=licence,
        folder=folder,
        layout=", ".join(f"{file}.gz" for file in idx.FILES),
        native_size=28,
        classes=10,
        editions={60_000: ""},
        find=idx.find,
        read_pictures=functools.partial(
            idx.read_pictures, expected_md5=idx.CONTENT_MD5[name], classes=idx.CLASSES[name]
        ),
        splits=lambda: None,
        remote=tuple(
            RemoteFile(f"{file}.gz", f"{url}{file}.gz", md5)
            for file, md5 in zip(idx.FILES, md5s.split(), strict=True)
        ),
    )


_OMNIGLOT_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"

_ROWS = (
    DataSet(
        meta=Meta("glyphs", (0.0,), (1.0,)),
        title="Glyphs drawn from the fonts that Matplotlib ships, made when first asked for",
        licence="made here; the fonts (DejaVu) are free",
        folder="",
        layout="",
        native_size=28,
        classes=glyphs.CLASSES,
        editions={glyphs.CLASSES * glyphs.PER_CLASS: ""},
        find=lambda folder: [],
        read_pictures=lambda paths, size: glyphs.draw(size),
        splits=lambda: None,
        per_class=glyphs.PER_CLASS,
    ),
    DataSet(
        meta=Meta("omniglot", (0.0,), (1.0,), rotations=True),
        title="Omniglot (Lake et al., 2015), split of Vinyals et al. (2016)",
        licence="MIT",
        folder="omniglot",
        layout="images_background.zip and images_evaluation.zip, or the folders in them",
        native_size=105,
        classes=1623,
        editions={32_460: ""},
        find=omniglot.find,
        read_pictures=omniglot.read_pictures,
        splits=lambda: _bundled_splits()["omniglot"],
        per_class=20,
        remote=tuple(
            RemoteFile(name, _OMNIGLOT_URL + name, md5)
            for name, md5 in (
                ("images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
                ("images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
            )
        ),
    ),
    _mnist_like(
        "mnist",
        "MNIST (LeCun et al., 1998)",
        "CC BY-SA 3.0",
        "mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 "
        "9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c",
    ),
    _mnist_like(
        "fashion-mnist",
        "FashionMNIST (Xiao et al., 2017)",
        "MIT",
        "fashion_mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
        "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
    ),
    DataSet(
        meta=Meta("miniimagenet", class_folders.IMAGENET_MEAN, class_folders.IMAGENET_STD),
        title="miniImageNet (Vinyals et al., 2016), split of Ravi & Larochelle (2017)",
        licence="ImageNet's terms: non-commercial research only",
        folder="miniimagenet",
        layout="<wnid>/<image>.jpg or {train,val,test}/<wnid>/<image>.jpg, 100 wnids of 600 "
        "images each, as folders or in .zip, .tar, .tar.gz or .tar.xz archives; there is no "
        "address for it that can be relied on",
        native_size=84,
        classes=100,
        editions={60_000: ""},
        find=class_folders.find,
        read_pictures=functools.partial(class_folders.read_pictures, channels=3, use_splits=False),
        splits=lambda: _bundled_splits()["miniimagenet"],
        per_class=600,
    ),
    DataSet(
        meta=Meta("cub", class_folders.IMAGENET_MEAN, class_folders.IMAGENET_STD),
        title="Caltech-UCSD Birds 200, every second class for training",
        licence="Caltech's terms: non-commercial research only",
        folder="cub200",
        layout="CUB_200_2011.tgz, or <NNN.Class>/<image>.jpg, 200 classes, as folders or in an "
        "archive",
        native_size=84,
        classes=200,
        editions={
            6_033: "CUB-200, 2010 edition (6,033 images): not CUB-200-2011, on which papers report",
            11_788: "CUB-200-2011 (11,788 images)",
        },
        find=class_folders.find,
        read_pictures=functools.partial(class_folders.read_pictures, channels=3, use_splits=False),
        splits=lambda: _bundled_splits()["cub"],
        remote=(
            RemoteFile(
                "CUB_200_2011.tgz",
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                "97eceeb196236b17998738112f37df78",
            ),
        ),
    ),
)

DATASETS: dict[str, DataSet] = {row.meta.name: row for row in _ROWS}
"""All data sets by name."""


def _row(name: str) -> DataSet:
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}{closest(name, DATASETS)}")
    return DATASETS[name]


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
    row = _row(name)
    check_size(image_size)
    cache = cache or cache_root()
    folder = (root or data_root()) / row.folder
    paths = row.find(folder)
    if row.folder and not paths:
        decoded = read_any(cache, name, image_size)  # raw files are no longer needed
        if decoded is not None:
            return replace(decoded, note=row.editions.get(len(decoded.images), ""))
        paths = _fetched(row, folder, progress)
    splits = row.splits()
    images = read_or_build(
        cache,
        cache_key(row.meta, image_size, [glyphs.RECIPE if not paths else state_of(paths), splits]),
        row.meta,
        image_size,
        lambda: _counted(row, folder, row.read_pictures(paths, image_size)),
        splits,
        total=max(row.editions),
        progress=progress,
    )
    return replace(images, note=row.editions[len(images.images)])


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
    if name not in idx.CONTENT_MD5:
        raise ValueError(f"{name!r} has no IDX files{closest(name, idx.CONTENT_MD5)}")
    row = DATASETS[name]
    folder = (root or data_root()) / row.folder
    paths = row.find(folder) or _fetched(row, folder, progress=True)
    return idx.read_arrays(paths, idx.CONTENT_MD5[name])


def verify(name: str, root: Path | None = None, progress: bool = False) -> list[str]:
    """Read and check every image of a data set.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    root : Path, optional
        Folder of raw files, by default :func:`data_root`.
    progress : bool, default False
        Whether to show a progress bar.

    Returns
    -------
    list of str
        What was found, a line each.

    Raises
    ------
    DataError
        If files are absent, damaged, or not what they should be.
    """
    row = _row(name)
    folder = (root or data_root()) / row.folder
    paths = row.find(folder)
    if row.folder and not paths:
        raise DataError(_absent(row, folder))
    pictures = _counted(row, folder, row.read_pictures(paths, row.native_size))
    bar = tqdm(pictures, desc=f"checking {name}", unit="img", disable=None if progress else True)
    labels = [picture.label for picture in bar]
    lines = [f"{name}: {len(set(labels))} classes, {len(labels)} images, all readable"]
    if note := row.editions[len(labels)]:
        lines.append(note)
    published = {file.name: file.md5 for file in row.remote}
    for path in paths:
        if path.is_dir():
            lines.append(f"{path}: a folder")
        elif path.name in published and md5_of(path) == published[path.name]:
            lines.append(f"{path}: the published file")
        elif name == "cub" or not published:
            lines.append(f"{path}: no published checksum; class names and counts are right")
        else:
            lines.append(f"{path}: repacked, with the published content")
    return lines


def describe(name: str, root: Path | None = None) -> list[str]:
    """Say what a data set is, where it is looked for, and what a reader must do.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    root : Path, optional
        Folder of raw files, by default :func:`data_root`.

    Returns
    -------
    list of str
        A line each.
    """
    row = _row(name)
    counts = " or ".join(f"{n:,}" for n in row.editions)
    lines = [
        f"{name}: {row.title}",
        f"  {row.classes:,} classes, {counts} images; licence: {row.licence}",
    ]
    if not row.folder:
        return [*lines, "  needs no files"]
    folder = (root or data_root()) / row.folder
    if row.find(folder):
        return [*lines, f"  present in {folder}"]
    lines.append(f"  absent from {folder}")
    if row.remote:
        lines += [f"  downloaded when first used: {file.url}" for file in row.remote]
    else:
        lines.append(f"  put there: {row.layout}; or set WHERETOLEARN_DATA")
    return lines


def _absent(row: DataSet, folder: Path) -> str:
    return (
        f"{row.meta.name} is not in {folder}. Put there {row.layout}; or set WHERETOLEARN_DATA "
        f"to the folder in which {row.folder}/ has them"
    )


def _fetched(row: DataSet, folder: Path, progress: bool) -> list[Path]:
    """Download what is absent and return the files."""
    fetch(row.remote, folder, progress)
    if paths := row.find(folder):
        return paths
    raise DataError(_absent(row, folder))


def _counted(row: DataSet, folder: Path, pictures: Iterator[Picture]) -> Iterator[Picture]:
    """Pass pictures on, and check their numbers at the end."""
    where = f"{row.meta.name} in {folder}" if row.folder else row.meta.name
    counts: dict[str, int] = {}
    for picture in pictures:
        counts[picture.label] = counts.get(picture.label, 0) + 1
        yield picture
    splits = row.splits()
    expected = {label for labels in splits.values() for label in labels} if splits else set(counts)
    if absent := sorted(expected - counts.keys()):
        raise DataError(f"{where}: {len(absent)} classes have no images, first {absent[0]!r}")
    if unknown := sorted(counts.keys() - expected):
        raise DataError(f"{where}: {len(unknown)} unknown classes, first {unknown[0]!r}")
    for label, count in counts.items():
        if row.per_class not in {None, count}:
            raise DataError(f"{where}: class {label!r} has {count} images, not {row.per_class}")
    if sum(counts.values()) not in row.editions:
        numbers = " or ".join(map(str, row.editions))
        raise DataError(f"{where}: {numbers} images expected, {sum(counts.values())} found")
