"""From cells to detections in original pixels."""

from __future__ import annotations

import numpy as np

from mindground.structures import Batch, Prediction, box_iou, cxcywh_to_xyxy

__all__ = ["decode_cells"]


def decode_cells(
    boxes: np.ndarray, scores: np.ndarray, batch: Batch, score_threshold: float, nms_iou: float
) -> list[Prediction]:
    """One prediction, with any number of boxes, for each real sample.

    Args:
        boxes: (B, Q, 4) cxcywh in [0, 1] of the canvas.
        scores: (B, Q, C) in [0, 1].
    """
    found = []
    for index in range(batch.count):
        geometry = batch.geometries[index]
        canvas = cxcywh_to_xyxy(boxes[index]) * np.float32(geometry.canvas_size[0])
        kept: list[tuple[int, int]] = []
        for cell, label in zip(
            *np.unravel_index(np.argsort(-scores[index], axis=None), scores[index].shape), strict=True
        ):
            if scores[index, cell, label] < score_threshold:
                break
            rivals = [other for other, theirs in kept if theirs == label]
            if not rivals or box_iou(canvas[cell], canvas[rivals]).max() < nms_iou:
                kept.append((int(cell), int(label)))
        cells, labels = (np.asarray([pair[place] for pair in kept], np.int64) for place in (0, 1))
        original = geometry.boxes_to_original(canvas[cells])
        found.append(Prediction(geometry.original_size, original, scores[index, cells, labels], labels + 1))
    return found
