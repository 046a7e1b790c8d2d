"""Masks in image files: which pixels are above 0, whatever kind of image holds them.

Colours are not converted: the entries of a palette are numbers of objects, and a mask of 16 bits is not stretched.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from mindground.errors import ImageError, printable
from mindground.files._tiff import TIFF_MAGIC, read_header
from mindground.files.images import decode_image, is_deep, open_image, read_image
from mindground.files.regular import read_regular

__all__ = ["read_mask"]

# A JPEG of black and white has greys around every edge; the nearer of the two is meant.
_JPEG_THRESHOLD = 127
_SINGLE = frozenset({"1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
_BANDS_WITHOUT_ALPHA = {"LA": 1, "La": 1, "PA": 1, "RGBA": 3, "RGBa": 3, "RGBX": 3}


def read_mask(path: str | Path) -> np.ndarray:
    """(H, W) uint8 of 0 and 1 from an image file: 1 where a channel is above 0, in a JPEG where one is above 127.

    Transparency is no channel. An EXIF orientation is not applied.

    Raises:
        ImageError: no such file, not an image, cut short, too large, or a TIFF of more than 8 bits.
    """
    data, name = read_regular(path), printable(path, 300)
    if data[:4] in TIFF_MAGIC:
        return _of_tiff(path, data, name)
    try:
        with open_image(data, name) as image:
            if image.format in ("JPEG", "MPO"):
                pixels, threshold = decode_image(data, name, apply_exif=False), _JPEG_THRESHOLD
            else:
                pixels, threshold = _stored(image, data, name), 0
    except ImageError:
        raise
    except Exception as error:  # plugins of Pillow raise what they like
        raise ImageError(f"{name} is damaged or cut short ({error}); fetch it again") from error
    above = pixels > threshold
    return np.ascontiguousarray(above.any(-1) if above.ndim == 3 else above).astype(np.uint8)


def _stored(image: Image.Image, data: bytes, name: str) -> np.ndarray:
    """Numbers as the file has them, without its alpha."""
    if image.format == "PNG" and image.mode not in _SINGLE and is_deep(data, image):
        raise ImageError(f"{name} is a mask of colours with 16 bits; save it as grey, 0 outside the object")
    pixels = np.asarray(image)
    return pixels[..., : _BANDS_WITHOUT_ALPHA[image.mode]] if image.mode in _BANDS_WITHOUT_ALPHA else pixels


def _of_tiff(path: str | Path, data: bytes, name: str) -> np.ndarray:
    header = read_header(io.BytesIO(data))
    if header is not None and header.bits > 8:
        raise ImageError(f"{name} is a mask of {header.bits} bits; save it with 8 bits, 0 outside the object")
    pixels = read_image(path, apply_exif=False)
    return np.ascontiguousarray((pixels > 0).any(-1)).astype(np.uint8)
