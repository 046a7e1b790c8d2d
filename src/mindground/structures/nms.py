"""Non-maximum suppression of boxes on the host."""

from __future__ import annotations

import numpy as np

__all__ = ["suppress"]


def suppress(boxes_xyxy: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Indexes (K,) int64 of the boxes that no surer box covers, the surest first; equal scores keep their order.

    A box is left out when its IoU with one that is kept exceeds `threshold`. A box without area overlaps its equals
    alone, wholly.
    Computed in float32, box by box: memory does not grow with the square of N.

    Args:
        boxes_xyxy: (N, 4), in any unit.
        scores: (N,).
    """
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float32).reshape(-1), kind="stable")
    boxes = boxes[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.ones(len(boxes), bool)
    for index in range(len(boxes)):
        if not alive[index]:
            continue
        rest = index + 1 + np.flatnonzero(alive[index + 1 :])
        low = np.maximum(boxes[index, :2], boxes[rest, :2])
        high = np.minimum(boxes[index, 2:], boxes[rest, 2:])
        sides = np.maximum(high - low, np.float32(0))
        shared = sides[:, 0] * sides[:, 1]
        union = areas[index] + areas[rest] - shared
        equal = (boxes[rest] == boxes[index]).all(1).astype(np.float32)
        overlap = np.divide(shared, union, out=equal, where=union > 0)
        alive[rest[overlap > threshold]] = False
    return order[alive].astype(np.int64)
