"""Images whose EXIF data turn them, beside annotations made on the pixels as they are stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindground.files.images import read_image

__all__ = ["as_annotated", "read_as_annotated", "same_but_for_rounding"]

_SIZE_TOLERANCE = 0.02


def as_annotated(
    image: np.ndarray, path: str, size: tuple[int, int] | None, bands: Sequence[int] | None = None
) -> np.ndarray:
    """The image in the sense in which it was annotated; training, scores, drawings and the data check agree by it.

    Args:
        image: (H, W, 3) as `read_image` gives it, turned as its EXIF data say.
        path: its file, read again where the stored pixels may be meant.
        size: (height, width) that the annotation says; None where it says none.
        bands: as for `read_image`.

    Returns:
        The stored pixels where they alone have this size, otherwise `image`.
    """
    if size is None or image.shape[:2] == tuple(size):
        return image
    stored = read_image(path, apply_exif=False, bands=bands)
    return stored if stored.shape[:2] == tuple(size) else image


def read_as_annotated(path: str, size: tuple[int, int] | None, bands: Sequence[int] | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB; see `as_annotated`. Raises ImageError as `read_image` does."""
    return as_annotated(read_image(path, bands=bands), path, size, bands)


def same_but_for_rounding(size: Sequence[int], annotated: Sequence[int]) -> bool:
    """True where a size (height, width) misses the annotated one by at most 2 pixels, or 2 % of the side.

    Some sets annotate a resized copy of their images; training takes these and says so.
    """
    pairs = zip(size, annotated, strict=True)
    return all(abs(there - said) <= max(2, _SIZE_TOLERANCE * said) for there, said in pairs)
