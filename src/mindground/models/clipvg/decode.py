"""From CLIP-VG's box to original pixels."""

from __future__ import annotations

import numpy as np

from mindground.structures import Batch, Prediction, cxcywh_to_xyxy

__all__ = ["decode_box", "dior_legacy_to_xyxy"]


def dior_legacy_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) as the remote-sensing fork's checkpoints predict it -> corners, same unit.

    Its loader took the corners xmax, ymax for a width and a height, so that the network learnt
    cx = xmin + xmax / 2 and w = xmax: the lower right corner is w, h itself. Where cx would exceed 1 the network
    could not follow, and the left edge is only approximate.
    """
    boxes = np.asarray(boxes, np.float32)
    return np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., 2:]], -1)


def decode_box(boxes: np.ndarray, batch: Batch, box_code: str = "cxcywh") -> list[Prediction]:
    """One prediction for each real sample of a batch; its score is 1, because a box alone carries no confidence.

    Args:
        boxes: (B, 4) as shares of the canvas.
        box_code: cxcywh, or dior_legacy (`dior_legacy_to_xyxy`).
    """
    to_xyxy = dior_legacy_to_xyxy if box_code == "dior_legacy" else cxcywh_to_xyxy
    predictions = []
    for index in range(batch.count):
        geometry, sample = batch.geometries[index], batch.samples[index]
        height, width = geometry.canvas_size
        corners = np.clip(to_xyxy(boxes[index]), 0, 1) * np.asarray([width, height, width, height], np.float32)
        box = geometry.boxes_to_original(corners)
        predictions.append(Prediction(geometry.original_size, box, np.ones(1), expression=sample.expression))
    return predictions
