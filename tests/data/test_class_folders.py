from __future__ import annotations

import json
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import class_folders, image_bytes, write
from PIL import Image

from wheretolearn import data
from wheretolearn.data import DataError, ImageSet, load_folder
from wheretolearn.data import class_folders as module

SPLITS = {"train": ["class0"], "val": ["class1"], "test": ["class2"]}


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(path: Path, image_size: int = 8, **options: Any) -> ImageSet:
        return load_folder(path, image_size, cache=tmp_path / "cache", **options)

    return load


@pytest.mark.parametrize("form", ["folder", "a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
@pytest.mark.parametrize("above", ["", "CUB_200_2011/images/"])
def test_class_folders_in_every_form(tmp_path: Path, load: Any, form: str, above: str) -> None:
    images = load(write(tmp_path / form, class_folders(above=above)))
    assert images.classes == ("class0", "class1", "class2")
    assert images.images.shape == (12, 8, 8, 3)
    assert images.images.dtype == np.uint8
    assert images.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert images.offsets.tolist() == [0, 4, 8, 12]
    assert images.splits == {"train": (0, 1, 2), "val": (), "test": ()}
    with pytest.raises(ValueError, match="read-only"):
        images.images[0] = 1


def test_form_does_not_change_the_fingerprint(tmp_path: Path, load: Any) -> None:
    files = class_folders()
    backwards = dict(reversed(files.items()))
    prints = {
        load(write(tmp_path / "folder", files)).fingerprint,
        load(write(tmp_path / "a.zip", backwards)).fingerprint,
        load(write(tmp_path / "b.tar.xz", files)).fingerprint,
    }
    assert len(prints) == 1
    other = load(write(tmp_path / "c.zip", {**files, "class0/0.png": image_bytes(99)}))
    assert other.fingerprint not in prints
    resplit = load(tmp_path / "a.zip", splits=SPLITS)
    assert resplit.fingerprint not in prints


@pytest.mark.parametrize("as_file", [False, True])
def test_given_splits(tmp_path: Path, load: Any, as_file: bool) -> None:
    splits: Any = {"train": ["class2", "class0"], "test": ["class1"]}
    if as_file:
        (tmp_path / "splits.json").write_text(json.dumps(splits))
        splits = tmp_path / "splits.json"
    images = load(write(tmp_path / "a.zip", class_folders()), splits=splits)
    assert images.splits == {"train": (0, 2), "val": (), "test": (1,)}
    files = {f"top/{s}/{label}/1.png": image_bytes(1) for s, (label,) in SPLITS.items()}
    in_folders = load(write(tmp_path / "b.zip", files))
    assert in_folders.splits == {"train": (0,), "val": (1,), "test": (2,)}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": ["class0", "klass"]}, "'klass' of the train split has no images"),
        ({"train": ["class0"], "test": ["class0"]}, "'class0' is in two splits, train and test"),
        ({"training": ["class0"]}, "training"),
        *((text, r"mine\.json") for text in ("{", "[]", '{"train": "class0"}', '{"train": [1]}')),
    ],
)
def test_wrong_splits_are_named(tmp_path: Path, load: Any, splits: Any, message: str) -> None:
    if isinstance(splits, str):
        (tmp_path / "mine.json").write_text(splits)
        splits = tmp_path / "mine.json"
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "a.zip", class_folders()), splits=splits)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train/a/1.png": b"", "test/a/1.png": b""}, "'a' is in two folders, train/a and test/a"),
        ({"x/a/1.png": b"", "y/a/1.png": b""}, "'a' is in two folders"),
        ({"train/a/1.png": b"", "b/1.png": b""}, "'b' is in no split"),
        ({"1.png": b""}, "1.png is in no class folder"),
        ({"train/1.png": b""}, "1.png is in no class folder"),
        ({"a/readme.txt": b""}, "there are no images"),
        ({"mini-imagenet-cache-train.pkl": pickle.dumps([1])}, "is a pickle"),
    ],
)
def test_wrong_layouts_are_named(
    tmp_path: Path, load: Any, files: dict[str, bytes], message: str
) -> None:
    files = {k: image_bytes(1) if k.endswith("png") else v for k, v in files.items()}
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "a.zip", files))


def test_other_files_and_empty_class_folders_are_passed_over(tmp_path: Path, load: Any) -> None:
    extra = {
        "readme.txt": b"hello",
        "class0/notes.txt": b"hello",
        "class1/.DS_Store": b"\0\0",
        "class1/._1.png": b"resource fork",
    }
    path = write(tmp_path / "folder", {**class_folders(), **extra})
    (path / "class9").mkdir()
    with pytest.warns(UserWarning, match=r"2 files .* 2 '\.txt'"):
        assert load(path).classes == ("class0", "class1", "class2")
    with (
        pytest.warns(UserWarning, match="2 files"),
        pytest.raises(DataError, match="'class9' of the test split has no images"),
    ):
        load(path, splits={"train": ["class0"], "test": ["class9"]})


@pytest.mark.parametrize("form", ["folder", "a.zip", "a.tar"])
def test_hidden_and_system_folders_are_no_classes(tmp_path: Path, load: Any, form: str) -> None:
    made = [".ipynb_checkpoints", "class0/.ipynb_checkpoints", "@eaDir", "class1/@eaDir/1.png"]
    made += ["__pycache__", "__MACOSX/class1", ".Trash-1000/files/class9", "lost+found"]
    made += ["$Recycle.Bin", "@eadir", "@Recently-Snapshot", "#Recycle"]
    extra = {f"{folder}/1.png": image_bytes(99) for folder in made}
    images = load(write(tmp_path / form, {**class_folders(), **extra}))
    assert images.classes == ("class0", "class1", "class2")
    assert len(images.images) == 12


@pytest.mark.parametrize("form", ["folder", "a.zip"])
def test_what_is_left_out_is_counted_in_one_message(tmp_path: Path, load: Any, form: str) -> None:
    heic = ("heic", "HEIC")
    extra = {f"class{i}/{i}{j}.{heic[i]}": b"unknown" for i in range(2) for j in range(4)}
    extra |= {"class2/photo.NEF": b"raw", "class2/picture": b"without ending"}
    extra |= {f"class2/{i}.{i}\x1b\n": b"odd" for i in range(90)}
    extra |= {"class0/.DS_Store": b"hidden"}
    path = write(tmp_path / form, {**class_folders(), **extra})
    with pytest.warns(UserWarning, match="left out") as caught:
        assert len(load(path).images) == 12
    (message,) = [str(warning.message) for warning in caught]
    assert all(part in message for part in (str(path), "100 files", "8 '.heic'", "others"))
    assert len(message) < 250 + len(str(path))
    assert message.isprintable()


def test_what_is_left_out_loses_no_decoded_images(tmp_path: Path, load: Any) -> None:
    path = write(tmp_path / "folder", {**class_folders(), "class0/notes.txt": b"hello"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="left out"):
            load(path)
    assert list((tmp_path / "cache").glob("own-folder-8-*/index.json"))


@pytest.mark.parametrize("kind", ["pipe", "broken link"])
def test_what_is_no_file_is_named(tmp_path: Path, load: Any, kind: str) -> None:
    path = write(tmp_path / "folder", class_folders())
    load(path)
    new = path / "class0" / "new.png"
    os.mkfifo(new) if kind == "pipe" else new.symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"new\.png"):
        load(path)


def test_hidden_archives_and_folders_are_no_data(tmp_path: Path) -> None:
    """A Mac leaves files such as ``._images.zip`` beside those it copies."""
    write(tmp_path, {"._images.zip": b"resource fork", ".ipynb_checkpoints/a.py": b""})
    assert module.find(tmp_path) == []
    path = write(tmp_path / "images.zip", class_folders())
    assert module.find(tmp_path) == [path]


@pytest.mark.parametrize("content", [b"", b"no image", image_bytes(1, 64, "JPEG")[:-200]])
def test_broken_image_is_named(tmp_path: Path, load: Any, content: bytes) -> None:
    path = write(tmp_path / "a.zip", {**class_folders(), "class1/broken.jpg": content})
    with pytest.raises(DataError, match=r"a\.zip: class1/broken\.jpg is not a readable image"):
        load(path)
    assert not list((tmp_path / "cache").glob("[!.]*"))  # nothing half done stays


def test_absurdly_large_image_is_refused(
    tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wheretolearn.data.decoding.MAX_PIXELS", 100)
    path = write(tmp_path / "a.zip", {"a/big.png": image_bytes(1, 11)})
    with pytest.raises(DataError, match="11 x 11 pixels: refused"):
        load(path)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        *(({"image_size": s}, "image_size") for s in (0, -1, 28.0, "28", None, True, 10**6)),
        ({"channels": 2}, "channels"),
        *(({"std": std}, "mean and std") for std in ((1.0, 0.0, 1.0), (1.0,))),
        ({"mean": (0.5,)}, "mean and std"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, load: Any, options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        load(write(tmp_path / "a.zip", class_folders()), **options)


def test_absent_path_is_named(tmp_path: Path, load: Any) -> None:
    with pytest.raises(DataError, match=r"nowhere\.zip does not exist"):
        load(tmp_path / "nowhere.zip")


def test_registered_images_have_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("WHERETOLEARN_CACHE", str(tmp_path / "cache"))
    for label in ("cat", "fox"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (9, 9), 40 * i).save(tmp_path / "mine" / label / f"{i}.png")
    splits = {"train": ["cat"], "test": ["fox"]}
    data.register("mine", tmp_path / "mine", splits, channels=1)
    images = data.load("mine", 8)
    assert (images.name, images.images.shape) == ("mine", (6, 8, 8, 1))
    assert [len(images.splits[s]) for s in ("train", "val", "test")] == [1, 0, 1]
    assert data.at_hand("mine", 8)
    for taken in ("omniglot", "../mine", ""):
        with pytest.raises(ValueError, match="cannot be the name"):
            data.register(taken, tmp_path)
