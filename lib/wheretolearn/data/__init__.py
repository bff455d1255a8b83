"""Image sets: found, checked, decoded once, and mapped into memory.

:func:`load` takes a name from `DATASETS`, :func:`load_folder` any folder or
archive with one folder for each class.
"""

from .catalogue import DATASETS
from .class_folders import load_folder
from .datasets import at_hand, load, mnist_arrays, register
from .errors import AbsentError, DataError
from .image_set import ImageSet
from .locations import cache_root, data_root
from .reports import describe, verify

__all__ = [
    "DATASETS",
    "AbsentError",
    "DataError",
    "ImageSet",
    "at_hand",
    "cache_root",
    "data_root",
    "describe",
    "load",
    "load_folder",
    "mnist_arrays",
    "register",
    "verify",
]
