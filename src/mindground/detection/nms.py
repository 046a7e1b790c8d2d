"""Non-maximum suppression: of boxes that overlap much, only the one with the highest score stays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Detections", "detections_per_class", "suppress", "suppress_in_groups"]

# Boxes whose overlaps are computed against all others at once.
_BLOCK = 256


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Indexes (K,) int64 of the boxes that stay, by falling score; of equal scores the first box comes first.

    A box goes if its intersection over union with one that stays is above the threshold. Boxes and scores that are not
    finite do not stay.

    Args:
        boxes: (N, 4).
        scores: (N,).
    """
    boxes, scores = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores)
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(boxes[order]).all(1) & np.isfinite(scores[order])]
    sorted_boxes = boxes[order]
    areas = (sorted_boxes[:, 2] - sorted_boxes[:, 0]) * (sorted_boxes[:, 3] - sorted_boxes[:, 1])
    alive = np.ones(len(order), bool)
    for start in range(0, len(order), _BLOCK):
        stop = min(start + _BLOCK, len(order))
        rows = start + np.flatnonzero(alive[start:stop])
        if not len(rows):
            continue
        over = _overlaps(sorted_boxes, areas, rows, start) > threshold
        kept = []
        for place, row in enumerate(rows):
            if alive[row]:
                kept.append(place)
                alive[row + 1 : stop] &= ~over[place, row + 1 - start : stop - start]
        alive[stop:] &= ~over[kept, stop - start :].any(0)
    return order[alive]


def _overlaps(boxes: np.ndarray, areas: np.ndarray, rows: np.ndarray, start: int) -> np.ndarray:
    """Intersection over union (R, N - start) of some boxes with all from `start` on."""
    own, rest = boxes[rows, None], boxes[None, start:]
    width = np.minimum(own[..., 2], rest[..., 2]) - np.maximum(own[..., 0], rest[..., 0])
    height = np.minimum(own[..., 3], rest[..., 3]) - np.maximum(own[..., 1], rest[..., 1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    union = areas[rows, None] + areas[None, start:] - common
    return np.divide(common, union, out=np.zeros_like(union), where=union > 0)


def suppress_in_groups(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float) -> np.ndarray:
    """`suppress` within every group (a level, a class) by itself; indexes (K,) of all groups by falling score.

    Each group is moved by a multiple of the largest coordinate before overlaps are computed, as published detectors do:
    a move so far rounds coordinates, and so decides boxes that lie at the threshold.

    Args:
        boxes: (N, 4), not negative.
        scores: (N,).
        groups: (N,) int.
    """
    boxes, scores = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores)
    real = boxes[np.isfinite(boxes).all(1)]
    if not len(real):
        return np.zeros(0, np.int64)
    step = real.max() + np.float32(1)
    moved = boxes + (groups.astype(np.float32) * step)[:, None]
    kept = [np.zeros(0, np.int64)]
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        kept.append(members[suppress(moved[members], scores[members], threshold)])
    found = np.sort(np.concatenate(kept))
    return found[np.argsort(-scores[found], kind="stable")]


class Detections(NamedTuple):
    """Of one image, by falling score.

    Attributes:
        boxes: (K, 4).
        scores: (K,).
        labels: (K,) int64, classes from 0.
        source: (K,) int64: n * classes + class of the box n that the detection comes from.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    source: np.ndarray


def detections_per_class(
    boxes: np.ndarray, scores: np.ndarray, least: float, threshold: float, limit: int
) -> Detections:
    """Every pair of box and class above a score, suppressed class by class; one box may appear under several classes.

    Args:
        boxes: (N, C, 4), a box of its own for every class.
        scores: (N, C), without background.
        least: only scores above this count.
        threshold: overlap from which the lower score goes.
        limit: detections of an image.
    """
    number, classes = scores.shape
    flat = np.asarray(boxes, np.float32).reshape(number * classes, 4)
    index = np.flatnonzero(scores.reshape(-1) > least)
    chosen, found = flat[index], scores.reshape(-1)[index]
    labels = index % classes
    kept = suppress_in_groups(chosen, found, labels, threshold)[:limit]
    return Detections(chosen[kept], found[kept].astype(np.float32), labels[kept], index[kept])
