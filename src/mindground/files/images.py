"""Any image file to RGB bytes: grey, alpha, 16-bit, CMYK, palette, rotated by EXIF.

OpenCV decodes what it decodes exactly (8-bit grey, RGB, RGBA of JPEG, PNG, BMP), Pillow the rest.
Files are read as bytes first, because OpenCV cannot open paths with non-ASCII letters everywhere.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mindground.errors import ImageError

__all__ = ["MAX_PIXELS", "ImageCache", "decode_image", "read_image", "to_rgb8"]

# Protects against small files that decode to more memory than the machine has; below Pillow's own limit of 178 million.
MAX_PIXELS = 170_000_000

# JPEG modes; Pillow has already decoded all other formats when they are found complete.
_OPENCV_MODES = {"L", "RGB"}
_DEEP_MODES = {"I", "I;16", "I;16B", "I;16L", "F"}
_EXIF_ORIENTATION, _TIFF_BITS = 0x0112, 258


def read_image(path: str | Path, *, apply_exif: bool = True) -> np.ndarray:
    """The image file as (H, W, 3) uint8 RGB.

    Transparent pixels keep their colour. Images of more than 8 bits are scaled by `to_rgb8`.

    Args:
        path: any file that OpenCV or Pillow can read.
        apply_exif: rotate the image as its EXIF orientation says.

    Raises:
        ImageError: no such file, not an image, cut short, or larger than `MAX_PIXELS`.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be opened ({error.strerror}); check data.image_root") from error
    return decode_image(data, str(path), apply_exif=apply_exif)


class ImageCache:
    """`read_image` with a cache of the last used images; safe for several threads.

    Without it, data sets with many sentences per image decode every image many times an epoch.

    Args:
        megabytes: of decoded images in the cache; 0 keeps none.
    """

    def __init__(self, megabytes: int = 0) -> None:
        self.limit = megabytes * 2**20
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
        image = read_image(path)
        image.flags.writeable = False
        with self._lock:
            if key not in self._kept and image.nbytes <= self.limit:
                self._kept[key] = image
                self._bytes += image.nbytes
                while self._bytes > self.limit:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return image


def decode_image(data: bytes, name: str, *, apply_exif: bool = True) -> np.ndarray:
    """Bytes of an image file -> (H, W, 3) uint8 RGB; errors call it `name`.

    Raises:
        ImageError: see `read_image`.
    """
    if not data:
        raise ImageError(f"{name} is empty; fetch it again")
    try:
        with warnings.catch_warnings():
            # Pillow only warns about suspicious sizes; our own limit below decides.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is larger than {MAX_PIXELS} pixels; cut it into tiles first") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error) as error:
        deep = _decode_deep(data)  # OpenCV knows some that Pillow does not, such as float TIFF of three bands
        if deep is None:
            raise ImageError(f"{name} is not an image that can be read; give JPEG, PNG, TIFF, BMP or WebP") from error
        return deep
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(f"{name} has {width} x {height} pixels, more than {MAX_PIXELS}; cut it into tiles first")
        try:
            return _decode(data, image, apply_exif)
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, cv2.error, MemoryError) as error:
            raise ImageError(f"{name} is damaged or cut short ({error}); fetch it again") from error


def _decode(data: bytes, image: Image.Image, apply_exif: bool) -> np.ndarray:
    # OpenCV fills the missing part of a damaged file with grey without an error, so Pillow decodes first. A JPEG with
    # its end marker is not decoded twice, which would double the cost of loading.
    if not (image.format == "JPEG" and data[-2:] == b"\xff\xd9"):
        image.load()
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if apply_exif else 1
    if _is_deep(data, image):
        deep = _decode_deep(data)
        if deep is not None:
            return _orient(deep, orientation)
    elif image.format == "JPEG" and image.mode in _OPENCV_MODES:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if decoded is not None:
            return _orient(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), orientation)
    return _decode_pillow(image, orientation)


def to_rgb8(pixels: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C >= 3) numbers of any type -> (H, W, 3) uint8 RGB.

    8-bit values stay. Other values are scaled linearly from [min, max] of this image to [0, 255]:
    sensors of 10, 11 or 12 bits fill only a part of 16 bits, so the type's own range would give a black image.
    Three channels share one range, so that hues are kept. A constant image is scaled by the type's range.
    NaN and infinity become the minimum.
    """
    pixels = np.asarray(pixels)
    pixels = np.repeat(pixels[..., None], 3, -1) if pixels.ndim == 2 else pixels[..., :3]
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    values = pixels.astype(np.float64)
    finite = np.isfinite(values)
    low = float(values[finite].min()) if finite.any() else 0.0
    high = float(values[finite].max()) if finite.any() else 0.0
    values = np.where(finite, values, low)
    if high > low:
        values = (values - low) * (255.0 / (high - low))
    else:
        full = float(np.iinfo(pixels.dtype).max) if np.issubdtype(pixels.dtype, np.integer) else 1.0
        values = values * (255.0 / full)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _is_deep(data: bytes, image: Image.Image) -> bool:
    """True for more than 8 bits a channel, which Pillow would cut to the upper 8 when it has colours."""
    if image.mode in _DEEP_MODES:
        return True
    if image.format == "PNG":
        return len(data) > 24 and data[24] == 16
    if isinstance(image, TiffImageFile):
        return any(bits > 8 for bits in image.tag_v2.get(_TIFF_BITS, ()))
    return False


def _decode_deep(data: bytes) -> np.ndarray | None:
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    if decoded is None:
        return None
    if decoded.ndim == 3 and decoded.shape[2] in (3, 4):
        decoded = decoded[..., 2::-1]
    elif decoded.ndim == 3:
        decoded = decoded[..., 0]
    return to_rgb8(decoded)


def _decode_pillow(image: Image.Image, orientation: int) -> np.ndarray:
    if image.mode in _DEEP_MODES:
        return _orient(to_rgb8(np.asarray(image)), orientation)
    if image.mode == "P" and "transparency" in image.info:
        return _orient(np.asarray(image.convert("RGBA"))[..., :3], orientation)
    return _orient(np.asarray(image.convert("RGB")), orientation)


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1..8); unknown values change nothing."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1] if orientation in (2, 5, 7) else pixels[::-1]
    turns = {3: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, turns))
