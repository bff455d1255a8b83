from __future__ import annotations

import gzip
import itertools
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import MIB, memory_below, write

from wheretolearn.data import DataError, archives
from wheretolearn.data.archives import members

FORMS = ["folder", "a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz"]
FILES = {"x/1.bin": bytes(range(256)) * 20, "x/2.bin": b"", "y/deep/3.bin": b"three"}


def unpacked(path: Path) -> list[tuple[str, bytes]]:
    """Return all files with their contents."""
    return [(name, read()) for name, read in members(path)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_files(tmp_path: Path, form: str) -> None:
    assert dict(unpacked(write(tmp_path / form, FILES))) == FILES
    assert [p.name for p in tmp_path.iterdir()] == [form], "nothing is written"


@pytest.mark.parametrize("form", FORMS[1:])
@settings(max_examples=15)
@given(keep=st.floats(0.02, 0.98))
def test_truncated_archive_is_an_error_that_names_it(form: str, keep: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, form), FILES)
        whole = path.read_bytes()
        # A tar is padded to 10 kB; what matters ends before the padding.
        length = min(len(whole), 7 * 1024) if form == "a.tar" else len(whole)
        path.write_bytes(whole[: int(keep * length)])
        with pytest.raises(DataError, match=form):
            unpacked(path)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda whole: whole[:1024], "truncated"),  # header and content of the first
        (lambda whole: whole[:1034] + b"\xff" + whole[1035:], "damaged"),  # header of the second
    ],
    ids=["between members", "header"],
)
def test_tar_with_a_damaged_end_is_an_error(tmp_path: Path, damage: Any, word: str) -> None:
    path = write(tmp_path / "a.tar", {"x/1": b"1" * 512, "x/2": b"2" * 512})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=word):
        unpacked(path)


@pytest.mark.parametrize("form", ["a.tar.gz", "a.tar.xz", "a.zip"])
@pytest.mark.parametrize("where", [0.3, 0.5, 0.7])
def test_flipped_bits_are_an_error(tmp_path: Path, form: str, where: float) -> None:
    text = b"".join(str(i * i).encode() for i in range(5000))
    path = write(tmp_path / form, {"x/1": text})
    content = bytearray(path.read_bytes())
    middle = int(where * len(content))
    content[middle : middle + 40] = bytes(b ^ 0xFF for b in content[middle : middle + 40])
    path.write_bytes(content)
    with pytest.raises(DataError, match=form):
        unpacked(path)


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_other_content_under_an_archive_name_is_an_error(
    tmp_path: Path, form: str, pack: Any
) -> None:
    path = tmp_path / form
    path.write_bytes(pack(b"<html>404 not found</html>" * 400))
    with pytest.raises(DataError, match=form):
        unpacked(path)


@pytest.mark.parametrize("evil", ["../out.png", "a/../../out.png", "/etc/out.png", "C:/out.png"])
@pytest.mark.parametrize("form", ["a.zip", "a.tar", "a.tar.gz"])
def test_member_that_reaches_out_is_refused(tmp_path: Path, form: str, evil: str) -> None:
    path = write(tmp_path / form, {"good/1.png": b"1", evil: b"2"})
    with pytest.raises(DataError, match="refused") as caught:
        unpacked(path)
    assert evil in str(caught.value)
    assert form in str(caught.value)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_link_or_device_in_a_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("class/innocent.png")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(info)
    word = "link" if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else "device"
    with pytest.raises(DataError, match=f"innocent.png' is a {word}"):
        unpacked(tmp_path / "a.tar")


def test_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("class/innocent.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        unpacked(tmp_path / "a.zip")


@pytest.mark.parametrize("form", ["a.zip", "a.tar.gz"])
def test_bombs_are_refused(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / form, {"x/1": bytes(4000), "x/2": bytes(4000)})
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 3000)
    with pytest.raises(DataError, match="4000 bytes"):
        unpacked(path)
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 5000)
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 7000)
    with pytest.raises(DataError, match="more than 7000"):
        unpacked(path)


# Attacks: little bytes that ask for much memory, or for ever


def test_zip_that_understates_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/1.png", bytes(16_123_457))
    content, size = path.read_bytes(), struct.pack("<I", 16_123_457)
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, struct.pack("<I", 10)))
    with memory_below(2 * MIB), pytest.raises(DataError, match=r"a\.zip"):
        unpacked(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_methods_without_a_limit_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("x/1.png", bytes(16 * MIB))
    with memory_below(2 * MIB), pytest.raises(DataError, match=r"'x/1\.png' is .*deflated"):
        unpacked(tmp_path / "a.zip")


def header(kind: bytes, size: int, name: str = "x/1.png") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


LONG = b"a" * (16 * MIB)
SPARSE = b"".join(  # version 1.0: the map is in front of the content
    b"%d %s\n" % (len(pair) + 4, pair)
    for pair in (b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.name=1")
)


@pytest.mark.parametrize("before", ["", "x/0.png"])
@pytest.mark.parametrize(
    "content",
    [
        header(tarfile.GNUTYPE_LONGNAME, len(LONG)) + LONG,
        header(tarfile.GNUTYPE_LONGLINK, len(LONG)) + LONG,
        header(tarfile.XHDTYPE, len(LONG)) + b"%d path=" % len(LONG) + LONG,
        header(tarfile.XGLTYPE, len(LONG)) + b"%d comment=" % len(LONG) + LONG,
        header(tarfile.XHDTYPE, len(SPARSE)).ljust(512, b"\0")
        + SPARSE.ljust(512, b"\0")
        + header(tarfile.REGTYPE, len(LONG))
        + b"9000000\n"
        + b"1\n" * (len(LONG) // 2),
        header(tarfile.XHDTYPE, 512) + b"9" * 6000,
    ],
    ids=["name", "link", "pax", "global", "sparse", "number"],
)
def test_tar_with_an_absurd_header(tmp_path: Path, content: bytes, before: str) -> None:
    path = tmp_path / "a.tar.xz"
    content = header(tarfile.REGTYPE, 0, before) * bool(before) + content
    path.write_bytes(lzma.compress(content + header(tarfile.REGTYPE, 0) + bytes(1024), preset=0))
    with memory_below(4 * MIB), pytest.raises(DataError, match=r"a\.tar\.xz") as caught:
        unpacked(path)
    assert before in str(caught.value) or "invalid header" in str(caught.value)


@pytest.mark.parametrize("of_all", [False, True])
def test_headers_do_not_pile_up(tmp_path: Path, of_all: bool) -> None:
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for i in range(300):
            said = {f"comment{i}": "long " * 8_000}
            info = tarfile.TarInfo(f"x/{i}")
            if of_all:
                file.write(tarfile.TarInfo.create_pax_global_header(said))
            else:
                info.pax_headers = said
            file.write(info.tobuf(tarfile.PAX_FORMAT))
        file.write(bytes(1024))
    with memory_below(4 * MIB):
        assert len(unpacked(path)) == 300


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_unpacked_for_its_name(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / form, {"x/1.png": b"1", "x/2.bin": bytes(16 * MIB), "x/3.png": b"3"})
    with memory_below(12 * MIB):  # the window of xz has 8
        found = [read() for name, read in members(path) if name.endswith(".png")]
    assert found == [b"1", b"3"]


def test_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    path = write(tmp_path / "folder", {"x/1.png": b"1"})
    os.mkfifo(path / "x" / "2.png")
    writer = Thread(target=(path / "x" / "2.png").write_bytes, args=(b"",), daemon=True)
    writer.start()  # so that this test would not wait for ever either
    with pytest.raises(DataError, match=r"2\.png is no regular file"):
        unpacked(path)
    end = os.open(path / "x" / "2.png", os.O_RDONLY | os.O_NONBLOCK)
    writer.join()
    os.close(end)


def test_large_file_in_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 3000)
    path = write(tmp_path / "folder", {"x/1.png": bytes(3000), "x/2.png": bytes(3001)})
    with pytest.raises(DataError, match=r"2\.png has 3001 bytes"):
        unpacked(path)


def test_links_in_a_folder_are_followed_but_not_round_in_circles(tmp_path: Path) -> None:
    pool = write(tmp_path / "pool", {"cat/1.png": b"1"})
    path = write(tmp_path / "folder", {"x/2.png": b"2", "y/3.png": b"3"})
    (path / "cat").symlink_to(pool / "cat")
    for link in ("x/back", "x/again", "y/back", "y/again"):
        (path / link).symlink_to(path)
    assert dict(unpacked(path)) == {"cat/1.png": b"1", "x/2.png": b"2", "y/3.png": b"3"}


@pytest.mark.parametrize("link", ["vixen", "dog/pup", "a/b"])
def test_folder_that_is_reached_twice_is_named(tmp_path: Path, link: str) -> None:
    path = write(tmp_path / "folder", {"a/1.png": b"1", "dog/2.png": b"2", "fox/3.png": b"3"})
    (path / link).symlink_to(path / "fox")
    with pytest.raises(DataError, match="reached twice"):
        unpacked(path)


def test_folders_that_all_link_to_one_another_end_at_once(tmp_path: Path) -> None:
    """A walk along every way through them would not end in a life."""
    path = write(tmp_path / "folder", {f"{i}/1.png": b"1" for i in range(12)})
    for i in range(12):
        for j in range(12):
            (path / str(i) / f"to{j}").symlink_to(path / str(j))
    with pytest.raises(DataError, match="reached twice"):
        list(itertools.islice(members(path), 1000))
