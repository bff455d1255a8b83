"""Published files that can be fetched, with their checksums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    sha256: str
    """SHA-256 of the published file."""
    also: tuple[str, ...] = ()
    """Other names under which its content may lie there."""

    def at(self, folder: Path) -> Path | None:
        """Return where it lies in a folder; a zip may be unpacked to a folder of its name."""
        for path in (folder / name for name in (self.name, *self.also)):
            if path.is_file() or (path.is_dir() and self.name == f"{path.name}.zip"):
                return path
        return None


def find(files: Sequence[RemoteFile], folder: Path) -> list[Path]:
    """Return where all files lie in a folder; empty if one is absent."""
    found = [path for file in files if (path := file.at(folder))]
    return found if len(found) == len(files) else []


def fetch(files: Iterable[RemoteFile], folder: Path, progress: bool = True) -> None:
    """Download the files that are absent, and check them."""
    for file in files:
        if file.at(folder):
            continue
        try:
            pooch.retrieve(
                url=file.url,
                known_hash=f"sha256:{file.sha256}",
                fname=file.name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=progress, timeout=30),
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"{file.url} could not be downloaded ({error}). Put {file.name} (SHA-256 "
                f"{file.sha256}) into {folder}, or set WHERETOLEARN_DATA to the folder that "
                f"has it in {folder.name}/{file.name}"
            ) from error
