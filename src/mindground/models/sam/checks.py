"""Prompts of users, checked: shapes, finite numbers, places inside the image."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindground.errors import DataError, shown

__all__ = ["checked_boxes", "checked_labels", "checked_mask", "checked_points"]

_LABELS = (1, 0, -1)
_FARTHEST = 1e6
"""Pixels; a box may reach beyond the image, but its position code must stay a number."""


def _numbers(name: str, value: Any, width: int) -> np.ndarray:
    """An array of float64 whose last axis has `width` entries."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} {shown(value)} are no numbers; give pixels of the image") from error
    if array.ndim == 0 or array.shape[-1] != width or array.size == 0:
        each = "(x, y)" if width == 2 else "(left, top, right, bottom)"
        raise DataError(f"{name} have the shape {array.shape}; give {each} for each, in pixels of the image")
    if not np.isfinite(array).all():
        raise DataError(f"{name} hold a number that is not finite; give pixels of the image")
    return array


def checked_points(points: Any, size: tuple[int, int]) -> np.ndarray:
    """(P, N, 2) float64 of (N, 2) or (P, N, 2) points. Raises DataError; an image has `size` (height, width)."""
    array = _numbers("points", points, 2)
    if array.ndim not in (2, 3):
        raise DataError(f"points have the shape {array.shape}; give (N, 2) for one prompt or (P, N, 2) for P of them")
    height, width = size
    outside = (array < 0).any(-1) | (array[..., 0] > width) | (array[..., 1] > height)
    if outside.any():
        x, y = array[outside][0]
        raise DataError(
            f"point ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels; points are (x, y) in pixels of "
            "the image as it was opened, with x from the left and y from the top"
        )
    return array if array.ndim == 3 else array[None]


def checked_labels(labels: Any, points: np.ndarray) -> np.ndarray:
    """(P, N) int32 labels of points (P, N, 2); all 1 where None. Raises DataError."""
    if labels is None:
        return np.ones(points.shape[:2], np.int32)
    try:
        array = np.asarray(labels, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"labels {shown(labels)} are no numbers; give 1 (object) or 0 (not object)") from error
    array = array[None] if array.ndim == 1 else array
    if array.shape != points.shape[:2]:
        raise DataError(
            f"{points.shape[1]} points need as many labels for each of {points.shape[0]} prompts, and the labels have "
            f"the shape {array.shape}; give one label a point: 1 belongs to the object, 0 does not"
        )
    unknown = ~np.isin(array, _LABELS)
    if unknown.any():
        raise DataError(f"label {array[unknown][0]:g} means nothing; give 1 (object), 0 (not object) or -1 (no point)")
    return array.astype(np.int32)


def checked_boxes(boxes: Any, size: tuple[int, int]) -> np.ndarray:
    """(P, 4) float64 of (4,) or (P, 4) boxes xyxy, each with area inside the image. Raises DataError."""
    array = _numbers("boxes", boxes, 4)
    if array.ndim not in (1, 2):
        raise DataError(f"boxes have the shape {array.shape}; give (4,) for one or (P, 4) for several")
    array = array.reshape(-1, 4)
    empty = (array[:, 2] <= array[:, 0]) | (array[:, 3] <= array[:, 1])
    if empty.any():
        raise DataError(
            f"box {array[empty][0].tolist()} has no area: right must exceed left, and bottom must exceed top; give a "
            "point where only a place is known"
        )
    height, width = size
    outside = (array[:, 0] >= width) | (array[:, 1] >= height) | (array[:, 2] <= 0) | (array[:, 3] <= 0)
    outside |= (np.abs(array) > _FARTHEST).any(1)
    if outside.any():
        raise DataError(
            f"box {array[outside][0].tolist()} lies outside the image of {width} x {height} pixels, or reaches far "
            "beyond it; boxes are (left, top, right, bottom) in pixels of the image as it was opened"
        )
    return array


def checked_mask(mask: Any, count: int, side: int) -> np.ndarray:
    """(P, 1, side, side) float32 logits of an earlier answer, one for every prompt. Raises DataError."""
    array = np.asarray(mask)
    if array.dtype.kind not in "fiub":
        raise DataError(f"the mask prompt is of the type {array.dtype}; give the logits of an earlier answer")
    array = array.reshape((1,) * max(0, 4 - array.ndim) + array.shape) if array.ndim < 4 else array
    if array.ndim == 4 and array.shape[0] == 1 and array.shape[1] == count and count > 1:
        array = array.reshape(count, 1, *array.shape[2:])
    if array.shape != (count, 1, side, side):
        raise DataError(
            f"the mask prompt has the shape {np.asarray(mask).shape}, and {count} prompts need ({count}, 1, {side}, "
            f"{side}): the low-resolution logits of an earlier answer, not a mask in pixels of the image"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError("the mask prompt holds a number that is not finite; give the logits of an earlier answer")
    return array.astype(np.float32)
