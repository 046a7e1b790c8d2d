"""Numbers to 8-bit RGB by one rule, for image files, rasters and arrays alike.

8-bit values are never changed. What a sensor counted (16-bit integers, floats of a file, numbers beyond 0..255) is
stretched: the smallest and the largest value of the image become 0 and 255, with one range for all three channels, so
that hues are kept. Sensors of 10, 11 or 12 bits fill only a part of 16 bits, so the type's own range would give a
black image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from mindground.errors import ImageError
from mindground.structures.outlines import MAX_PIXELS

__all__ = [
    "MAX_PIXELS",
    "array_to_rgb8",
    "band_numbers",
    "check_size",
    "orient",
    "stretch",
    "stretch_range",
    "strips",
    "to_rgb8",
]

# Values that are converted at once: what a conversion needs beside its result does not grow with the image.
_STRIP_VALUES = 1 << 20
_INTEGERS_OF_SENSORS = (np.dtype(np.uint16), np.dtype(np.int16))


def check_size(name: str, width: int, height: int, *, deep: bool) -> None:
    """Raise ImageError above `MAX_PIXELS`, or a quarter of it for more than 8 bits a channel."""
    most = MAX_PIXELS // 4 if deep else MAX_PIXELS
    if width * height > most:
        bits = " of more than 8 bits" if deep else ""
        raise ImageError(f"{name} has {width} x {height} pixels{bits}, more than {most}; cut it into tiles first")


def strips(height: int, width: int) -> Iterator[slice]:
    """Rows of an image, in strips of about a million pixels."""
    rows = max(1, _STRIP_VALUES // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))


def stretch_range(parts: Iterable[np.ndarray]) -> tuple[float, float]:
    """The (low, high) values that become 0 and 255: the smallest and the largest finite value of all parts.

    Equal ones (a constant image) give 0 and the type's largest value, or 0 and 1 for floats. Parts without a finite
    value do not count.
    """
    low, high, full = np.inf, -np.inf, 1.0
    for part in parts:
        if part.dtype.kind in "iu":
            full = float(np.iinfo(part.dtype).max)
            finite = part
        else:
            finite = part[np.isfinite(part)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if high > low else (0.0, full)


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers -> uint8 of the same shape: `low` becomes 0, `high` becomes 255; what is not finite becomes 0."""
    scaled = (np.where(np.isfinite(values), values, low).astype(np.float64) - low) * (255.0 / (high - low))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def to_rgb8(pixels: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C >= 3) numbers of any type -> (H, W, 3) uint8 RGB, by the rule of this module.

    NaN and infinity become black. The image is converted in strips: beside `pixels` and the result there are a few
    megabytes.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim == 3:
        pixels = pixels[..., :3]
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(np.repeat(pixels[..., None], 3, -1) if pixels.ndim == 2 else pixels)
    rows = list(strips(*pixels.shape[:2]))
    low, high = stretch_range(pixels[part] for part in rows)
    return _by_strips(pixels, rows, lambda values: stretch(values, low, high))


def array_to_rgb8(
    array: np.ndarray | Sequence[object], *, bgr: bool = False, bands: Sequence[int] | None = None
) -> np.ndarray:
    """An array or nested lists of a user -> (H, W, 3) uint8 RGB; the input is not changed.

    | numbers | become |
    |---|---|
    | uint8 | themselves |
    | bool | 0 and 255 |
    | floats, all within [0, 1] | times 255 |
    | floats and integers of other types, all within 0..255 | themselves, rounded |
    | uint16, int16, and anything with values outside 0..255 | stretched, as such files are (`to_rgb8`) |

    The type decides before the values: a float array of zeros and ones alone is read as [0, 1], an int64 array of
    zeros and ones as nearly black. NaN and infinity do not count, and become black.

    Args:
        array: (H, W) or (H, W, 1) grey, (H, W, 3) RGB, (H, W, 4) RGBA without its alpha channel; with `bands`,
            (H, W, C).
        bgr: the channels are blue, green, red, as OpenCV reads files.
        bands: three channel numbers from 1 that are red, green, blue, or one that is grey.

    Raises:
        ImageError: another shape, no numbers, or both `bgr` and `bands`.
    """
    try:
        pixels = np.asarray(array)
    except ValueError as error:
        raise ImageError("an image array must have rows of one length; give (height, width, 3) numbers") from error
    if bands is not None and bgr:
        raise ImageError("bands name the channels in the order red, green, blue; leave bgr out")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    channels = (pixels.shape[2] in (3, 4) or bands is not None) if pixels.ndim == 3 else bands is None
    if pixels.ndim not in (2, 3) or not channels or 0 in pixels.shape or pixels.dtype.kind not in "buif":
        raise ImageError(
            "an image array must be numbers of shape (height, width), (height, width, 3) or (height, width, 4); "
            f"this one is {pixels.shape} {pixels.dtype}"
        )
    if bands is not None:
        pixels = pixels[..., [band - 1 for band in band_numbers(bands, pixels.shape[2], "the array")]]
    elif pixels.ndim == 3:
        pixels = pixels[..., 2::-1] if bgr else pixels[..., :3]
    factor = _factor(pixels)
    if factor is None or pixels.dtype == np.uint8:
        return to_rgb8(pixels)
    return _by_strips(pixels, list(strips(*pixels.shape[:2])), lambda values: stretch(values, 0.0, 255.0 / factor))


def band_numbers(bands: Sequence[int], count: int, name: str) -> list[int]:
    """Three band numbers from 1; one number stands for grey. Raises ImageError for others."""
    chosen = [int(band) for band in bands]
    if len(chosen) == 1:
        chosen = chosen * 3
    if len(chosen) != 3 or min(chosen) < 1 or max(chosen) > count:
        raise ImageError(f"{name} has {count} bands; choose one or three of them (from 1), not {list(bands)[:8]}")
    return chosen


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1..8); unknown values change nothing."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1] if orientation in (2, 5, 7) else pixels[::-1]
    turns = {3: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _factor(pixels: np.ndarray) -> int | None:
    """By what an image array is multiplied; None where it is stretched."""
    if pixels.dtype == np.bool_:
        return 255
    if pixels.dtype in _INTEGERS_OF_SENSORS:
        return None
    low, high = np.inf, -np.inf
    for part in strips(*pixels.shape[:2]):
        values = pixels[part]
        finite = values[np.isfinite(values)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return 255
    return 1 if low >= 0 and high <= 255 else None


def _by_strips(pixels: np.ndarray, rows: Sequence[slice], convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    image = np.empty((*pixels.shape[:2], 3), np.uint8)
    for part in rows:
        values = convert(pixels[part])
        image[part] = values[..., None] if values.ndim == 2 else values
    return image
