"""One prediction against the truth of its image: the IoU of a referent, and which objects the detections found."""

from __future__ import annotations

import numpy as np

from mindground.structures import Prediction, Truth, box_iou

__all__ = ["ious", "iou_matrix", "match_detections"]


def ious(prediction: Prediction, truth: Truth) -> tuple[float | None, float | None]:
    """(box IoU, mask IoU) of the prediction with the highest score with a referent, in original pixels.

    A value is None where there is nothing to compare: no truth, or no masks on one side. An empty prediction against
    a true object counts as 0.

    Raises:
        ValueError: the truth holds several objects; `match_detections` compares sets.
    """
    if len(truth.boxes_xyxy) > 1:
        raise ValueError(f"the truth holds {len(truth.boxes_xyxy)} objects; a referent is one")
    if not len(truth.boxes_xyxy):
        return None, None
    if not len(prediction.boxes_xyxy):
        return 0.0, (None if truth.masks is None else 0.0)
    best = prediction.select(np.asarray([np.argmax(prediction.scores)]))
    box = float(box_iou(best.boxes_xyxy[0], truth.boxes_xyxy[0]))
    if truth.masks is None or not prediction.masks:
        return box, None
    return box, float(_mask_ious(best.mask_arrays(), truth.masks(prediction.size))[0, 0])


def iou_matrix(prediction: Prediction, truth: Truth, form: str) -> np.ndarray:
    """(P, N) float64 IoU of every prediction with every true object.

    Args:
        form: `box` or `mask`.

    Raises:
        ValueError: one side has no masks, and `form` is mask.
    """
    if not len(prediction) or not len(truth.boxes_xyxy):
        return np.zeros((len(prediction), len(truth.boxes_xyxy)))
    if form == "box":
        return np.asarray(box_iou(prediction.boxes_xyxy[:, None], truth.boxes_xyxy[None]), np.float64)
    if truth.masks is None or not prediction.masks:
        raise ValueError("mask IoU needs masks on both sides")
    return _mask_ious(prediction.mask_arrays(), truth.masks(prediction.size))


def match_detections(
    overlaps: np.ndarray, scores: np.ndarray, labels: np.ndarray, true_labels: np.ndarray, threshold: float = 0.5
) -> np.ndarray:
    """(P,) int64: the true object that each detection found, -1 where it found none.

    In the order of their scores, detections take the free object of their own class with the highest IoU, at or above
    the threshold, as in COCO's evaluation. So no object is found twice.

    Args:
        overlaps: (P, N) IoU.
        scores: (P,).
        labels, true_labels: (P,) and (N,) category ids.
    """
    allowed = np.where((labels[:, None] == true_labels[None]) & (overlaps >= threshold), overlaps, -1.0)
    found = np.full(len(scores), -1, np.int64)
    if not allowed.size:
        return found
    for detection in np.argsort(-scores, kind="stable"):
        best = int(np.argmax(allowed[detection]))
        if allowed[detection, best] >= 0:
            found[detection] = best
            allowed[:, best] = -1.0
    return found


def _mask_ious(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(P, H, W) and (N, H, W) masks -> (P, N) IoU; 0 where both masks are empty."""
    flat = [(masks != 0).reshape(len(masks), -1).astype(np.float32) for masks in (found, true)]
    # float32 counts pixels exactly up to 2**24 a mask; an IoU of larger masks is right to seven digits.
    common = (flat[0] @ flat[1].T).astype(np.float64)
    areas = [np.count_nonzero(masks, axis=1).astype(np.float64) for masks in flat]
    union = areas[0][:, None] + areas[1][None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
