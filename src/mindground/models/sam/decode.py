"""From the masks that boxes gave on the canvas to a prediction in original pixels."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from mindground.structures import Batch, Prediction, encode_mask
from mindground.structures.masks import mask_box

__all__ = ["PROMPTS", "decode_prompted"]

# What the last axis of `prompt_iou` means.
PROMPTS = ("point", "box", "clicks", "box_as_mask")


def decode_prompted(outputs: Mapping[str, np.ndarray], batch: Batch) -> list[Prediction]:
    """One prediction for each real sample: a mask for every object that was asked for by its box.

    Scores are the IoU that the network expects, kept within 0 and 1. `extras["prompt_iou"]` holds (N, 4) figures on the
    canvas, of `PROMPTS`.
    """
    predictions = []
    for index in range(batch.count):
        geometry = batch.geometries[index]
        figures = outputs["prompt_iou"][index]
        kept = np.flatnonzero(~np.isnan(figures[:, 1]))
        masks, boxes = [], []
        for place in kept:
            size = (geometry.canvas_size[1], geometry.canvas_size[0])
            canvas = cv2.resize(outputs["prompt_logits"][index, place], size, interpolation=cv2.INTER_LINEAR)
            inside = geometry.map_to_original(canvas) > 0
            masks.append(encode_mask(inside))
            boxes.append(mask_box(inside))
        scores = np.clip(outputs["prompt_expected"][index, kept], 0.0, 1.0)
        extras = {"prompt_iou": figures[kept], "boxes_from_masks": True}
        predictions.append(
            Prediction(geometry.original_size, np.asarray(boxes), scores, masks=tuple(masks), extras=extras)
        )
    return predictions
