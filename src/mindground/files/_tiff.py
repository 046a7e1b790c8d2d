"""What the first directory of a TIFF says, and TIFF images without rasterio.

The directory is read here because Pillow refuses large files before it shows their tags, and opens some not at all.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image

from mindground.errors import ImageError
from mindground.files.pixels import band_numbers, to_rgb8

__all__ = ["TIFF_MAGIC", "TiffHeader", "decode_without_rasterio", "read_header"]

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NEEDS_RASTERIO = "reading it right needs rasterio: pip install -r requirements-geo.txt"
# Pixel scale, tie points, transformation, GeoKey directory.
_GEO_TAGS = frozenset((33550, 33922, 34264, 34735))
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES = 256, 257, 258, 262, 274, 277
_PLANAR, _FORMAT, _GDAL_METADATA, _GDAL_NODATA = 284, 339, 42112, 42113
# Type of a tag -> letter of `struct`: byte, ASCII, short, long, and the 64-bit one of BigTIFF.
_LETTERS = {1: "B", 2: "c", 3: "H", 4: "I", 16: "Q"}
_MOST_TAGS, _MOST_VALUES = 4096, 65536


@dataclass(frozen=True)
class TiffHeader:
    """The tags that decide how a TIFF is read.

    Attributes:
        width, height: in pixels.
        samples: per pixel.
        bits: of the widest sample.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK, 6 YCbCr, 8..10 Lab.
        planar: every sample has a plane of its own.
        orientation: as in EXIF.
        georeferenced: it carries a tag of GeoTIFF.
        named_bands: GDAL's metadata name the colours of bands.
        nodata: GDAL's tag for pixels without data.
        unsigned: samples are unsigned integers.
    """

    width: int
    height: int
    samples: int
    bits: int
    photometric: int
    planar: bool
    orientation: int
    georeferenced: bool
    named_bands: bool
    nodata: bool
    unsigned: bool


def read_header(file: BinaryIO) -> TiffHeader | None:
    """The header of an open TIFF or BigTIFF; None where the file is none or its first directory is damaged."""
    try:
        tags = _first_directory(file)
    except (struct.error, OSError, ValueError):
        return None
    if tags is None or not tags.get(_WIDTH) or not tags.get(_HEIGHT):
        return None

    def first(tag: int, default: int) -> int:
        values = tags.get(tag)
        return int(values[0]) if values and isinstance(values[0], int) else default

    return TiffHeader(
        width=first(_WIDTH, 0),
        height=first(_HEIGHT, 0),
        samples=first(_SAMPLES, 1),
        bits=max((v for v in tags.get(_BITS, ()) if isinstance(v, int)), default=1),
        photometric=first(_PHOTOMETRIC, 1),
        planar=first(_PLANAR, 1) == 2,
        orientation=first(_ORIENTATION, 1),
        georeferenced=not _GEO_TAGS.isdisjoint(tags),
        named_bands=b"COLORINTERP" in b"".join(v for v in tags.get(_GDAL_METADATA, ()) if isinstance(v, bytes)),
        nodata=_GDAL_NODATA in tags,
        unsigned=all(v == 1 for v in tags.get(_FORMAT, (1,))),
    )


def _first_directory(file: BinaryIO) -> dict[int, Sequence[Any]] | None:
    """Tag -> values of the first directory; values of other types than integers and text are left out."""
    start = file.read(16)
    if start[:4] not in TIFF_MAGIC:
        return None
    order, big = ("<" if start[:2] == b"II" else ">"), start[2:4] in (b"+\0", b"\0+")
    offset = struct.unpack_from(f"{order}{'Q' if big else 'I'}", start, 8 if big else 4)[0]
    counter, entry, room = ("Q", f"{order}HHQ", 8) if big else ("H", f"{order}HHI", 4)
    file.seek(offset)
    count = struct.unpack(f"{order}{counter}", file.read(struct.calcsize(counter)))[0]
    size = struct.calcsize(entry) + room
    block = file.read(min(count, _MOST_TAGS) * size)
    tags: dict[int, Sequence[Any]] = {}
    for at in range(0, len(block) - size + 1, size):
        tag, kind, values = struct.unpack_from(entry, block, at)
        if tag in tags:
            continue  # as libtiff, which takes the first
        tags[tag] = ()
        letter = _LETTERS.get(kind)
        if letter is None or values > _MOST_VALUES:
            continue
        layout = f"{order}{values}{letter}"
        content = block[at + size - room : at + size]
        if struct.calcsize(layout) > room:
            file.seek(struct.unpack(f"{order}{'Q' if big else 'I'}", content)[0])
            content = file.read(struct.calcsize(layout))
        tags[tag] = struct.unpack_from(layout, content)
    return tags


def decode_without_rasterio(
    data: bytes, header: TiffHeader | None, name: str, bands: Sequence[int] | None
) -> np.ndarray:
    """A TIFF as (H, W, 3) uint8 RGB by Pillow (8 bits) or OpenCV (more), as stored, where they read it right.

    Raises:
        ImageError: they do not: more samples than they give, names of bands, several planes of more than 8 bits, or
            pixels without data in a file that is stretched; the message says what to install.
    """
    if header is None:
        raise ImageError(f"{name} is damaged or no TIFF; fetch it again")
    deep = header.bits > 8 or not header.unsigned
    if header.samples > 4 or header.named_bands or (deep and (header.nodata or header.planar)):
        raise ImageError(f"{name} is a raster of {header.samples} bands; {_NEEDS_RASTERIO}")
    decoded = _deep(data) if deep else _shallow(data)
    if decoded is None or decoded[1] < header.samples:
        raise ImageError(f"{name} is a raster of {header.samples} bands; {_NEEDS_RASTERIO}")
    image = to_rgb8(decoded[0])
    return image if bands is None else image[..., [band - 1 for band in band_numbers(bands, 3, name)]]


def _deep(data: bytes) -> tuple[np.ndarray, int] | None:
    """Pixels in the order R, G, B, and how many channels were read."""
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if decoded is None or decoded.ndim == 2:
        return None if decoded is None else (decoded, 1)
    return (decoded[..., 2::-1], decoded.shape[2]) if decoded.shape[2] >= 3 else None


def _shallow(data: bytes) -> tuple[np.ndarray, int] | None:
    with warnings.catch_warnings():
        # Of tags that are damaged: what matters of them ends in an error.
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
                return None
            channels = len(image.getbands())
            # An alpha channel is left out and not multiplied in.
            return np.asarray(image.convert("RGBA" if image.mode == "LA" else "RGB"))[..., :3], channels
