"""From logits on the canvas to masks in original pixels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mindground.structures import Batch, Geometry, Prediction, encode_mask
from mindground.structures.masks import mask_box

__all__ = ["decode_masks", "nearest_indexes"]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0)))


def nearest_indexes(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the canvas for every row and column of the original: floor(i * resized / original)."""
    indexes = []
    for axis in (0, 1):
        original, resized = geometry.original_size[axis], geometry.resized_size[axis]
        place = np.arange(original) * resized // original
        if (geometry.upside_down, geometry.flipped)[axis]:
            place = resized - 1 - place
        place = place + int(geometry.offset[1 - axis])
        indexes.append(np.clip(place, 0, geometry.canvas_size[axis] - 1))
    return indexes[0], indexes[1]


def decode_masks(outputs: Mapping[str, np.ndarray], batch: Batch, resize: str = "nearest") -> list[Prediction]:
    """One prediction for each real sample: a pixel belongs to the referent where its logit is the larger one.

    Score and mask score are both the mean probability of the mask's pixels, 0 for an empty mask. The box is that of
    the mask.

    Args:
        outputs: `mask_logits` (B, 1, S, S), logit of the referent minus that of the background.
        resize: "nearest" decides on the canvas and repeats pixels (as the field reports); "bilinear" resizes logits
            and decides in original pixels. An image that fills only a window of the canvas is always resized so.
    """
    predictions = []
    for index in range(batch.count):
        geometry, sample = batch.geometries[index], batch.samples[index]
        logits = outputs["mask_logits"][index, 0]
        if resize == "nearest" and geometry.window is None:
            rows, columns = nearest_indexes(geometry)
            native = logits[rows[:, None], columns[None]]
        else:
            native = geometry.map_to_original(logits)
        inside = native > 0
        certainty = float(_sigmoid(native[inside]).mean()) if inside.any() else 0.0
        prediction = Prediction(
            geometry.original_size, mask_box(inside)[None], np.asarray([certainty]), masks=(encode_mask(inside),),
            expression=sample.expression, extras={"boxes_from_masks": True}, mask_scores=np.asarray([certainty]),
        )  # fmt: skip
        if "mask" in batch.arrays:
            found, truth = logits > 0, batch.arrays["mask"][index, 0] > 0
            counts = (int((found & truth).sum()), int((found | truth).sum()))
            prediction.extras["canvas_iou_counts"] = counts
        predictions.append(prediction)
    return predictions
