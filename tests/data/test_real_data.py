"""The published data sets, where they are present."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from wheretolearn.data import DATASETS, class_folders, describe, load, mnist_arrays, verify
from wheretolearn.data.class_folders import read_pictures


def need(data_root: Path, name: str) -> None:
    folder = data_root / DATASETS[name].folder
    if not DATASETS[name].find(folder):
        pytest.skip(f"{name} is not in {folder}")


@pytest.mark.parametrize(
    ("name", "mean", "std"), [("mnist", 0.1307, 0.3081), ("fashion-mnist", 0.2860, 0.3530)]
)
def test_mnist(data_root: Path, name: str, mean: float, std: float) -> None:
    need(data_root, name)
    train, train_labels, test, test_labels = mnist_arrays(data_root, name)
    assert (train.shape, test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert (len(train_labels), len(test_labels)) == (60_000, 10_000)
    assert set(train_labels) == set(range(10))
    pixels = train / 255.0
    assert pixels.mean() == pytest.approx(mean, abs=1e-4)
    assert pixels.std() == pytest.approx(std, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "sizes"), [("mnist", [5923, 6742, 5958]), ("fashion-mnist", [6000, 6000, 6000])]
)
def test_mnist_set(data_root: Path, tmp_path: Path, name: str, sizes: list[int]) -> None:
    need(data_root, name)
    images = load(name, 28, root=data_root, cache=tmp_path)
    assert images.images.shape == (60_000, 28, 28, 1)
    assert np.diff(images.offsets).tolist()[:3] == sizes
    assert images.splits == {"train": (), "val": (), "test": tuple(range(10))}


def test_omniglot(data_root: Path, tmp_path: Path) -> None:
    need(data_root, "omniglot")
    images = load("omniglot", 28, root=data_root, cache=tmp_path)  # checks all drawings
    assert images.images.shape == (32_460, 28, 28, 1)
    assert tuple(len(images.splits[s]) for s in ("train", "val", "test")) == (1028, 172, 423)
    assert 10 < images.images.mean() < 40  # ink is bright, and there is little of it
    assert images.classes[images.splits["test"][0]] == "Gurmukhi/character42"


def test_cub_is_the_2010_edition_or_2011(data_root: Path) -> None:
    need(data_root, "cub")
    lines = verify("cub", data_root)
    assert lines[0].startswith("cub: 200 classes")
    assert "edition" in lines[1] or "2011" in lines[1]


def test_beginning_of_miniimagenet(data_root: Path) -> None:
    need(data_root, "miniimagenet")
    paths = DATASETS["miniimagenet"].find(data_root / "miniimagenet")
    pictures = list(itertools.islice(read_pictures(paths, 42, 3, False), 700))
    splits = DATASETS["miniimagenet"].splits()
    assert splits is not None
    assert {picture.label for picture in pictures} <= {c for s in splits.values() for c in s}
    assert {picture.pixels.shape for picture in pictures} == {(42, 42, 3)}


@pytest.mark.slow
def test_miniimagenet(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture has its place; what is in them is not decoded, which takes most of a minute."""
    need(data_root, "miniimagenet")
    black = np.zeros((42, 42, 3), np.uint8)
    monkeypatch.setattr(class_folders, "decode", lambda content, where, channels: content)
    monkeypatch.setattr(class_folders, "resize", lambda content, size: black)
    images = load("miniimagenet", 42, root=data_root, cache=tmp_path)
    assert images.images.shape == (60_000, 42, 42, 3)
    assert set(np.diff(images.offsets)) == {600}


@pytest.mark.parametrize("name", DATASETS)
def test_describe(data_root: Path, name: str) -> None:
    assert DATASETS[name].title in describe(name, data_root)
