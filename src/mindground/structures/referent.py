"""The truth of a referring sample: one box and one mask, however many objects are annotated."""

from __future__ import annotations

import cv2
import numpy as np

from mindground.errors import DataError
from mindground.structures.sample import Sample

__all__ = ["referent_box", "referent_mask"]


def referent_box(sample: Sample) -> np.ndarray:
    """(4,) float32 xyxy in original pixels that encloses every object of the sample.

    Raises:
        DataError: the sample has no box, or a number in it is not finite.
    """
    boxes = sample.boxes_xyxy
    if len(boxes) == 0:
        raise DataError(f"sample {sample.sample_id!r} ({sample.image_path}) has no box; run tools/data_check.py")
    if not np.isfinite(boxes).all():
        raise DataError(f"sample {sample.sample_id!r} has the box {boxes.tolist()}; run tools/data_check.py")
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def referent_mask(sample: Sample, size: tuple[int, int]) -> np.ndarray | None:
    """(H, W) uint8 union of the sample's masks in an image of `size`, or None when it has none.

    Masks are drawn at their annotated size. Where the image file has another (RRSIS-D has masks of
    800x787 for images of 800x800) they are resized to it, nearest neighbour.

    Raises:
        DataError: an outline cannot be drawn; the message names the sample.
    """
    if not sample.has_masks:
        return None
    try:
        mask = sample.masks(sample.size or size).max(0)
    except DataError as error:
        raise DataError(f"sample {sample.sample_id!r} ({sample.image_path}): {error}") from error
    if mask.shape != tuple(size):
        mask = cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return mask
