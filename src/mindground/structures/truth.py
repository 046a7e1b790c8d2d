"""What is true of a sample, in original pixels: its referent, or every one of its objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from mindground.errors import DataError
from mindground.structures.sample import Sample

__all__ = ["Truth", "instance_truth", "referent_box", "referent_mask", "referent_truth"]


@dataclass(frozen=True)
class Truth:
    """The objects that a network shall find in one image.

    Attributes:
        boxes_xyxy: (N, 4) float32 in original pixels.
        labels: (N,) int64 category ids.
        masks: (height, width) of the image -> (N, H, W) uint8; drawn only when called. None where an object has no
            outline.
        single: True for a referent: N is 1, and it must be visible after every transform. Instances that a crop
            hides are left out instead.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    masks: Callable[[tuple[int, int]], np.ndarray] | None = None
    single: bool = False


def referent_truth(sample: Sample) -> Truth:
    """One box and one mask, however many objects a referring sample has.

    Raises:
        DataError: the sample has no box, or a number in it is not finite.
    """

    def masks(size: tuple[int, int]) -> np.ndarray:
        mask = referent_mask(sample, size)
        return np.zeros((1, *size), np.uint8) if mask is None else mask[None]

    box = referent_box(sample)[None]
    return Truth(box, sample.labels[:1], masks if sample.has_masks else None, single=True)


def instance_truth(sample: Sample) -> Truth:
    """Every object of a sample; N may be 0."""

    def masks(size: tuple[int, int]) -> np.ndarray:
        drawn = _drawn(sample, size)
        if drawn.shape[1:] == tuple(size):
            return drawn
        return np.stack([_resized(mask, size) for mask in drawn]) if len(drawn) else np.zeros((0, *size), np.uint8)

    complete = len(sample.boxes_xyxy) == 0 or sample.has_masks
    return Truth(sample.boxes_xyxy, sample.labels, masks if complete else None)


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
    mask = _drawn(sample, size).max(0)
    return mask if mask.shape == tuple(size) else _resized(mask, size)


def _drawn(sample: Sample, size: tuple[int, int]) -> np.ndarray:
    """(N, H, W) masks at their annotated size, or at `size` where only the image file knows one."""
    try:
        return sample.masks(sample.size or size)
    except DataError as error:
        raise DataError(f"sample {sample.sample_id!r} ({sample.image_path}): {error}") from error


def _resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
