"""From the bytes of an image file to pixels of the wanted size.

Images are cut to their largest centred square and resized with a Lanczos
filter that is stretched to the scale (antialiased), as in the scripts with
which MAML's authors prepared both Omniglot and miniImageNet.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .errors import DataError

FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "QOI", "TGA", "TIFF"),
    "WEBP",
)
"""Formats of pixels, in Pillow's names; others are not opened: EPS would run Ghostscript."""

IMAGE_SUFFIXES = tuple(s for s, name in Image.registered_extensions().items() if name in FORMATS)
"""Endings of files of these formats: .jpg, .png and some thirty others."""

MAX_PIXELS = 64 * 10**6
"""Larger images are refused before they are decoded."""


def is_image(name: str) -> bool:
    """Tell from its name whether a file is an image (hidden files are not)."""
    file = name.rsplit("/", 1)[-1]
    return file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith(".")


def decode(content: bytes, name: str, channels: int) -> Image.Image:
    """Decode an image file.

    Parameters
    ----------
    content : bytes
        The file.
    name : str
        What to call it in an error.
    channels : int
        1 for grey, 3 for RGB.

    Returns
    -------
    PIL.Image.Image
        In mode "L" or "RGB".

    Raises
    ------
    DataError
        If the file is no image, is damaged, or is absurdly large.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{name}: {image.width} x {image.height} pixels: refused")
            return image.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is not a readable image: {error}") from error


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Cut to the centred square and resize.

    Parameters
    ----------
    image : PIL.Image.Image
        In mode "L" or "RGB".
    size : int
        Height and width of the result.

    Returns
    -------
    ndarray of uint8, shape [size, size, channels]
        The pixels; those of a square image of this size are unchanged.
    """
    side = min(image.size)
    if image.size != (size, size):
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.LANCZOS, box=box)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def check_size(image_size: int) -> None:
    """Raise ValueError unless an image size is a whole number from 1 to 1024."""
    if isinstance(image_size, bool) or not isinstance(image_size, int | np.integer):
        raise ValueError(f"image_size must be a whole number of pixels, not {image_size!r}")
    if not 1 <= image_size <= 1024:
        raise ValueError(f"image_size must be between 1 and 1024 pixels, not {image_size}")
