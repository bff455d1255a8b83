"""Where raw files and decoded images lie."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from .errors import DataError


def data_root() -> Path:
    """Return the folder of raw files: ``WHERETOLEARN_DATA``, or one in the user's cache.

    Returns
    -------
    Path
        It need not exist, and may be read-only.

    Raises
    ------
    DataError
        If it is in the home of a user that has none.
    """
    return _folder("WHERETOLEARN_DATA", Path(platformdirs.user_cache_dir("wheretolearn"), "raw"))


def cache_root() -> Path:
    """Return the folder of decoded images: ``WHERETOLEARN_CACHE``, or the user's cache."""
    return _folder("WHERETOLEARN_CACHE", Path(platformdirs.user_cache_dir("wheretolearn")))


def _folder(variable: str, default: Path) -> Path:
    """Return the folder that an environment variable names, or else the default."""
    folder = Path(os.environ.get(variable) or default)
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise DataError(f"{folder}: there is no such home; set {variable} to a folder") from error
