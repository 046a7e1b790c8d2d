"""From VG-LAW's raw outputs to boxes and masks in original pixels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mindground.structures import Batch, Prediction, cxcywh_to_xyxy, encode_mask

__all__ = ["decode_referent"]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0)))


def _agreement(inside: np.ndarray, box_xyxy: np.ndarray) -> float:
    """Share of the mask's pixels that lie in the box; 0 for an empty mask."""
    total = int(inside.sum())
    if total == 0:
        return 0.0
    x0, y0 = np.floor(box_xyxy[:2]).astype(int)
    x1, y1 = np.ceil(box_xyxy[2:]).astype(int)
    return float(inside[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)].sum()) / total


def decode_referent(outputs: Mapping[str, np.ndarray], batch: Batch, threshold: float) -> list[Prediction]:
    """One prediction for each real sample of a batch.

    The score says how much to trust it: mean probability of the mask's pixels times the share of them
    inside the box. It is low where the mask is faint or box and mask disagree, as happens when the
    referent is not in the image. Without a mask head it is 1: a box alone carries no confidence. The mask
    score is that mean probability alone.

    Args:
        outputs: `box` (B, 4) cxcywh in [0, 1] of the canvas and, with a mask head, `mask_logits` (B, 1, S, S).
        threshold: probability above which a pixel belongs to the mask.
    """
    predictions = []
    for index in range(batch.count):
        geometry, sample = batch.geometries[index], batch.samples[index]
        height, width = geometry.canvas_size
        canvas_box = cxcywh_to_xyxy(outputs["box"][index]) * np.asarray([width, height, width, height], np.float32)
        box = geometry.boxes_to_original(canvas_box)
        prediction = Prediction(geometry.original_size, box, np.ones(1), expression=sample.expression)
        if "mask_logits" in outputs:
            logits = outputs["mask_logits"][index, 0]
            probability = _sigmoid(geometry.map_to_original(logits))
            inside = probability > threshold
            certainty = float(probability[inside].mean()) if inside.any() else 0.0
            prediction.masks = (encode_mask(inside),)
            prediction.mask_scores = np.asarray([certainty], np.float32)
            prediction.scores = np.asarray([certainty * _agreement(inside, box[0])], np.float32)
            if "mask" in batch.arrays:
                # The paper compares masks on the canvas; the metric reports that value beside its own.
                found, truth = _sigmoid(logits) > threshold, batch.arrays["mask"][index, 0] > 0
                counts = (int((found & truth).sum()), int((found | truth).sum()))
                prediction.extras["canvas_iou_counts"] = counts
        predictions.append(prediction)
    return predictions
