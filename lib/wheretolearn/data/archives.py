"""One iterator over the files of a folder, a zip or a tar.

Nothing is ever extracted to disk.  An archive comes from somewhere else, so a
member that could reach out of it (an absolute path, ``..``, a link, a device)
or that is absurdly large stops the reading.  A folder is the reader's own:
links in it are followed, to regular files.
"""

from __future__ import annotations

import gzip
import lzma
import math
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from .decoding import is_hidden
from .errors import DataError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")

MAX_MEMBER_BYTES = 256 * 2**20
"""Larger members are refused; the largest real one, a photograph, has a few MB."""

MAX_HEADER_BYTES = 2**16
"""Of a tar's member: its name and whatever else is said of it; a long path has 4 KiB."""

MAX_TOTAL_BYTES = 128 * 2**30
"""Archives that unpack to more are refused; tieredImageNet, uncut, is estimated at 80 GiB."""


def is_archive(path: Path) -> bool:
    """Tell from its name whether a path is an archive that can be read."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def members(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the files in a folder or an archive: what it is called, and what reads it."""
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
        unpack = _zip_members if path.name.lower().endswith(".zip") else _tar_members
        for name, size, read in unpack(path):
            total += size
            if total > MAX_TOTAL_BYTES:
                raise DataError(f"{path} unpacks to more than {MAX_TOTAL_BYTES} bytes: refused")
            yield name, read


def read_file(path: Path) -> bytes:
    """Return the content of a regular file; DataError if it is none, or is absurdly large."""
    if (size := regular(path).st_size) > MAX_MEMBER_BYTES:
        raise DataError(f"{path} has {size} bytes, more than {MAX_MEMBER_BYTES}")
    with _damage_named(path):
        return path.read_bytes()


def regular(path: Path) -> os.stat_result:
    """Return the status of a regular file; DataError if it is none."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe, once opened, would be waited for for ever
        raise DataError(f"{path} is no regular file: refused")
    return status


def folder_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder that are not hidden, by name and path.

    Links are followed, but not round in circles, nor to what is there already.
    """
    seen: dict[tuple[int, int], Path] = {}
    found = [folder]
    for here in found:
        with _damage_named(here):
            status, entries = here.stat(), sorted(here.iterdir())
            folders = {entry for entry in entries if entry.is_dir()}
        first = seen.setdefault((status.st_dev, status.st_ino), here)
        if first != here:
            if first in here.parents:
                continue
            raise DataError(f"{here} is reached twice, as {first} too: leave one link out")
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry in folders:
                found.append(entry)
            else:
                yield entry.relative_to(folder).as_posix(), entry


def _folder_members(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for name, file in folder_files(path):
        yield name, partial(read_file, file)


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
    except DataError:
        raise
    except Exception as error:  # zipfile and tarfile raise whatever the damage leads to
        raise DataError(
            f"{path} is damaged or truncated: {error or type(error).__name__}"
        ) from error


def _zip_members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            link = stat.S_ISLNK(info.external_attr >> 16)
            _check(path, info.filename, "link" if link else "file", info.file_size)
            if not info.is_dir():
                yield info.filename, info.file_size, partial(_unzip, path, archive, info)


def _unzip(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack no more than a member's declared size; also checks the CRC."""
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        # zipfile unpacks the others without a limit
        raise DataError(
            f"{path}: member {info.filename!r} is neither stored nor deflated, as all must be "
            "that are read: pack it anew"
        )
    with _damage_named(path), archive.open(info) as file:
        return file.read(info.file_size)


def _open_tar_stream(path: Path) -> IO[bytes]:
    name = path.name.lower()
    if name.endswith((".xz", ".txz")):
        return lzma.open(path)
    if name.endswith((".gz", ".tgz")):
        return gzip.open(path)  # type: ignore[return-value]
    return path.open("rb")


class _Rationed:
    """A stream that refuses to give more than it was told to.

    tarfile keeps in memory whatever a header says is the name, or the map, of a member.
    """

    def __init__(self, path: Path, stream: IO[bytes]) -> None:
        self.path, self.stream = path, stream
        self.left: float = MAX_HEADER_BYTES
        self.where = "at the beginning"

    def read(self, size: int) -> bytes:
        """Read, see :meth:`io.RawIOBase.read`."""
        block = self.stream.read(size)
        self.left -= len(block)
        if self.left < 0:
            raise DataError(
                f"{self.path}: a header of more than {MAX_HEADER_BYTES} bytes {self.where}: refused"
            )
        return block


def _tar_members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with _damage_named(path), _open_tar_stream(path) as stream:
        rationed = _Rationed(path, stream)
        with tarfile.open(fileobj=rationed, mode="r|") as archive:  # type: ignore[call-overload]
            while (info := archive.next()) is not None:
                if info.issym() or info.islnk():
                    kind = "link"
                else:
                    kind = "file" if info.isfile() or info.isdir() else "device"
                _check(path, info.name, kind, info.size)
                rationed.where = f"after {info.name!r}"
                rationed.left = info.size + tarfile.RECORDSIZE + MAX_HEADER_BYTES
                if info.isfile():
                    yield info.name, info.size, partial(_untar, path, archive, info)
                archive.members.clear()
                archive.pax_headers.clear()
            rationed.left = math.inf
            _check_tar_end(path, archive.fileobj)


def _untar(path: Path, archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    with _damage_named(path):
        content = archive.extractfile(info)
        assert content is not None
        return content.read()


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
