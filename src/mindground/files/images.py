"""Any image file to RGB bytes: the one decoder of training, `Predictor(path)`, `predict` and `data_check`.

JPEG, PNG, BMP, WebP, GIF and PPM are read by Pillow (8-bit JPEG by OpenCV, which is exact and faster), TIFF by rasterio
where the extra `geo` is installed (`files.rasters` has its rules) and otherwise by Pillow or OpenCV where they read it
right. Other formats are refused: some decoders of Pillow start other programs (EPS) or have crashed (JPEG 2000).
"""

from __future__ import annotations

import io
import threading
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mindground.errors import ImageError, one_line, printable
from mindground.files import rasters
from mindground.files._png import pixel_chunks
from mindground.files._tiff import TIFF_MAGIC, decode_without_rasterio, read_header
from mindground.files.pixels import (
    MAX_PIXELS,
    band_numbers,
    check_size,
    orient,
    stretch,
    stretch_range,
    strips,
    to_rgb8,
)
from mindground.files.rasters import read_geotiff
from mindground.files.regular import check_regular, read_regular

__all__ = ["MAX_PIXELS", "ImageCache", "decode_image", "is_deep", "open_image", "read_image", "to_rgb8"]

_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "GIF", "PPM")
_OPENCV_MODES = {"L", "RGB"}
_DEEP_MODES = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
_EXIF_ORIENTATION = 0x0112
# A progressive JPEG repeats its pixels in scans; so many pixels times scans take seconds and no more.
_MAX_SCANNED_PIXELS = 20 * MAX_PIXELS


def read_image(path: str | Path, *, apply_exif: bool = True, bands: Sequence[int] | None = None) -> np.ndarray:
    """The image file as (H, W, 3) uint8 RGB.

    Transparent pixels keep their colour. Images of more than 8 bits are stretched by the rule of `files.pixels`.

    Args:
        path: a regular file: JPEG, PNG, TIFF, BMP, WebP, GIF or PPM.
        apply_exif: rotate the image as its EXIF orientation says; a georeferenced TIFF is never rotated.
        bands: three band numbers from 1 that are red, green and blue, or one that is grey; of the file's bands for
            TIFF, of red, green and blue for the other formats. None takes those that the file names.

    Raises:
        ImageError: no such file, not an image, cut short, or larger than `MAX_PIXELS` (a quarter of it for more than
            8 bits).
    """
    if rasters.has_rasterio() and _is_tiff(path):
        with open(path, "rb") as file:
            header = read_header(file)
        image = read_geotiff(path, bands).image
        turned = apply_exif and header is not None and not header.georeferenced
        return orient(image, header.orientation if header is not None and turned else 1)
    return decode_image(read_regular(path), printable(path, 300), apply_exif=apply_exif, bands=bands)


def _is_tiff(path: str | Path) -> bool:
    check_regular(path, limit=None)
    try:
        with open(path, "rb") as file:
            return file.read(4) in TIFF_MAGIC
    except OSError as error:
        raise ImageError(
            f"{printable(path, 300)} cannot be opened ({error.strerror}); check data.image_root"
        ) from error


class ImageCache:
    """`read_image` with a cache of the last used images; safe for several threads.

    Without it, data sets with many sentences per image decode every image many times an epoch.

    Args:
        megabytes: of decoded images in the cache; 0 keeps none.
        bands: as `read_image`.
    """

    def __init__(self, megabytes: int = 0, bands: Sequence[int] | None = None) -> None:
        self.limit, self.bands = megabytes * 2**20, bands
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, path: str | Path) -> np.ndarray:
        """The image (H, W, 3) uint8 RGB, read-only. Raises ImageError as `read_image` does."""
        key = str(path)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        image = read_image(path, bands=self.bands)
        image.flags.writeable = False
        with self._lock:
            if key not in self._kept and image.nbytes <= self.limit:
                self._kept[key] = image
                self._bytes += image.nbytes
                while self._bytes > self.limit:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return image


def decode_image(data: bytes, name: str, *, apply_exif: bool = True, bands: Sequence[int] | None = None) -> np.ndarray:
    """Bytes of an image file -> (H, W, 3) uint8 RGB, without rasterio; errors call it `name`.

    Raises:
        ImageError: see `read_image`.
    """
    if not data:
        raise ImageError(f"{name} is empty; fetch it again")
    try:
        if data[:4] in TIFF_MAGIC:
            return _decode_tiff(data, name, apply_exif, bands)
        with open_image(data, name) as image:
            pixels = _decode(data, image, name, apply_exif)
    except ImageError:
        raise
    except Exception as error:  # plugins of Pillow raise what they like, KeyError and NotImplementedError included
        raise ImageError(f"{name} is damaged or cut short ({one_line(error)}); fetch it again") from error
    return pixels if bands is None else pixels[..., [band - 1 for band in band_numbers(bands, 3, name)]]


def open_image(data: bytes, name: str) -> Image.Image:
    """Bytes of an image file that is no TIFF -> Pillow's image, nothing decoded yet; its size is bounded.

    Raises:
        ImageError: no image of a kind that is read, or too large.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns about suspicious sizes; our own limit below decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is larger than {MAX_PIXELS} pixels; cut it into tiles first") from error
    except Exception as error:  # as in `decode_image`
        raise ImageError(f"{name} is not an image that can be read; give JPEG, PNG, TIFF, BMP or WebP") from error
    check_size(name, *image.size, deep=is_deep(data, image))
    return image


def _decode(data: bytes, image: Image.Image, name: str, apply_exif: bool) -> np.ndarray:
    if image.format in ("JPEG", "MPO"):
        scans = data.count(b"\xff\xda")
        if scans * image.width * image.height > _MAX_SCANNED_PIXELS:
            raise ImageError(f"{name} is a JPEG of {scans} scans, more than such a file needs; save it anew")
    # OpenCV fills the missing part of a damaged file with grey without an error, so Pillow decodes first. A JPEG with
    # its end marker is not decoded twice, which would double the cost of loading.
    if not (image.format == "JPEG" and data[-2:] == b"\xff\xd9"):
        image.load()
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if apply_exif else 1
    if image.format == "PNG" and is_deep(data, image) and image.mode not in _DEEP_MODES:
        # Pillow cuts colours of 16 bits to the upper 8; libpng of OpenCV gets the chunks that hold pixels and no other.
        return orient(to_rgb8(_by_opencv(pixel_chunks(data), cv2.IMREAD_UNCHANGED, name)), orientation)
    if image.format == "JPEG" and image.mode in _OPENCV_MODES:
        return orient(_by_opencv(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, name), orientation)
    return orient(_by_strips(image), orientation)


def _by_opencv(data: bytes, flags: int, name: str) -> np.ndarray:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if decoded is None:
        raise ImageError(f"{name} is damaged or cut short; fetch it again")
    if decoded.ndim == 2:
        return decoded
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB if decoded.shape[2] == 3 else cv2.COLOR_BGRA2RGB)


def _by_strips(image: Image.Image) -> np.ndarray:
    """Pillow's pixels as RGB; beside them and the result there are a few megabytes."""
    width, height = image.size
    rows = list(strips(height, width))

    def part(wanted: slice) -> Image.Image:
        return image.crop((0, wanted.start, width, wanted.stop))

    pixels = np.empty((height, width, 3), np.uint8)
    if image.mode in _DEEP_MODES:
        low, high = stretch_range(np.asarray(part(wanted)) for wanted in rows)
        for wanted in rows:
            pixels[wanted] = stretch(np.asarray(part(wanted)), low, high)[..., None]
        return pixels
    # Without a colour behind it, Pillow blends a palette's transparent entries into black.
    mode = "RGBA" if image.mode == "P" and "transparency" in image.info else "RGB"
    for wanted in rows:
        pixels[wanted] = np.asarray(part(wanted).convert(mode))[..., :3]
    return pixels


def is_deep(data: bytes, image: Image.Image) -> bool:
    """True for more than 8 bits a channel, which Pillow would cut to the upper 8 when it has colours."""
    return image.mode in _DEEP_MODES or (image.format == "PNG" and len(data) > 24 and data[24] == 16)


def _decode_tiff(data: bytes, name: str, apply_exif: bool, bands: Sequence[int] | None) -> np.ndarray:
    header = read_header(io.BytesIO(data))
    if header is not None:
        check_size(name, header.width, header.height, deep=header.bits > 8)
    pixels = decode_without_rasterio(data, header, name, bands)
    turned = apply_exif and header is not None and not header.georeferenced
    return orient(pixels, header.orientation if header is not None and turned else 1)
