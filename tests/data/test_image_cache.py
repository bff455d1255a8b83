from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
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


def test_unchanged_source_is_not_decoded_anew(counter: Counter) -> None:
    before = counter.load()
    os.utime(counter.source, ns=(0, 0))
    assert counter.load().fingerprint == before.fingerprint
    (counter.source.parent / "moved").mkdir()
    counter.source = counter.source.rename(counter.source.parent / "moved" / "a.zip")
    assert counter.load().fingerprint == before.fingerprint
    assert counter.builds == 1


def bitmaps(folder: Path, label: str, *values: int) -> Path:
    """Write images that differ in nothing but their pixels: no size, no name and no time."""
    images = {f"{label}/{i}.bmp": image_bytes(v, kind="BMP") for i, v in enumerate(values)}
    write(folder, images)
    for file in folder.rglob("*.bmp"):
        os.utime(file, ns=(0, 0))
    return folder


def first_pixels(images: ImageSet) -> list[int]:
    return images.images[:, 0, 0, 0].tolist()


def test_linked_class_folders_are_what_they_link_to(tmp_path: Path) -> None:
    for value, (side, label) in enumerate([("a", "cat"), ("b", "fox"), ("c", "cat")], start=1):
        pool = bitmaps(tmp_path / "pool" / side, label, value)
        (tmp_path / side / "set").mkdir(parents=True)
        (tmp_path / side / "set" / label).symlink_to(pool / label)
    found = [load_folder(tmp_path / s / "set", 8, cache=tmp_path / "cache") for s in "abcab"]
    assert [images.classes for images in found] == [(c,) for c in ("cat", "fox", "cat") * 2][:5]
    assert [first_pixels(images) for images in found] == [[1], [2], [3], [1], [2]]


def test_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for value, side in enumerate("pq"):
        bitmaps(tmp_path / side / "imgs", "cat", value)
    found = [load_folder(tmp_path / s / "imgs", 8, cache=tmp_path / "cache") for s in "pq"]
    assert [first_pixels(images) for images in found] == [[0], [1]]


@pytest.mark.parametrize("linked", ["file", "folder", "all"])
def test_image_changed_behind_a_link_is_noticed(tmp_path: Path, linked: str) -> None:
    pool, path = bitmaps(tmp_path / "pool", "cat", 1, 2), tmp_path / "set"
    where = {"file": "cat/0.bmp", "folder": "cat", "all": ""}[linked]
    (path / where).parent.mkdir(parents=True, exist_ok=True)
    (path / where).symlink_to(pool / where)
    before = load_folder(path, 8, cache=tmp_path / "cache")
    bitmaps(pool, "cat", 3, 2)  # over the same files, with the same times
    after = load_folder(path, 8, cache=tmp_path / "cache")
    assert (first_pixels(before)[0], first_pixels(after)[0]) == (1, 3)
    assert before.fingerprint != after.fingerprint


def test_image_changed_while_it_is_read_is_noticed(counter: Counter) -> None:
    counter.source = bitmaps(counter.source.parent / "set", "cat", 1, 2)
    decode, changes = module.decode, iter([5])

    def slow(*arguments: Any) -> Any:
        for value in changes:
            bitmaps(counter.source, "cat", value, 2)
        return decode(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "decode", slow)
        with pytest.raises(DataError, match="changed while"):
            counter.load()
    assert first_pixels(counter.load()) == [5, 2]


def test_added_file_in_a_folder_is_noticed(tmp_path: Path) -> None:
    for size in (1, 2):
        path = bitmaps(tmp_path / "folder", "cat", *range(size))
        assert len(load_folder(path, 8, cache=tmp_path / "cache").images) == size


def object_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    return stream.getvalue()


DAMAGE: dict[str, tuple[str, Any]] = {
    "truncated": ("images.npy", lambda content: content[:-10]),
    "extended": ("images.npy", lambda content: content + b"0123456789"),
    "zeros": ("images.npy", lambda content: content[:-100] + bytes(100)),
    "bit": ("images.npy", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    "pickle": ("images.npy", lambda content: object_array()),
    "nested index": ("index.json", lambda content: b'{"a":' * 100_000),
    "empty index": ("index.json", lambda content: b""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cache_is_built_anew(counter: Counter, damage: str) -> None:
    good = np.array(counter.load().images)
    name, change = DAMAGE[damage]
    path = counter.folder() / name
    path.write_bytes(change(path.read_bytes()))
    assert (counter.load().images == good).all()
    assert counter.builds == 2


CHANGES = {
    "format": -1,
    "name": "other",
    "classes": ["class0", "class2", "class1"],
    "offsets": [0, 3, 8, 12],
    "splits": {"train": [0, 1], "val": [2], "test": []},
    "mean": [0.0, 0.0, 0.0],
    "std": [2.0, 2.0, 2.0],
    "rotations": True,
    "fingerprint": "0" * 64,
}
WRONG: dict[str, list[Any]] = {
    "format": [-1],
    "offsets": [[0, 4, 8], [1, 4, 8, 12], [0, 4, 8, 13], [0, 8, 4, 12], [0, 4, 4, 12], []],
    "splits": [
        {"train": [0, 1, 2], "val": [2], "test": []},
        {"train": [0, 1, 3], "val": [], "test": []},
        {"train": [0, 1, -1], "val": [], "test": []},
        {"train": [0, 1, 2]},
    ],
}
"""What can be told to be wrong without a digest."""


@pytest.mark.parametrize(
    ("field", "value", "sealed"),
    [
        *((field, value, False) for field, value in CHANGES.items()),
        *((field, value, True) for field, values in WRONG.items() for value in values),
    ],
)
def test_edited_index_is_built_anew(counter: Counter, field: str, value: Any, sealed: bool) -> None:
    good, path = counter.load(), counter.folder() / "index.json"
    index = {**json.loads(path.read_text()), field: value}
    if sealed:
        del index["digest"]
        if field == "splits":
            text = json.dumps([index["classes"], value], sort_keys=True).encode()
            index["fingerprint"] = hashlib.sha256(text + good.images.tobytes()).hexdigest()
        text = json.dumps(index, sort_keys=True).encode()
        index["digest"] = hashlib.sha256(text).hexdigest()
    path.write_text(json.dumps(index))
    after = counter.load()
    assert counter.builds == 2
    for name in ("name", "classes", "splits", "mean", "std", "rotations", "fingerprint"):
        assert getattr(after, name) == getattr(good, name), name
    assert after.offsets.tolist() == good.offsets.tolist()


@pytest.mark.parametrize("what", ["folder", "content"])
def test_cache_of_one_source_is_not_believed_of_another(tmp_path: Path, what: str) -> None:
    cache, found = tmp_path / "cache", []
    for value, side in enumerate("pq"):
        known = set(cache.rglob("*"))
        bitmaps(tmp_path / side / "imgs", "cat", value)
        load_folder(tmp_path / side / "imgs", 8, cache=cache)
        (folder,) = set(cache.glob("own-*")) - known
        (content,) = set(cache.glob(".contents/*")) - known
        found.append({"folder": folder, "content": content}[what])
    for file in [found[0]] if what == "content" else found[0].iterdir():
        shutil.copy(file, found[1] / file.relative_to(found[0]))
    assert first_pixels(load_folder(tmp_path / "q" / "imgs", 8, cache=cache)) == [1]


@pytest.mark.parametrize("name", ["index.json", "images.npy", ".contents"])
def test_pipe_in_the_cache_is_not_waited_for(counter: Counter, name: str) -> None:
    counter.load()
    (path,) = counter.cache.glob(".contents/*" if name == ".contents" else f"*/{name}")
    path.unlink()
    os.mkfifo(path)
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # so that this test would not wait for ever either
        with contextlib.suppress(Exception):
            os._exit(first_pixels(counter.load())[:2] != [0, 1])
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_two_at_once_decode_once(counter: Counter) -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: counter.load(), range(4)))
    assert counter.builds == 1
    assert len({images.fingerprint for images in loaded}) == 1


def test_cache_that_cannot_be_written_is_named(counter: Counter) -> None:
    counter.cache.write_text("a file is in the way")
    with pytest.raises(DataError, match="WHERETOLEARN_CACHE"):
        counter.load()


FILL_A_DISK = """
import pathlib, sys
from wheretolearn.data import DataError, load_folder
folder = pathlib.Path(sys.argv[1])
try:
    load_folder(folder / "set", 256, cache=folder / "small" / "cache")
except DataError as error:
    print(error, sum(p.stat().st_size for p in folder.glob("small/**/*") if p.is_file()))
"""


def test_full_disk_ends_in_one_line_and_is_emptied(tmp_path: Path) -> None:
    """The images fit once, as they arrive, and not twice, as they are sorted."""
    write(tmp_path / "set", class_folders(size=256))  # 2.4 MB
    (tmp_path / "small").mkdir()
    script = f'mount -t tmpfs -o size=3m none "{tmp_path}/small" || exit 77; exec "$@"'
    alone = shutil.which("unshare") or pytest.skip("no unshare")
    python = [sys.executable, "-c", FILL_A_DISK, str(tmp_path)]
    ended = subprocess.run(
        [alone, "--map-root-user", "--mount", "sh", "-c", script, "sh", *python],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode in {1, 77} and "Traceback" not in ended.stderr:
        pytest.skip(f"no disk of one's own: {ended.stderr}")
    assert ended.returncode == 0, ended.stderr
    assert "No space left" in ended.stdout
    assert ended.stdout.count("\n") == 1
    assert int(ended.stdout.split()[-1]) < 1000


@pytest.mark.parametrize("changed", [False, True])
def test_what_a_killed_process_left_is_cleared(counter: Counter, changed: bool) -> None:
    child = os.fork()
    if child == 0:
        module.decode = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        counter.load()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(counter.cache.glob("**/stream"))
    if changed:
        write(counter.source, class_folders(classes=2))
    counter.load()
    assert not list(counter.cache.glob("**/stream"))


def test_what_another_process_is_writing_is_left_alone(counter: Counter) -> None:
    other = counter.cache / f".own-a-8-{'0' * 16}"
    other.mkdir(parents=True)
    (other / "stream").write_bytes(b"1")
    with FileLock(f"{other}.lock"):
        counter.load()
        assert (other / "stream").exists()


@pytest.mark.parametrize("variable", ["WHERETOLEARN_DATA", "WHERETOLEARN_CACHE"])
def test_home_of_nobody_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "~no-such-user/x")
    with pytest.raises(DataError, match=f"~no-such-user/x.*{variable}"):
        data_root() if variable == "WHERETOLEARN_DATA" else cache_root()
