"""Published files that can be fetched, with their checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pooch

from .errors import DataError


class RemoteFile(NamedTuple):
    """One file of a data set on the internet."""

    name: str
    """File name on disk."""
    url: str
    """Address."""
    md5: str
    """MD5 of the published file."""


def fetch(files: Iterable[RemoteFile], folder: Path, progress: bool = True) -> None:
    """Download the files that are absent, and check them.

    Parameters
    ----------
    files : iterable of RemoteFile
        What to download.
    folder : Path
        Where to put it.
    progress : bool, default True
        Whether to show progress bars.

    Raises
    ------
    DataError
        If a file cannot be had; says which file to put where by hand.
    """
    for file in files:
        if (folder / file.name).exists():
            continue
        try:
            pooch.retrieve(
                url=file.url,
                known_hash=f"md5:{file.md5}",
                fname=file.name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=progress, timeout=30),
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"{file.url} could not be downloaded ({error}). Put {file.name} (MD5 "
                f"{file.md5}) into {folder}, or set WHERETOLEARN_DATA to the folder that "
                f"has it in {folder.name}/{file.name}"
            ) from error


def md5_of(path: Path) -> str:
    """Return the MD5 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
