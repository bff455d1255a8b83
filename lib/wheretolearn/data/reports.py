"""What can be said of a data set: its state on disk, and whether it is sound."""

from __future__ import annotations

from pathlib import Path

import pooch
from tqdm import tqdm

from . import class_folders
from .catalogue import row_of
from .datasets import absent, counted, per_split, sizes_of, splits_of
from .locations import data_root


def verify(name: str, root: Path | None = None, progress: bool = False) -> list[str]:
    """Read and check every image of a data set.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    root : Path, optional
        Folder of raw files, by default :func:`data_root`.
    progress : bool, default False
        Whether to show a progress bar.

    Returns
    -------
    list of str
        What was found, a line each.

    Raises
    ------
    AbsentError
        If it is not at hand.
    DataError
        If files are damaged, or not what they should be.
    """
    row = row_of(name)
    folder = (root or data_root()) / row.folder
    paths = row.find(folder)
    if row.folder and not paths:
        raise absent(row, folder)
    pictures = counted(row, folder, row.read_pictures(paths, row.native_size))
    bar = tqdm(pictures, desc=f"checking {name}", unit="img", disable=None if progress else True)
    images, split_of = 0, dict[str, str | None]()
    for picture in bar:
        images += 1
        split_of[picture.label] = picture.split
    sizes = per_split(sizes_of(splits_of(row, split_of)))
    lines = [f"{name}: {len(split_of)} classes, {images} images, all readable; {sizes}"]
    if note := row.editions[images]:
        lines.append(note)
    published = {file.name: file.sha256 for file in row.remote}
    for path in paths:
        if path.is_dir():
            lines.append(f"{path}: a folder")
        elif path.name in published and pooch.file_hash(path) == published[path.name]:
            lines.append(f"{path}: the published file")
        elif row.find is class_folders.find:
            checked = "class names and counts" if row.splits() else "numbers of classes and images"
            lines.append(f"{path}: no published checksum; {checked} are right")
        else:
            lines.append(f"{path}: repacked, with the published content")
    return lines


def describe(name: str, root: Path | None = None) -> str:
    """Say what a data set is, where it is looked for, and what a reader must do.

    Parameters
    ----------
    name : str
        A key of `DATASETS`.
    root : Path, optional
        Folder of raw files, by default :func:`data_root`.

    Returns
    -------
    str
        A few lines.
    """
    row = row_of(name)
    counts = " or ".join(f"{n:,}" for n in row.editions)
    lines = [
        f"{name}: {row.title}",
        f"  {row.classes:,} classes, {counts} images; licence: {row.licence}",
    ]
    if not row.folder:
        return "\n".join([*lines, "  needs no files"])
    folder = (root or data_root()) / row.folder
    if row.find(folder):
        return "\n".join([*lines, f"  present in {folder}"])
    lines.append(f"  absent from {folder}")
    if row.remote:
        missing = [file.url for file in row.remote if not file.at(folder)]
        lines += [f"  downloaded when first used: {url}" for url in missing]
    else:
        lines.append(f"  put there: {row.layout}; or set WHERETOLEARN_DATA")
    return "\n".join(lines)
