"""Images of callers, in whatever form, as RGB arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mindground.errors import ImageError, one_line
from mindground.files.images import read_image
from mindground.files.pixels import array_to_rgb8, check_size, to_rgb8

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["as_rgb"]


def as_rgb(image: Any, *, bgr: bool = False, bands: Sequence[int] | None = None) -> np.ndarray:
    """A path, a Pillow image or an array -> (H, W, 3) uint8 RGB; the input is not changed.

    Args:
        image: a path as `files.images.read_image`, a Pillow image, or an array as `files.pixels.array_to_rgb8`.
        bgr: the array's channels are blue, green, red.
        bands: of a file or an array, the numbers from 1 of those that are red, green and blue.

    Raises:
        ImageError: not an image, an array of another shape, or `bgr` or `bands` where they mean nothing.
    """
    if isinstance(image, (str, Path)):
        if bgr:
            raise ImageError("bgr=True is for arrays; the colours of a file are known, or given as bands")
        return read_image(image, bands=bands)
    if not isinstance(image, np.ndarray) and hasattr(image, "getexif"):
        if bgr or bands is not None:
            raise ImageError("a Pillow image knows its colours; leave bgr and bands out, or hand over an array")
        return _from_pillow(image)
    return array_to_rgb8(image, bgr=bgr, bands=bands)


def _from_pillow(image: Image.Image) -> np.ndarray:
    """A Pillow image, rotated by its EXIF orientation, as (H, W, 3) uint8 RGB."""
    from PIL import ImageOps

    check_size("the image", *image.size, deep=image.mode.startswith("I") or image.mode == "F")
    try:
        upright = ImageOps.exif_transpose(image)
        deep = upright.mode.startswith("I") or upright.mode == "F"
        if not deep:
            has_alpha = upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info
            upright = upright.convert("RGBA" if has_alpha else "RGB")
        return to_rgb8(np.asarray(upright))
    except Exception as error:  # a lazily opened file: plugins of Pillow raise what they like
        raise ImageError(f"the image cannot be decoded: {one_line(error)}; check that its file is complete") from error
