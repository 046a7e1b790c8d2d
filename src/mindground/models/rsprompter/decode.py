"""From detections on the canvas to instances in original pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mindground.detection.mask_head import paste_mask
from mindground.nn.resize import linear_matrix
from mindground.structures import Batch, Geometry, Prediction
from mindground.structures.masks import encode_mask

__all__ = ["decode_instances", "mask_in_box", "mask_of_canvas"]

# A pixel belongs to an object from this probability on.
_INSIDE = 0.5

MaskOf = Callable[[np.ndarray, np.ndarray, Geometry], np.ndarray]


def mask_of_canvas(logits: np.ndarray, box: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(H, W) bool of the original image from logits (h, w) that cover the whole canvas; the box does not cut it."""
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-logits.astype(np.float32)))
    height, width = geometry.canvas_size
    wide = linear_matrix(logits.shape[0], height) @ probability @ linear_matrix(logits.shape[1], width).T
    return geometry.map_to_original(wide.astype(np.float32)) >= _INSIDE


def mask_in_box(logits: np.ndarray, box: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(H, W) bool of the original image from logits (h, w) of a box (4,) in original pixels."""
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-logits.astype(np.float32)))
    if geometry.flipped:
        probability = probability[:, ::-1]
    if geometry.upside_down:
        probability = probability[::-1]
    return paste_mask(probability, box, geometry.original_size, _INSIDE)


def decode_instances(outputs: Mapping[str, np.ndarray], batch: Batch, mask_of: MaskOf) -> list[Prediction]:
    """One prediction, with any number of instances, for each real sample.

    Args:
        outputs: `det_boxes` (B, K, 4) in canvas pixels, `det_scores` (B, K) by falling score, `det_labels` (B, K) from
            0, `det_count` (B,), `det_logits` (B, K, h, w).
        mask_of: logits, box in original pixels, geometry -> mask.
    """
    found = []
    for index in range(batch.count):
        geometry, count = batch.geometries[index], int(outputs["det_count"][index])
        boxes = geometry.boxes_to_original(outputs["det_boxes"][index][:count])
        # What lies in the padding has no area in the image.
        kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
        logits = outputs["det_logits"][index]
        masks = tuple(encode_mask(mask_of(logits[place], boxes[place], geometry)) for place in kept)
        scores, labels = (outputs[name][index][kept] for name in ("det_scores", "det_labels"))
        found.append(Prediction(geometry.original_size, boxes[kept], scores, labels.astype(np.int64) + 1, masks))
    return found
