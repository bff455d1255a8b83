from __future__ import annotations

import gzip
import io
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import write

from wheretolearn.data import DataError, archives
from wheretolearn.data.archives import members

FORMS = ["folder", "a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz"]
FILES = {"x/1.bin": bytes(range(256)) * 20, "x/2.bin": b"", "y/deep/3.bin": b"three"}

part = st.text("abcXYZ09 _-é", min_size=1, max_size=8).filter(lambda s: s.strip() == s)
name = st.lists(part, min_size=2, max_size=3).map("/".join)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_files(tmp_path: Path, form: str) -> None:
    assert dict(members(write(tmp_path / form, FILES))) == FILES


@settings(max_examples=20)
@given(files=st.dictionaries(name, st.binary(max_size=600), min_size=1, max_size=5))
@pytest.mark.parametrize("form", ["a.zip", "a.tar.gz"])
def test_any_content_comes_back(form: str, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert dict(members(write(Path(folder, form), files))) == files


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
            list(members(path))


def test_tar_cut_between_two_members_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", {"x/1": b"1" * 512, "x/2": b"2" * 512})
    path.write_bytes(path.read_bytes()[:1024])  # header and content of the first
    with pytest.raises(DataError, match="truncated"):
        list(members(path))


def test_tar_with_a_damaged_header_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", {"x/1": b"1" * 512, "x/2": b"2" * 512})
    content = bytearray(path.read_bytes())
    content[1024 + 10] ^= 0xFF  # in the header of the second
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        list(members(path))


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
        list(members(path))


@pytest.mark.parametrize("form", FORMS[1:])
def test_other_content_under_an_archive_name_is_an_error(tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    path.write_bytes(b"<html>404 not found</html>" * 100)
    with pytest.raises(DataError, match=form):
        list(members(path))


@pytest.mark.parametrize("evil", ["../out.png", "a/../../out.png", "/etc/out.png", "C:/out.png"])
@pytest.mark.parametrize("form", ["a.zip", "a.tar", "a.tar.gz"])
def test_member_that_reaches_out_is_refused(tmp_path: Path, form: str, evil: str) -> None:
    path = write(tmp_path / form, {"good/1.png": b"1", evil: b"2"})
    with pytest.raises(DataError, match="refused") as caught:
        list(members(path))
    assert evil in str(caught.value)
    assert form in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.FIFOTYPE, "device"),
        (tarfile.CHRTYPE, "device"),
    ],
)
def test_link_or_device_in_a_tar_is_refused(tmp_path: Path, kind: bytes, word: str) -> None:
    info = tarfile.TarInfo("class/innocent.png")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(info)
    with pytest.raises(DataError, match=f"innocent.png' is a {word}"):
        list(members(tmp_path / "a.tar"))


def test_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("class/innocent.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        list(members(tmp_path / "a.zip"))


@pytest.mark.parametrize("form", ["a.zip", "a.tar.gz"])
def test_bombs_are_refused(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / form, {"x/1": bytes(4000), "x/2": bytes(4000)})
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 3000)
    with pytest.raises(DataError, match="4000 bytes"):
        list(members(path))
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 5000)
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 7000)
    with pytest.raises(DataError, match="more than 7000"):
        list(members(path))


def test_nothing_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar.gz", FILES)
    list(members(path))
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]


def test_absent_and_unknown_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list(members(tmp_path / "nothing.zip"))
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        list(members(tmp_path / "a.rar"))


def test_gzip_that_is_no_tar_is_an_error(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb") as file:
        file.write(b"no tar " * 1000)
    (tmp_path / "a.tar.gz").write_bytes(stream.getvalue())
    with pytest.raises(DataError, match=r"a\.tar\.gz"):
        list(members(tmp_path / "a.tar.gz"))
