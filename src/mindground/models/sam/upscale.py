"""Low-resolution logits back to the pixels of the image."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["upscaled"]


def upscaled(logits: np.ndarray, side: int, low_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Bilinear to the canvas, cut to the part that shows the image, bilinear to the image.

    Args:
        logits: (n, h, w) float32.
        side: of the canvas in pixels.
        low_size: (height, width) of the resized image in the canvas's top left corner.
        size: (height, width) of the image.

    Returns:
        (n, height, width) float32.
    """
    found = np.empty((len(logits), *size), np.float32)
    for index, low in enumerate(np.asarray(logits, np.float32)):
        canvas = cv2.resize(low, (side, side), interpolation=cv2.INTER_LINEAR)
        part = np.ascontiguousarray(canvas[: low_size[0], : low_size[1]])
        found[index] = cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return found
