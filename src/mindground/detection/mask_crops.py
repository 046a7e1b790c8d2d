"""Windows around masks for a classifier of masks: what lies outside a mask is blurred."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from mindground.structures import box_iou

__all__ = ["MaskCrop", "crop_around", "label_of_crop", "upstream_scores"]

_BLUR = 7


class MaskCrop(NamedTuple):
    """Pixels (h, w, 3) uint8 and their window left, top, right, bottom in the image."""

    pixels: np.ndarray
    window: tuple[int, int, int, int]

    def is_large(self, side: int = 16) -> bool:
        """Both sides of the window have at least `side` pixels."""
        left, top, right, bottom = self.window
        return right - left >= side and bottom - top >= side


def crop_around(image: np.ndarray, mask: np.ndarray, box_xywh: np.ndarray, expand: float = 2.0) -> MaskCrop:
    """A window of `expand` times a mask's box about its centre, clipped to the image.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W), not 0 inside.
        box_xywh: (4,) int, width and height from the first to the last pixel, as segment-anything gives boxes.
    """
    height, width = image.shape[:2]
    x, y, wide, high = (int(value) for value in box_xywh)
    centre = x + wide // 2, y + high // 2
    half = int(wide * expand) // 2, int(high * expand) // 2
    left, right = max(centre[0] - half[0], 0), min(centre[0] + half[0], width)
    top, bottom = max(centre[1] - half[1], 0), min(centre[1] + half[1], height)
    # The blur sees the whole image: a window of its own would mirror its borders.
    blurred = cv2.blur(image, (_BLUR, _BLUR))
    mixed = np.where((np.asarray(mask) != 0)[..., None], image, blurred)
    return MaskCrop(np.ascontiguousarray(mixed[top:bottom, left:right]), (left, top, right, bottom))


def label_of_crop(
    box_xywh: np.ndarray, boxes_xyxy: np.ndarray, labels: np.ndarray, background: int, least: float = 0.2
) -> tuple[int, float]:
    """Class of the object with the largest overlap, if it is above `least`, else `background`; and that overlap."""
    if not len(boxes_xyxy):
        return background, 0.0
    x, y, width, height = (float(value) for value in box_xywh)
    own = np.broadcast_to(np.asarray([x, y, x + width, y + height]), (len(boxes_xyxy), 4))
    overlaps = box_iou(own, boxes_xyxy)
    best = int(overlaps.argmax())
    found = float(overlaps[best])
    return (int(labels[best]) if found > least else background), found


def upstream_scores(probabilities: np.ndarray) -> np.ndarray:
    """(N, C) from probabilities (N, C + 1): a second softmax and no background, as published scores were made."""
    powers = np.exp(probabilities - probabilities.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True))[:, :-1]
