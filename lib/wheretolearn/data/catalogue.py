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
from .image_set import ImageSet
from .sources import RemoteFile, find

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
    load: Callable[..., ImageSet] | None = None
    """How a reader's own set is loaded, see :func:`~wheretolearn.data.register`."""


@functools.cache
def _bundled_splits() -> dict[str, Splits]:
    text = resources.files(__package__).joinpath("splits.json").read_text(encoding="utf-8")
    return json.loads(text)


def _mnist_like(
    name: str, title: str, licence: str, folder: str, url: str, sha256s: str
) -> DataSet:
    """Return the row of a data set in four IDX files, all classes for tests.

    Pixels lie between 0 and 1, as those of Omniglot, on which the networks are trained that are
    tested here.  Some programs unpack ``train-images-idx3-ubyte.gz`` to
    ``train-images.idx3-ubyte``.
    """
    remote = tuple(
        RemoteFile(f"{n}.gz", f"{url}{n}.gz", sha256, (n, f"{near}.gz", near))
        for n, sha256 in zip(idx.FILES, sha256s.split(), strict=True)
        for near in [n.replace("-idx", ".idx")]
    )
    return DataSet(
        meta=Meta(name, (0.0,), (1.0,)),
        title=title,
        licence=licence,
        folder=folder,
        layout=", ".join(f"{file}.gz" for file in idx.FILES),
        native_size=28,
        classes=10,
        editions={60_000: ""},
        find=functools.partial(find, remote),
        read_pictures=functools.partial(
            idx.read_pictures, expected_sha256=idx.CONTENT_SHA256[name], classes=idx.CLASSES[name]
        ),
        splits=lambda: None,
        unsplit="test",
        remote=remote,
    )


_OMNIGLOT_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"

_OMNIGLOT = tuple(
    RemoteFile(f"{name}.zip", f"{_OMNIGLOT_URL}{name}.zip", sha256, (name,))
    for name, sha256 in {
        "images_background": "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
        "images_evaluation": "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
    }.items()
)

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
        find=functools.partial(find, _OMNIGLOT),
        read_pictures=omniglot.read_pictures,
        splits=lambda: _bundled_splits()["omniglot"],
        per_class=20,
        remote=_OMNIGLOT,
    ),
    _mnist_like(
        "mnist",
        "MNIST (LeCun et al., 1998)",
        "CC BY-SA 3.0",
        "mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 "
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c "
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6 "
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    _mnist_like(
        "fashion-mnist",
        "FashionMNIST (Xiao et al., 2017)",
        "MIT",
        "fashion_mnist",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84 "
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845 "
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073 "
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
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
                "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
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


REGISTERED: dict[str, DataSet] = {}
"""Readers' own ones."""


def row_of(name: str) -> DataSet:
    """Return the row of a name; ValueError with the nearest name if there is none."""
    known = DATASETS | REGISTERED
    if name not in known:
        raise ValueError(f"unknown data set {name!r}{closest(name, known)}")
    return known[name]
