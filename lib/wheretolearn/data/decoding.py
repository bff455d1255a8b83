"""From the bytes of an image file to pixels of the wanted size.

Images are cut to their largest centred square and resized with a Lanczos
filter that is stretched to the scale (antialiased), as in the scripts with
which MAML's authors prepared both Omniglot and miniImageNet.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import PurePosixPath

import numpy as np
from PIL import ExifTags, Image, ImageOps

from .errors import DataError

FORMATS = {"BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP"}
FORMATS |= {"AVIF", "JPEG2000"}
"""What is opened, in Pillow's names; of the others, EPS would start Ghostscript."""

IMAGE_SUFFIXES = tuple(s for s, name in Image.registered_extensions().items() if name in FORMATS)
"""Endings of their files: .jpg, .png and some thirty others."""

MAX_PIXELS = 64 * 10**6
"""Larger images are refused before they are decoded."""

SYSTEM_FOLDERS = {"__macosx", "__pycache__", "#recycle", "#snapshot", "$recycle.bin"}
SYSTEM_FOLDERS |= {"lost+found", "system volume information"}
"""Made by programs, not by people: copies, thumbnails and waste; in small letters."""


def is_hidden(part: str) -> bool:
    """Tell whether a file or a folder of this name is none of a reader's own."""
    return part.startswith((".", "@")) or part.lower() in SYSTEM_FOLDERS  # @eaDir: a NAS's


def is_image(name: str) -> bool:
    """Tell from its path in a folder or archive whether a file is an image that is not hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not any(
        is_hidden(part) for part in PurePosixPath(name).parts
    )


def decode(content: bytes, name: str, channels: int) -> Image.Image:
    """Decode an image file."""
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(io.BytesIO(content), formats=_OPENED) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{name}: {image.width} x {image.height} pixels: refused")
            other_bits = any(";" in str(tile.args) for tile in image.tile)  # a raw mode as "L;4"
            if "transparency" in image.info and image.mode != "P" and other_bits:
                raise DataError(f"{name}: a transparent colour of other than 8 bits: refused")
            image.load()  # turns a TIFF
            with contextlib.suppress(Exception):  # an EXIF that cannot be read
                ImageOps.exif_transpose(image, in_place=True)
            return _opaque(image if image.mode[0] not in "IF" else _scaled(image, name), mode)
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise whatever the damage leads to
        raise DataError(f"{name} is not a readable image: {error}") from error


_OPENED = sorted(FORMATS & Image.OPEN.keys())


def _opaque(image: Image.Image, mode: str) -> Image.Image:
    """Convert to a mode, with what is transparent on white."""
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        opaque = image.format in {"BMP", "DIB", "TGA"} and not any(
            colours.getchannel("A").getextrema()
        )
        if not opaque:  # some programs leave the fourth byte of these formats 0
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, colours)
    return image.convert(mode)


def _scaled(image: Image.Image, name: str) -> Image.Image:
    """Scale grey of more than 8 bits to 8; refuse it where white is not known."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if image.mode == "F":
        white = 1
    elif image.mode == "I" and tags:
        raise DataError(f"{name}: whole numbers of 32 bits or with a sign; save it with 8 bits")
    else:
        white = 2 ** tags.get(ExifTags.Base.BitsPerSample, (16,))[0] - 1
    light = np.asarray(image, np.float32) / white
    if not (light.min() >= 0 and light.max() <= 1):  # or no numbers
        raise DataError(f"{name}: brightness outside 0 to 1; save it with 8 bits")
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is zero
        light = 1 - light
    return Image.fromarray(np.round(255 * light).astype(np.uint8))


def resize(image: Image.Image, size: int) -> np.ndarray:
    """Cut to the centred square and resize."""
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
