"""Figures of many masks of one image, each in a colour of its own."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from mindground.errors import ImageError
from mindground.structures import decode_segmentation
from mindground.structures.outlines import run_lengths

__all__ = ["draw_segments", "segment_colours"]

_DARK = (15, 23, 42)
_OPACITY = 0.55
# Long side of a figure, pixels.
_SHORTEST, _LONGEST = 640, 1280
_TURN = (5**0.5 - 1) / 2  # of the hue: neighbours in the list, and in any part of it, are far apart


def segment_colours(count: int) -> np.ndarray:
    """(count, 3) uint8 RGB, always the same, light and strong enough to stand out from each other and from a photo."""
    found = []
    for index in range(count):
        saturation, value = ((0.75, 1.0), (0.55, 0.95), (0.9, 0.8))[index // 7 % 3]
        found.append(colorsys.hsv_to_rgb((0.02 + index * _TURN) % 1, saturation, value))
    return np.rint(np.asarray(found).reshape(-1, 3) * 255).astype(np.uint8)


def draw_segments(
    image: np.ndarray,
    masks: Sequence[Mapping[str, Any]],
    *,
    width: int | None = None,
    opacity: float = _OPACITY,
) -> np.ndarray:
    """The image with every mask in a colour of its own and a dark line around it, the smallest masks on top.

    Memory does not grow with the number of masks.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: COCO RLE dicts of the size of the image.
        width: of the figure in pixels; by default that of the image, with a long side of 640 to 1280.
        opacity: of the colours, in [0, 1].

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        ImageError: the array is not an RGB uint8 image.
        DataError: a mask is no RLE of the size of the image.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ImageError(f"an image must be (height, width, 3) uint8 RGB; this one is {image.shape} {image.dtype}")
    height, wide = image.shape[:2]
    longest = max(height, wide)
    factor = width / wide if width else min(max(longest, _SHORTEST), _LONGEST) / longest
    size = (max(1, round(wide * factor)), max(1, round(height * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    canvas = cv2.resize(image, size, interpolation=method)
    stroke = max(1, round(max(size) / 640))
    areas = [int(run_lengths(rle)[1::2].sum()) for rle in masks]
    colours = segment_colours(len(masks))
    for index in np.argsort(areas, kind="stable")[::-1]:
        mask = decode_segmentation(masks[index], (height, wide)).astype(np.float32)
        soft = cv2.resize(mask, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        inside = (soft >= 0.5).astype(np.uint8)
        if not inside.any():
            inside = (soft == soft.max()).astype(np.uint8) if areas[index] else inside  # less than a pixel here
        chosen = inside > 0
        mixed = canvas[chosen] * (1 - opacity) + colours[index].astype(np.float32) * opacity
        canvas[chosen] = np.rint(mixed).astype(np.uint8)
        outline, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outline, -1, _DARK, stroke, cv2.LINE_AA)
    return canvas
