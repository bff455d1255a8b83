from __future__ import annotations

import dataclasses
import gzip
import hashlib
import shutil
import socket
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest
from image_files import MIB, image_bytes, memory_below, write

from wheretolearn.data import (
    DATASETS,
    AbsentError,
    DataError,
    ImageSet,
    at_hand,
    describe,
    idx,
    load,
    load_folder,
    mnist_arrays,
    omniglot,
    verify,
)
from wheretolearn.tasks import EpisodeSampler

SIZES = {"omniglot": (1028, 172, 423), "miniimagenet": (64, 16, 20), "cub": (100, 50, 50)}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)


def change(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    """Let a row of the table expect a smaller set."""
    monkeypatch.setitem(DATASETS, name, dataclasses.replace(DATASETS[name], **fields))


# The table and its splits


@pytest.mark.parametrize("name", SIZES)
def test_bundled_splits_are_disjoint_and_complete(name: str) -> None:
    splits = DATASETS[name].splits()
    assert splits is not None
    assert tuple(len(splits[s]) for s in ("train", "val", "test")) == SIZES[name]
    together = [label for labels in splits.values() for label in labels]
    assert len(set(together)) == len(together) == DATASETS[name].classes


@pytest.mark.parametrize(
    ("name", "nearest"), [("omniglott", "omniglot"), ("MiniImageNet", "miniimagenet")]
)
@pytest.mark.parametrize("function", [lambda n: load(n, 28), verify, describe])
def test_unknown_name_suggests_the_nearest(function: Any, name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{nearest}'"):
        function(name)


@pytest.mark.parametrize("name", [n for n, row in DATASETS.items() if row.folder])
def test_absent_set_says_what_to_put_where(name: str, tmp_path: Path) -> None:
    row = DATASETS[name]
    with pytest.raises(DataError) as caught:
        load(name, 28, root=tmp_path / "raw", cache=tmp_path / "cache")
    message = str(caught.value)
    assert str(tmp_path / "raw" / row.folder) in message
    assert "WHERETOLEARN_DATA" in message
    assert (row.remote[0].name if row.remote else row.layout) in message
    if row.remote:
        assert row.remote[0].sha256 in message
        assert row.remote[0].url in message
    assert "absent" in describe(name, tmp_path)
    assert (row.remote[0].url if row.remote else row.layout) in describe(name, tmp_path)
    with pytest.raises(AbsentError, match="Put there"):
        verify(name, tmp_path)


def deliver(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let every download have a content."""

    def write_it(self: Any, url: str, output_file: Any, *rest: Any, **options: Any) -> None:
        Path(output_file).write_bytes(content)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", write_it)


def test_download_with_a_wrong_checksum_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(monkeypatch, b"an error page")
    with pytest.raises(DataError, match=DATASETS["omniglot"].remote[0].sha256):
        load("omniglot", 28, root=tmp_path, cache=tmp_path / "cache")
    assert not list(tmp_path.rglob("images_background.zip"))


def test_downloads_are_encrypted_and_their_digests_strong() -> None:
    files = [file for row in DATASETS.values() for file in row.remote]
    assert all(file.url.startswith("https://") for file in files)
    assert {len(bytes.fromhex(file.sha256)) for file in files} == {32}


def test_right_download_is_kept_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = gzip.compress(b"anything")
    digest = hashlib.sha256(content).hexdigest()
    remote = tuple(file._replace(sha256=digest) for file in DATASETS["mnist"].remote)
    change(monkeypatch, "mnist", remote=remote)
    deliver(monkeypatch, content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is not the published file"):
        load("mnist", 28, root=tmp_path, cache=tmp_path / "cache")
    assert len(list((tmp_path / "mnist").iterdir())) == 4


# Omniglot


@pytest.fixture
def small_omniglot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    black, white = image_bytes(0, 105, mode="1"), image_bytes(255, 105, mode="1")
    files = {
        "images_background": {
            "images_background/Latin/character01/0001_01.png": black,
            "images_background/Latin/character01/0001_02.png": white,
        },
        "images_evaluation": {
            "images_evaluation/Greek/character01/0002_01.png": white,
            "images_evaluation/Greek/character01/0002_02.png": black,
        },
    }
    monkeypatch.setattr(omniglot, "CONTENT_SHA256", dict(omniglot.CONTENT_SHA256))
    pixels = {black: np.full((105, 105), True), white: np.full((105, 105), False)}  # ink
    for part, content in files.items():
        (tmp_path / "omniglot").mkdir(exist_ok=True)
        write(tmp_path / "omniglot" / f"{part}.zip", content)
        omniglot.CONTENT_SHA256[part] = omniglot.content_digest(
            (name.split("/", 1)[1], hashlib.sha256(np.packbits(pixels[c]).tobytes()).digest())
            for name, c in content.items()
        )
    change(
        monkeypatch,
        "omniglot",
        per_class=2,
        classes=2,
        editions={4: ""},
        splits=lambda: {"train": ["Latin/character01"], "test": ["Greek/character01"]},
    )
    return tmp_path


def test_omniglot_unpacked(small_omniglot: Path) -> None:
    zipped = load("omniglot", 28, root=small_omniglot, cache=small_omniglot / "cache")
    for path in (small_omniglot / "omniglot").glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path.parent)
        path.unlink()
    extra = {"__MACOSX/Latin/character01/0001_01.png": b"", "Latin/character01/notes.txt": b""}
    write(small_omniglot / "omniglot" / "images_background", extra)
    unpacked = load("omniglot", 28, root=small_omniglot, cache=small_omniglot / "other")
    assert unpacked.fingerprint == zipped.fingerprint


@pytest.mark.parametrize("how", ["pixels", "missing", "renamed"])
def test_other_omniglot_content_is_named_with_both_checksums(
    small_omniglot: Path, how: str
) -> None:
    path = small_omniglot / "omniglot" / "images_evaluation.zip"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    first = min(files)
    if how == "pixels":
        files[first] = image_bytes(0, 105, mode="1")
    elif how == "missing":
        del files[first]
    else:
        files[first.replace("_01", "_09")] = files.pop(first)
    write(path, files)
    with pytest.raises(DataError, match=r"images_evaluation\.zip does not hold") as caught:
        load("omniglot", 28, root=small_omniglot, cache=small_omniglot / "cache")
    assert omniglot.CONTENT_SHA256["images_evaluation"] in str(caught.value)
    assert len(str(caught.value).split("found ")[-1]) == 64


def test_decoded_images_do_without_raw_files(small_omniglot: Path) -> None:
    before = load("omniglot", 28, root=small_omniglot, cache=small_omniglot / "cache")
    for path in (small_omniglot / "omniglot").glob("*.zip"):
        path.unlink()
    after = load("omniglot", 28, root=small_omniglot, cache=small_omniglot / "cache")
    assert after.fingerprint == before.fingerprint
    with pytest.raises(DataError, match=r"images_background\.zip"):
        load("omniglot", 14, root=small_omniglot, cache=small_omniglot / "cache")


def test_a_readers_own_set_is_not_taken_for_the_published_one(small_omniglot: Path) -> None:
    """Nor are its classes, if it has the same name and nothing else is there."""
    cache = small_omniglot / "cache"
    own = write(small_omniglot / "mine" / "omniglot", {"a/1.png": image_bytes(0)})
    load_folder(own, 28, channels=1, std=(1.0,), rotations=True, cache=cache)
    with pytest.raises(DataError, match="could not be downloaded"):
        load("omniglot", 28, root=small_omniglot / "nowhere", cache=cache)
    assert load("omniglot", 28, root=small_omniglot, cache=cache).images.shape == (4, 28, 28, 1)


# Class folders with a known split: miniImageNet, CUB


def small_mini(per_class: int = 2) -> dict[str, bytes]:
    splits = DATASETS["miniimagenet"].splits()
    assert splits is not None
    content = image_bytes(7, 10, "JPEG")
    return {
        f"{split}/{label}/{label}{j}.jpg": content
        for split, labels in splits.items()
        for label in labels
        for j in range(per_class)
    }


@pytest.mark.parametrize("form", ["mini-imagenet.tar.xz", "any.zip", "images"])
@pytest.mark.parametrize("with_splits", [True, False])
def test_miniimagenet_layouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, with_splits: bool
) -> None:
    change(monkeypatch, "miniimagenet", per_class=2, editions={200: ""})
    files = small_mini()
    if not with_splits:
        files = {name.split("/", 1)[1]: content for name, content in files.items()}
    (tmp_path / "miniimagenet").mkdir()
    write(tmp_path / "miniimagenet" / form, files)
    images = load("miniimagenet", 10, root=tmp_path, cache=tmp_path / "cache")
    assert images.images.shape == (200, 10, 10, 3)
    assert tuple(len(images.splits[s]) for s in ("train", "val", "test")) == (64, 16, 20)
    assert "present" in describe("miniimagenet", tmp_path)
    assert verify("miniimagenet", tmp_path)[0].startswith("miniimagenet: 100 classes, 200 images")


@pytest.mark.parametrize("how", ["absent class", "unknown class", "too few", "truncated"])
def test_wrong_miniimagenet_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    change(monkeypatch, "miniimagenet", per_class=2, editions={200: ""})
    files = small_mini()
    message = {
        "absent class": "1 classes have no images, first 'n01930112'",
        "unknown class": "1 unknown classes, first 'dog'",
        "too few": "'n01930112' has 1 images, not 2",
        "truncated": "mini-imagenet.tar.xz is damaged or truncated",
    }[how]
    if how == "absent class":
        files = {name: c for name, c in files.items() if "n01930112" not in name}
    elif how == "unknown class":
        files["train/dog/1.jpg"] = image_bytes(1)
    elif how == "too few":
        del files["test/n01930112/n019301120.jpg"]
    (tmp_path / "miniimagenet").mkdir()
    path = write(tmp_path / "miniimagenet" / "mini-imagenet.tar.xz", files)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=message):
        load("miniimagenet", 10, root=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(DataError, match=message):
        verify("miniimagenet", tmp_path)


def test_cub_tells_its_edition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = DATASETS["cub"].splits()
    assert splits is not None
    change(monkeypatch, "cub", editions={200: "the small edition", 201: "the other one"})
    labels = [label for part in splits.values() for label in part]
    files = {f"CUB_200_2011/images/{c}/1.jpg": image_bytes(3, 10, "JPEG") for c in labels}
    (tmp_path / "cub200").mkdir()
    write(tmp_path / "cub200" / "CUB_200_2011.tgz", files)
    images = load("cub", 10, root=tmp_path, cache=tmp_path / "cache")
    assert images.note == "the small edition"
    assert load("cub", 10, root=tmp_path, cache=tmp_path / "cache").note == images.note
    assert "the small edition" in verify("cub", tmp_path)
    change(monkeypatch, "cub", editions={6033: "", 11788: ""})
    with pytest.raises(DataError, match="6033 or 11788 images expected, 200 found"):
        verify("cub", tmp_path)


# Class folders that say their own splits: tieredImageNet, Stanford Cars

TIERED = {"train": 3, "val": 2, "test": 4}
"""Classes of a small tieredImageNet; two images each."""


def folders(splits: Mapping[str, int]) -> dict[str, bytes]:
    """Return two images of each class, of different sizes; a split "" is no folder."""
    return {
        f"{split}/{split}{i}/{j}.JPEG".lstrip("/"): image_bytes(20 * i + j, 9 + i, "JPEG")
        for split, classes in splits.items()
        for i in range(classes)
        for j in range(2)
    }


@pytest.fixture
def tiered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where to put a tieredImageNet of few classes."""
    change(
        monkeypatch,
        "tieredimagenet",
        editions={18: "", 8: "tests only"},
        split_sizes={18: (3, 2, 4), 8: (0, 0, 4)},
    )
    (tmp_path / "tieredimagenet").mkdir()
    return tmp_path / "tieredimagenet"


@pytest.fixture
def cars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where to put six cars."""
    change(monkeypatch, "cars", editions={12: ""}, classes=6)
    (tmp_path / "cars").mkdir()
    return tmp_path / "cars"


def load_from(folder: Path, image_size: int = 8) -> ImageSet:
    cache = folder.parent / "cache"
    return load(folder.name, image_size, root=folder.parent, cache=cache, progress=False)


def check_refused(folder: Path, message: str) -> None:
    """Check that neither `load` nor `verify` takes what lies there, and that nothing is kept."""
    with pytest.raises(DataError, match=message):
        load_from(folder)
    with pytest.raises(DataError, match=message):
        verify(folder.name, folder.parent)
    assert not list((folder.parent / "cache").glob("[!.]*"))


@pytest.mark.parametrize("form", [".", "tiered.tar.gz", "any.zip"])
@pytest.mark.parametrize("above", ["", "tiered_imagenet/"])
def test_tieredimagenet_layouts(tiered: Path, form: str, above: str) -> None:
    files = {above + name: content for name, content in folders(TIERED).items()}
    write(tiered / form, files)
    images = load_from(tiered)
    assert images.images.shape == (18, 8, 8, 3)
    assert images.classes[:4] == ("test0", "test1", "test2", "test3")
    assert images.splits == {"train": (4, 5, 6), "val": (7, 8), "test": (0, 1, 2, 3)}
    assert images.images[::2, 0, 0, 2].tolist() == [0, 20, 40, 60, 0, 20, 40, 0, 20]
    assert (images.note, images.mean) == ("", DATASETS["miniimagenet"].meta.mean)
    assert "present" in describe("tieredimagenet", tiered.parent)
    lines = verify("tieredimagenet", tiered.parent)
    assert lines[0].endswith("all readable; 3 / 2 / 4 classes in train / val / test")
    assert "class names" not in lines[-1]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"": 9}, "3 / 2 / 4 classes in train / val / test expected, 9 / 0 / 0"),
        ({"": 4}, "0 / 0 / 4 classes in train / val / test expected, 4 / 0 / 0"),
        ({"train": 4}, "0 / 0 / 4 classes in train / val / test expected, 4 / 0 / 0"),
        ({"train": 4, "val": 1, "test": 4}, "expected, 4 / 1 / 4"),
        ({"train": 3, "test": 4}, "18 or 8 images expected, 14 found"),
        ({"train": 5, "": 4}, "class '0' is in no split, though others are"),
    ],
)
def test_wrong_tieredimagenet_is_named(tiered: Path, splits: dict[str, int], message: str) -> None:
    write(tiered, folders(splits))
    check_refused(tiered, message)


@pytest.mark.parametrize("form", [".", "cars.zip", "cars.tar"])
def test_cars_without_splits_are_for_tests(cars: Path, form: str) -> None:
    write(cars / form, folders({"": 6}))
    images = load_from(cars)
    assert images.images.shape == (12, 8, 8, 3)
    assert images.splits == {"train": (), "val": (), "test": (0, 1, 2, 3, 4, 5)}
    assert verify("cars", cars.parent)[0].endswith("; 0 / 0 / 6 classes in train / val / test")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (folders({"train": 3, "": 3}), "class '0' is in no split, though others are"),
        (  # divided by image, as published
            {f"{s}/{c}/{s}.jpg": image_bytes(1) for s in ("train", "test") for c in "abcdef"},
            "class 'a' is in two folders, ",
        ),
        (  # as published, without the list of classes
            {f"car_ims/{i:06}.jpg": image_bytes(1) for i in range(12)},
            "6 classes expected, 1 found",
        ),
        (folders({"": 5}), "12 images expected, 10 found"),
        ({**folders({"": 5}), "5/0.jpg": b"", "5/1.jpg": b""}, r"5/0\.jpg is not a readable image"),
        ({**folders({"": 5}), "../5/0.jpg": b""}, "points out of the archive"),
        ({**folders({"": 6}), "cars.pkl": b""}, "is a pickle"),
    ],
)
def test_wrong_cars_are_named(cars: Path, files: dict[str, bytes], message: str) -> None:
    write(cars / "cars.tar", files)
    check_refused(cars, message)


def test_broken_image_of_a_folder_is_named(tiered: Path) -> None:
    broken = image_bytes(1, 64, "JPEG")[:-200]
    write(tiered, {**folders(TIERED), "test/test1/1.JPEG": broken})
    check_refused(tiered, r"test/test1/1\.JPEG is not a readable image")


def test_what_is_at_hand(cars: Path) -> None:
    root, cache = cars.parent, cars.parent / "cache"

    def there(image_size: int = 8) -> bool:
        return at_hand("cars", image_size, root=root, cache=cache)

    assert not there()
    write(cars, folders({"": 6}))
    assert there()
    assert not cache.exists(), "nothing is decoded to find out"
    load_from(cars)
    shutil.rmtree(cars)
    assert there(), "decoded images do without raw files"
    assert not there(9)
    assert at_hand("glyphs", 8, root=root, cache=cache)
    assert not at_hand("mnist", 8, root=root, cache=cache), "it could be downloaded"
    with pytest.raises(ValueError, match="did you mean 'cars'"):
        at_hand("car", 8)


# MNIST


def idx_bytes(array: np.ndarray) -> bytes:
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + (array.astype(np.uint8).tobytes())
    )


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 256, (20, 28, 28)),
        np.arange(20) % 10,
        rng.integers(0, 256, (10, 28, 28)),
        np.arange(10),
    ]
    contents = [idx_bytes(array) for array in arrays]
    (tmp_path / "mnist").mkdir()
    for name, content in zip(idx.FILES, contents, strict=True):
        (tmp_path / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content))
    digests = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    monkeypatch.setitem(idx.CONTENT_SHA256, "mnist", digests)
    row = DATASETS["mnist"]
    read: Any = row.read_pictures
    change(
        monkeypatch,
        "mnist",
        editions={20: ""},
        read_pictures=lambda paths, size: read.func(
            paths, size, expected_sha256=digests, classes=idx.CLASSES["mnist"]
        ),
    )
    return tmp_path


def test_mnist_is_for_tests(small_mnist: Path) -> None:
    images = load("mnist", 28, root=small_mnist, cache=small_mnist / "cache")
    episodes = EpisodeSampler(images, "test", ways=10, shots=1, queries=1, seed=0)
    assert len(episodes[0].support.inputs) == 10
    with pytest.raises(ValueError, match="split 'train' of mnist has 0"):
        EpisodeSampler(images, "train", ways=2, shots=1, queries=1, seed=0)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_mnist_under_a_near_name(small_mnist: Path, end: str) -> None:
    """Some programs make of the last hyphen a full stop, or unpack and keep the name."""
    before = mnist_arrays(small_mnist)
    for path in (small_mnist / "mnist").glob("*.gz"):
        content = path.read_bytes() if "images" in path.name else gzip.decompress(path.read_bytes())
        path.with_name(path.stem.replace("-idx", ".idx") + end).write_bytes(content)
        path.unlink()
    assert at_hand("mnist", 28, root=small_mnist, cache=small_mnist / "cache")
    after = mnist_arrays(small_mnist)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_only_what_is_missing_is_asked_for(small_mnist: Path, small_omniglot: Path) -> None:
    labels = small_mnist / "mnist" / "t10k-labels-idx1-ubyte.gz"
    labels.unlink()
    labels.with_suffix("").mkdir()  # some sites have each file in a folder of its name
    for path in (small_mnist / "mnist").glob("*-images-*"):
        path.with_name(path.stem.replace("-idx", ".idx")).write_bytes(
            gzip.decompress(path.read_bytes())
        )
        path.unlink()
    background, evaluation = sorted((small_omniglot / "omniglot").glob("*.zip"))
    with zipfile.ZipFile(background) as archive:
        archive.extractall(background.parent)
    background.unlink()
    evaluation.unlink()
    for name, there, missing in (
        ("mnist", "train-images", labels.name),
        ("omniglot", background.name, evaluation.name),
    ):
        row = DATASETS[name]
        with pytest.raises(DataError, match=f"{missing} could not") as download:
            load(name, 28, root=small_mnist, cache=small_mnist / "cache")
        with pytest.raises(AbsentError, match=missing) as absent:
            verify(name, small_mnist)
        said = describe(name, small_mnist)
        assert missing in said
        assert row.folder in said
        for message in (str(download.value), str(absent.value), said):
            assert there not in message


def test_wrong_mnist_file_is_named_with_both_checksums(small_mnist: Path) -> None:
    path = small_mnist / "mnist" / "t10k-labels-idx1-ubyte.gz"
    wrong = idx_bytes(np.arange(9))
    path.write_bytes(gzip.compress(wrong))
    with pytest.raises(DataError, match=path.name) as caught:
        mnist_arrays(small_mnist)
    assert idx.CONTENT_SHA256["mnist"][3] in str(caught.value)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        *((c, "is not an IDX file") for c in (b"", b"\0\0", b"\0\0\x08\x03\0\0")),
        (b"\0\0\x0d\x01" + bytes(8), "is not an IDX file"),
        (idx_bytes(np.ones(9))[:-1], "is truncated"),
        (idx_bytes(np.ones(9)) + b"1", "has more than its header says"),
    ],
)
def test_files_that_are_not_idx(tmp_path: Path, content: bytes, word: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=word):
        idx.read_idx(tmp_path / "file")


def test_idx_file_is_not_unpacked_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "_MAX_BYTES", MIB)
    (tmp_path / "file.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(32 * MIB)), 1))
    with memory_below(8 * MIB), pytest.raises(DataError, match=r"file\.gz"):
        idx.read_idx(tmp_path / "file.gz")
