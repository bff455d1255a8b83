"""Any labelled image set given as one folder for each class.

Accepted are ``<class>/<image>`` and ``{train,val,test}/<class>/<image>``, in a
folder, a zip or a tar, and below any leading folders (as in
``CUB_200_2011/images/<class>/<image>``).
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from .archives import is_archive, members
from .cache import Meta, Picture, read_or_build
from .decoding import IMAGE_SUFFIXES, check_size, decode, is_hidden, is_image, resize
from .errors import DataError
from .image_set import SPLITS, ImageSet
from .locations import cache_root

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_PICKLES = (".pkl", ".pickle")


def find(folder: Path) -> list[Path]:
    """Return what holds the class folders: the archives in a folder, or the folder."""
    if not folder.is_dir():
        return []
    entries = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    if archives := [path for path in entries if path.is_file() and is_archive(path)]:
        return archives
    return [folder] if any(path.is_dir() for path in entries) else []


def read_pictures(
    paths: Sequence[Path],
    image_size: int,
    channels: int,
    use_splits: bool,
    left_out: Counter[str] | None = None,
) -> Iterator[Picture]:
    """Decode every image below its class folder.

    What is hidden, or made by a system (such as ``@eaDir``), is passed over.
    """
    folder_of: dict[str, str] = {}
    left_out, hidden = Counter() if left_out is None else left_out, 0
    for path in paths:
        for name, read in members(path):
            where = f"{path}: {name}"
            if name.lower().endswith(_PICKLES):
                raise DataError(
                    f"{where} is a pickle, which can run code and is never read; "
                    "save its images into class folders"
                )
            parts = PurePosixPath(name).parts
            if not is_image(name):
                if any(map(is_hidden, parts)):
                    hidden += name.lower().endswith(IMAGE_SUFFIXES)
                else:
                    left_out[PurePosixPath(name).suffix.lower()] += 1
                continue
            parents = parts[:-1]
            if not parents or parents[-1] in SPLITS:
                raise DataError(f"{where} is in no class folder")
            label = parents[-1]
            split = parents[-2] if len(parents) > 1 and parents[-2] in SPLITS else None
            folder = "/".join(parents)
            if folder_of.setdefault(label, folder) != folder:
                raise DataError(
                    f"{path}: class {label!r} is in two folders, {folder_of[label]} and {folder}"
                )
            pixels = resize(decode(read(), where, channels), image_size)
            yield Picture(split if use_splits else None, label, name, pixels)
    if hidden and not folder_of:
        where = ", ".join(map(str, paths))
        raise DataError(f"{where}: there are no images but {hidden} that are hidden")


def load_folder(
    path: str | Path,
    image_size: int,
    splits: Mapping[str, Sequence[str]] | str | Path | None = None,
    channels: int = 3,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    rotations: bool = False,
    cache: Path | None = None,
    progress: bool = True,
) -> ImageSet:
    """Load a reader's own image set.

    Pictures are turned as their EXIF orientation says, and what is transparent is laid on
    white.  Grey of 16 bits, or in floats from 0 to 1, is scaled to 8 bits; other numbers
    are refused.

    Parameters
    ----------
    path : str or Path
        A folder, ``.zip`` (stored or deflated), ``.tar``, ``.tar.gz`` or ``.tar.xz`` with one
        folder for each class.  Links in a folder are followed; hidden and system folders are
        no classes; other files than images are left out, and counted in one warning when the
        images are decoded.
    image_size : int
        Height and width to resize to; images are cut to their centred square.
    splits : mapping, str, Path or None, default None
        Class names of "train", "val" and "test", or the path of a JSON file that
        holds them.  None: from folders of these names; without them, all classes
        are in "train".
    channels : int, default 3
        1 for grey, 3 for RGB.
    mean, std : tuple of float, optional
        Statistics of each channel for pixels in [0, 1].  By default those of
        ImageNet for RGB, and 0 and 1 for grey.
    rotations : bool, default False
        Whether quarter turns of a class count as classes of their own.
    cache : Path, optional
        Folder of decoded images, by default :func:`cache_root`.
    progress : bool, default True
        Whether to show a progress bar.

    Returns
    -------
    ImageSet

    Raises
    ------
    DataError
        If the images or the splits cannot be read.
    ValueError
        If `image_size`, `channels` or the statistics make no sense.
    """
    path = Path(path)
    check_size(image_size)
    if channels not in {1, 3}:
        raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {channels}")
    mean = mean or (IMAGENET_MEAN if channels == 3 else (0.0,))
    std = std or (IMAGENET_STD if channels == 3 else (1.0,))
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise ValueError(f"mean and std need {channels} numbers each, with positive std")
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if isinstance(splits, str | Path):
        splits = read_splits(Path(splits))
    meta = Meta(path.name.split(".")[0], mean, std, rotations)
    left_out: Counter[str] = Counter()
    try:
        return read_or_build(
            cache or cache_root(),
            meta,
            image_size,
            [path],
            lambda: read_pictures([path], image_size, channels, splits is None, left_out),
            splits,
            prefix="own-",  # it may have the name of a published set
            progress=progress,
        )
    finally:
        if left_out:  # said after the images are kept, since a warning may be made an error
            most = left_out.most_common(5)
            kinds = [f"{count} {kind!r}" for kind, count in most]
            if others := left_out.total() - sum(count for _, count in most):
                kinds.append(f"{others} others")
            warnings.warn(
                f"{path}: {left_out.total()} files are no images and were left out: "
                f"{', '.join(kinds)}",
                stacklevel=2,
            )


def read_splits(path: Path) -> dict[str, list[str]]:
    """Read class names of each split from a JSON file."""
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a readable JSON file: {error}") from error
    if not isinstance(splits, dict) or not all(
        key in SPLITS and isinstance(value, list) and all(isinstance(c, str) for c in value)
        for key, value in splits.items()
    ):
        raise DataError(f'{path} must hold {{"train": [class names], "val": [...], "test": [...]}}')
    return splits
