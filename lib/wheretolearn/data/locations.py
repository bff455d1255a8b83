"""Where raw files and decoded images lie."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def data_root() -> Path:
    """Return the folder of raw files: ``WHERETOLEARN_DATA``, or one in the user's cache.

    Returns
    -------
    Path
        It need not exist, and may be read-only.
    """
    named = os.environ.get("WHERETOLEARN_DATA")
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_cache_dir("wheretolearn")) / "raw"


def cache_root() -> Path:
    """Return the folder of decoded images: ``WHERETOLEARN_CACHE``, or the user's cache.

    Returns
    -------
    Path
        It need not exist; it must be writable to decode anything.
    """
    named = os.environ.get("WHERETOLEARN_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_cache_dir("wheretolearn"))
