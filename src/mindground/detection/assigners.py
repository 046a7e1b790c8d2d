"""Which object a box is to find: the one that it overlaps most."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Assigned", "assign_by_iou", "pairwise_iou"]

_EPS = np.float32(1e-6)


class Assigned(NamedTuple):
    """Of N boxes.

    Attributes:
        objects: (N,) int64: -1 takes no part, 0 background, j + 1 finds object j.
        overlaps: (N,) float32: the largest intersection over union with an object.
    """

    objects: np.ndarray
    overlaps: np.ndarray


def pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union (N, M) float32 of boxes (N, 4) and others (M, 4); 0 where both are empty."""
    boxes, others = np.asarray(boxes, np.float32), np.asarray(others, np.float32)
    width = np.minimum(boxes[:, None, 2], others[None, :, 2]) - np.maximum(boxes[:, None, 0], others[None, :, 0])
    height = np.minimum(boxes[:, None, 3], others[None, :, 3]) - np.maximum(boxes[:, None, 1], others[None, :, 1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    others_areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    return common / np.maximum(areas[:, None] + others_areas[None] - common, _EPS)


def _overlaps(columns: np.ndarray, areas: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(N,) float32: `pairwise_iou` of boxes, as columns (4, N) with their areas (N,), with one box (4,)."""
    width = np.minimum(columns[2], box[2])
    width -= np.maximum(columns[0], box[0])
    height = np.minimum(columns[3], box[3])
    height -= np.maximum(columns[1], box[1])
    common = np.maximum(width, 0, out=width)
    common *= np.maximum(height, 0, out=height)
    union = areas + (box[2] - box[0]) * (box[3] - box[1])
    union -= common
    return np.divide(common, np.maximum(union, _EPS, out=union), out=common)


def assign_by_iou(
    boxes: np.ndarray, objects: np.ndarray, positive: float, negative: float, least: float, low_quality: bool
) -> Assigned:
    """Assign every box to background or to the object that it overlaps most, the first of equal ones.

    A box that is not finite takes no part.

    Args:
        boxes: (N, 4).
        objects: (G, 4), possibly none; then all boxes are background.
        positive: overlap from which a box finds its object.
        negative: overlap below which a box is background.
        least: overlap from which the best boxes of an object are its own with `low_quality`.
        low_quality: every object gets all boxes that overlap it as much as its best one does, also below `positive`;
            a later object takes them from an earlier one.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    count, total = len(boxes), len(objects)
    found, best = np.full(count, -1, np.int64), np.zeros(count, np.float32)
    if not total:
        found[np.isfinite(boxes).all(1)] = 0
        return Assigned(found, best)
    winner = np.zeros(count, np.int64)
    best.fill(-1)
    real = np.isfinite(boxes).all(1)
    columns = np.ascontiguousarray(np.where(real[:, None], boxes, 0).T)
    areas = (columns[2] - columns[0]) * (columns[3] - columns[1])
    own: list[tuple[int, np.ndarray]] = []
    # Object by object: of half a million anchors and many objects, all overlaps at once would not fit a cache.
    for index, box in enumerate(np.asarray(objects, np.float32)):
        overlaps = _overlaps(columns, areas, box)
        overlaps[~real] = -1
        higher = overlaps > best
        winner[higher], best[higher] = index, overlaps[higher]
        highest = overlaps.max(initial=-1)
        if low_quality and highest >= least:
            own.append((index, np.flatnonzero(overlaps == highest)))
    found[(best >= 0) & (best < negative)] = 0
    found[best >= positive] = winner[best >= positive] + 1
    for index, members in own:
        found[members] = index + 1
    return Assigned(found, np.maximum(best, 0))
