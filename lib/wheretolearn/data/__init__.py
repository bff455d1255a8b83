"""Image sets: found, checked, decoded once, and mapped into memory.

:func:`load` takes a name from `DATASETS`, :func:`load_folder` any folder or
archive with one folder for each class.
"""

from .class_folders import load_folder
from .datasets import DATASETS, describe, load, mnist_arrays, verify
from .errors import DataError
from .image_set import ImageSet
from .locations import cache_root, data_root

__all__ = [
    "DATASETS",
    "DataError",
    "ImageSet",
    "cache_root",
    "data_root",
    "describe",
    "load",
    "load_folder",
    "mnist_arrays",
    "verify",
]
