"""A picture is what its owner sees, or it is refused by name."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from image_files import encoded, image_bytes
from PIL import Image, features

from wheretolearn.data import DataError
from wheretolearn.data.decoding import IMAGE_SUFFIXES, decode, is_image

RAMP = np.linspace(0, 1, 64).reshape(8, 8)


def grey(content: bytes) -> np.ndarray:
    return np.asarray(decode(content, "it", 1)).astype(int)


def twin(fraction: np.ndarray) -> np.ndarray:
    """Return what an 8-bit image of the same brightness holds."""
    return np.round(255 * fraction).astype(int)


IMAGES = ["jpg", "JPEG", "jfif", "jpe", "png", "apng", "gif", "bmp", "tif", "tiff", "webp", "jp2"]
IMAGES += ["tga", "pnm", "pbm", "pgm", "ppm", "qoi", "avif"]


def png(width: int, bits: int, colour: int, row: bytes, key: bytes) -> bytes:
    """Return a PNG of one row with a transparent colour, which Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + row))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in [*chunks, (b"IEND", b"")])


# More than 8 bits


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled(kind: str, channels: int) -> None:
    deep = Image.fromarray(np.round(65535 * RAMP).astype(np.uint16))
    pixels = np.asarray(decode(encoded(deep, kind), "it", channels))
    assert (pixels.reshape(8, 8, channels) == twin(RAMP)[:, :, None]).all()


def test_floats_from_0_to_1_are_scaled() -> None:
    assert (grey(encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF")) == twin(RAMP)).all()
    dark = (RAMP / 5).astype(np.float32)
    assert (grey(encoded(Image.fromarray(dark), "TIFF")) == twin(dark)).all(), "not stretched"


@pytest.mark.parametrize(
    ("kind", "top", "why"),
    [
        *((np.float32, top, "brightness") for top in (255, -1, np.nan, np.inf)),
        (np.int32, 65535, ".*8 bits"),
    ],
)
def test_numbers_of_which_white_is_not_known_are_refused(kind: Any, top: float, why: str) -> None:
    content = encoded(Image.fromarray(np.array([[0, top]], kind)), "TIFF")
    with pytest.raises(DataError, match=rf"a/1\.tif: {why}"):
        decode(content, "a/1.tif", 3)


def test_12_bits_and_white_as_zero_are_heeded() -> None:
    # two samples of 12 bits: 0 and 4095
    packed = tiff(bits=12, photometric=1, data=b"\x00\x0f\xff")
    assert grey(packed).tolist() == [[0, 255]]
    zero_is_white = tiff(bits=16, photometric=0, data=b"\x00\x00\xff\xff")
    assert grey(zero_is_white).tolist() == [[255, 0]]


def tiff(bits: int, photometric: int, data: bytes) -> bytes:
    """Return a TIFF of two grey pixels."""
    tags = {256: 2, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1}
    tags[279] = len(data)
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


# Transparency


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGBA", "WEBP"),
        ("RGBA", "TIFF"),
    ],
)
def test_ink_on_transparent_paper_can_be_seen(mode: str, kind: str, channels: int) -> None:
    drawing = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (2, 2, 5, 5))
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    if mode == "P":
        drawing = Image.new("P", (8, 8), 1)  # colour 1 is black too, and transparent
        drawing.putpalette([0, 0, 0, 0, 0, 0])
        drawing.paste(0, (2, 2, 5, 5))
        options["transparency"] = 1
    pixels = np.asarray(decode(encoded(drawing.convert(mode), kind, **options), "it", channels))
    paper = np.full((8, 8), 255)
    paper[2:5, 2:5] = 0
    assert (pixels.reshape(8, 8, channels) == paper[:, :, None]).all()


@pytest.mark.parametrize(("kind", "seen"), [("TGA", 100), ("PNG", 255)])
def test_alpha_that_a_format_leaves_unused_hides_nothing(kind: str, seen: int) -> None:
    """Programs that write TGA leave the fourth byte 0; in a PNG it means what it says."""
    assert set(grey(encoded(Image.new("RGBA", (4, 4), (100, 100, 100, 0)), kind)).flat) == {seen}


def test_half_transparent_is_half_white() -> None:
    half = Image.new("LA", (1, 1), (100, 128))
    assert abs(grey(encoded(half, "PNG"))[0, 0] - (100 * 128 + 255 * 127) / 255) <= 1


def test_transparent_colour() -> None:
    assert grey(png(4, 1, 0, b"\x50", b"\0\0")).tolist() == [[255] * 4]
    assert grey(png(3, 8, 0, b"\x07\x08\x09", b"\0\x08")).tolist() == [[7, 255, 9]]
    for bits, colour, row in ((4, 0, b"\x07"), (16, 0, b"\1\2\3\4"), (16, 2, bytes(12))):
        with pytest.raises(DataError, match="transparent colour"):
            grey(png(2, bits, colour, row, bytes(2 if colour == 0 else 6)))


# Orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8], upright[8:, :8] = 255, 128
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright.T[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored)).convert("RGB")
    content = encoded(image, kind, exif=exif)
    found = grey(content)
    assert found.shape == upright.shape
    assert abs(found - upright).mean() < 8


# Which files are images


@pytest.mark.parametrize("suffix", IMAGES)
def test_what_is_called_an_image_can_be_opened(suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert is_image(f"a/1.{suffix}")
    kind = Image.registered_extensions()[f".{suffix.lower()}"]
    assert grey(image_bytes(255, kind=kind)).min() >= 250


def test_what_is_no_image() -> None:
    assert not any(is_image(f"a/1{s}") for s in (".eps", ".pdf", ".psd", ".wmf", ".txt", "jpg"))
    assert not is_image("a/.1.png")
    assert ".jpg" in IMAGE_SUFFIXES


def test_postscript_is_not_run_whatever_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *args, **_: started.append(args))
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    assert Image.open(io.BytesIO(content)).format == "EPS"
    with pytest.raises(DataError, match=r"1\.png is not a readable image"):
        decode(content, "1.png", 3)
    assert not started


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "TGA", "JPEG2000"])
@pytest.mark.filterwarnings("ignore")
def test_damage_is_an_error_that_names_the_file(kind: str) -> None:
    """Bytes are changed at random: the file can be read all the same, or a DataError names it."""
    whole = encoded(Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)), kind)
    rng = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(content), 3):
            content[place] = rng.integers(256)
        with contextlib.suppress(DataError):
            decode(bytes(content), "a/1", 3)
