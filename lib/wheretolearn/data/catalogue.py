"""The table of data sets."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from ..suggestions import closest
from . import class_folders, glyphs, idx, omniglot
from .cache import Meta, Picture
from .sources import RemoteFile

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
    unsplit: str = "train"
    """Split of all classes where no picture says its own."""
    split_sizes: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Numbers of classes in train, val and test, by edition, where pictures must say them."""
    per_class: int | None = None
    """Number of images of every class, where it is fixed."""
    remote: tuple[RemoteFile, ...] = ()
    """Where it can be had."""


@functools.cache
def _bundled_splits() -> dict[str, Splits]:
    text = resources.files(__package__).joinpath("splits.json").read_text(encoding="utf-8")
    return json.loads(text)


def _mnist_like(name: str, title: str, licence: str, folder: str, url: str, md5s: str) -> DataSet:
    """Return the row of a data set in four IDX files, all classes for tests.

    Pixels lie between 0 and 1, as those of Omniglot, on which the networks are trained that are
    tested here.
    """
    return DataSet(
        meta=Meta(name, (0.0,), (1.0,)),
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
        unsplit="test",
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
    DataSet(
        meta=Meta("tieredimagenet", class_folders.IMAGENET_MEAN, class_folders.IMAGENET_STD),
        title="tieredImageNet (Ren et al., 2018)",
        licence="ImageNet's terms: non-commercial research only",
        folder="tieredimagenet",
        layout="{train,val,test}/<class>/<image>.jpg, 351, 97 and 160 classes, or test/ alone for "
        "tests only, as folders or in .zip, .tar, .tar.gz or .tar.xz archives; there is no "
        "address for it that can be relied on",
        native_size=84,
        classes=608,
        editions={779_165: "", 206_209: "the test classes only (206,209 images)"},
        find=class_folders.find,
        read_pictures=functools.partial(class_folders.read_pictures, channels=3, use_splits=True),
        splits=lambda: None,
        split_sizes={779_165: (351, 97, 160), 206_209: (0, 0, 160)},
    ),
    DataSet(
        meta=Meta("cars", class_folders.IMAGENET_MEAN, class_folders.IMAGENET_STD),
        title="Stanford Cars (Krause et al., 2013)",
        licence="see its authors' terms",
        folder="cars",
        layout="<class>/<image>.jpg, 196 classes, all for tests, or {train,val,test}/<class>/"
        "<image>.jpg, with each class in one of them, as folders or in .zip, .tar, .tar.gz or "
        ".tar.xz archives; there is no address for it that can be relied on",
        native_size=84,
        classes=196,
        editions={
            8_144: "the training half of Stanford Cars (8,144 images): papers report on all of it",
            16_185: "",
        },
        find=class_folders.find,
        read_pictures=functools.partial(class_folders.read_pictures, channels=3, use_splits=True),
        splits=lambda: None,
        unsplit="test",
    ),
)

DATASETS: dict[str, DataSet] = {row.meta.name: row for row in _ROWS}
"""All data sets by name."""


def row_of(name: str) -> DataSet:
    """Return the row of a name; ValueError with the nearest name if there is none."""
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}{closest(name, DATASETS)}")
    return DATASETS[name]
