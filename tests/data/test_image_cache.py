from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import class_folders, image_bytes, write

from wheretolearn.data import DataError, ImageSet, cache_root, data_root, load_folder
from wheretolearn.data import class_folders as module


class Counter:
    """Counts how often images are decoded, and loads one archive."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = folder / "cache"
        self.source = write(folder / "a.zip", class_folders())
        self.builds = 0
        read = module.read_pictures

        def counting(*args: Any) -> Any:
            self.builds += 1
            return read(*args)

        monkeypatch.setattr(module, "read_pictures", counting)

    def load(self, size: int = 8) -> ImageSet:
        return load_folder(self.source, size, cache=self.cache)

    def folder(self) -> Path:
        (folder,) = self.cache.glob("[!.]*")
        return folder


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(tmp_path, monkeypatch)


def test_second_load_decodes_nothing(counter: Counter) -> None:
    first, second = counter.load(), counter.load()
    assert counter.builds == 1
    assert first.fingerprint == second.fingerprint
    assert (first.images == second.images).all()
    assert isinstance(second.images, np.memmap)
    counter.load(size=4)
    assert counter.builds == 2


def test_changed_source_is_decoded_anew(counter: Counter) -> None:
    before = counter.load()
    write(counter.source, {**class_folders(), "class0/0.png": image_bytes(77)})
    after = counter.load()
    assert counter.builds == 2
    assert after.images[0, 0, 0, 0] == 77
    assert after.fingerprint != before.fingerprint
    status = counter.source.stat()
    os.utime(counter.source, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    counter.load()
    assert counter.builds == 3


def test_added_file_in_a_folder_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "folder", class_folders())
    assert len(load_folder(path, 8, cache=tmp_path / "cache").images) == 12
    write(path, {"class1/new.png": image_bytes(5)})
    assert len(load_folder(path, 8, cache=tmp_path / "cache").images) == 13


@pytest.mark.parametrize(
    "damage", ["truncate", "extend", "no index", "bad index", "pickle", "format"]
)
def test_damaged_cache_is_built_anew(counter: Counter, damage: str) -> None:
    good = np.array(counter.load().images)
    images, index = counter.folder() / "images.npy", counter.folder() / "index.json"
    known = json.loads(index.read_text())
    if damage == "truncate":
        with images.open("r+b") as file:
            file.truncate(known["bytes"] - 10)
    elif damage == "extend":
        with images.open("ab") as file:
            file.write(b"0123456789")
    elif damage == "no index":
        index.unlink()
    elif damage == "bad index":
        index.write_text("{")
    elif damage == "pickle":
        np.save(images, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        index.write_text(json.dumps({**known, "bytes": images.stat().st_size}))
    elif damage == "format":
        index.write_text(json.dumps({**known, "format": -1}))
    assert (counter.load().images == good).all()
    assert counter.builds == 2


def test_two_at_once_decode_once(counter: Counter) -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: counter.load(), range(4)))
    assert counter.builds == 1
    assert len({images.fingerprint for images in loaded}) == 1


def test_cache_holds_nothing_but_the_images(counter: Counter) -> None:
    counter.load()
    assert sorted(p.name for p in counter.folder().iterdir()) == ["images.npy", "index.json"]


def test_cache_that_cannot_be_written_is_named(counter: Counter) -> None:
    counter.cache.write_text("a file is in the way")
    with pytest.raises(DataError, match="WHERETOLEARN_CACHE"):
        counter.load()


def test_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHERETOLEARN_DATA", str(tmp_path / "raw"))
    monkeypatch.setenv("WHERETOLEARN_CACHE", str(tmp_path / "decoded"))
    assert (data_root(), cache_root()) == (tmp_path / "raw", tmp_path / "decoded")
    monkeypatch.delenv("WHERETOLEARN_DATA")
    monkeypatch.delenv("WHERETOLEARN_CACHE")
    assert data_root() != tmp_path / "raw"
    assert "wheretolearn" in cache_root().parts
