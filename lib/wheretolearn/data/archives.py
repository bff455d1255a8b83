"""One iterator over the files of a folder, a zip or a tar.

Nothing is ever extracted to disk.  An archive comes from somewhere else, so a
member that could reach out of it (an absolute path, ``..``, a link, a device)
or that is absurdly large stops the reading.  A folder is the reader's own:
links in it are followed.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import DataError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")

MAX_MEMBER_BYTES = 256 * 2**20
"""Larger members are refused; the largest real one, a photograph, has a few MB."""

MAX_TOTAL_BYTES = 128 * 2**30
"""Archives that unpack to more are refused; tieredImageNet, uncut, is estimated at 80 GiB."""


def is_archive(path: Path) -> bool:
    """Tell from its name whether a path is an archive that can be read."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files in a folder or an archive, each with its content.

    Parameters
    ----------
    path : Path
        A folder, or a file that ends in one of `ARCHIVE_SUFFIXES`.

    Yields
    ------
    name : str
        Path inside the folder or archive, with ``/`` between its parts.
    content : bytes
        What the file holds.

    Raises
    ------
    DataError
        If the path is absent, damaged or truncated, or a member is refused.
    """
    if path.is_dir():
        yield from _folder_members(path)
    elif not path.exists():
        raise DataError(f"{path} does not exist")
    elif not is_archive(path):
        raise DataError(
            f"{path} is neither a folder nor an archive ({', '.join(ARCHIVE_SUFFIXES)})"
        )
    else:
        total = 0
        read = _zip_members if path.name.lower().endswith(".zip") else _tar_members
        for name, content in read(path):
            total += len(content)
            if total > MAX_TOTAL_BYTES:
                raise DataError(f"{path} unpacks to more than {MAX_TOTAL_BYTES} bytes: refused")
            yield name, content


def _folder_members(path: Path) -> Iterator[tuple[str, bytes]]:
    for folder, subfolders, files in os.walk(path, followlinks=True):
        subfolders.sort()
        for file in sorted(files):
            full = Path(folder, file)
            with _damage_named(full):
                content = full.read_bytes()
            yield full.relative_to(path).as_posix(), content


def _check(archive: Path, name: str, kind: str, size: int) -> None:
    """Refuse a member that is not a plain file inside the archive, or is too large."""
    parts = re.split(r"[/\\]", name)
    if kind != "file":
        reason = f"is a {kind}"
    elif name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        reason = "has an absolute path"
    elif ".." in parts:
        reason = "points out of the archive with '..'"
    elif size > MAX_MEMBER_BYTES:
        reason = f"has {size} bytes, more than {MAX_MEMBER_BYTES}"
    else:
        return
    raise DataError(f"{archive}: member {name!r} {reason}: refused")


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn every way in which an archive can be broken into a DataError."""
    try:
        yield
    except (
        EOFError,  # a compressed stream that ends too early
        OSError,  # includes gzip.BadGzipFile
        zlib.error,
        lzma.LZMAError,
        tarfile.TarError,
        zipfile.BadZipFile,
        NotImplementedError,  # a zip with an unknown compression
        RuntimeError,  # a zip with a password
    ) as error:
        raise DataError(
            f"{path} is damaged or truncated: {error or type(error).__name__}"
        ) from error


def _zip_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            link = stat.S_ISLNK(info.external_attr >> 16)
            _check(path, info.filename, "link" if link else "file", info.file_size)
            if not info.is_dir():
                yield info.filename, archive.read(info)  # checks the CRC


def _open_tar_stream(path: Path) -> IO[bytes]:
    name = path.name.lower()
    if name.endswith((".xz", ".txz")):
        return lzma.open(path)
    if name.endswith((".gz", ".tgz")):
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with (
        _damage_named(path),
        _open_tar_stream(path) as stream,
        tarfile.open(fileobj=stream, mode="r|", bufsize=2**20) as archive,
    ):
        for info in archive:
            if info.issym() or info.islnk():
                kind = "link"
            else:
                kind = "file" if info.isfile() or info.isdir() else "device"
            _check(path, info.name, kind, info.size)
            content = archive.extractfile(info)
            if content is not None:
                yield info.name, content.read()
        _check_tar_end(path, archive.fileobj)  # type: ignore[arg-type]


def _check_tar_end(path: Path, stream: IO[bytes]) -> None:
    """Read the rest, for its checksum, and require the zeros that end every tar.

    tarfile takes a bad header, or a stream that ends between two members, for
    the end of the archive, without a word.
    """
    length = 0
    while block := stream.read(2**20):
        length += len(block)
        if any(block):
            raise DataError(f"{path} is damaged: a member's header cannot be read")
    if length == 0:
        raise DataError(f"{path} is truncated: the end of the archive is missing")
