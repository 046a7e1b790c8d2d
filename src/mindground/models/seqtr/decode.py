"""From tokens to boxes and masks in original pixels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mindground.models.seqtr.generate import before_end
from mindground.models.seqtr.sequences import ABSOLUTE_SIDE, Layout, dequantise
from mindground.models.seqtr.targets import padded_size
from mindground.structures import Batch, Prediction, decode_segmentation, encode_mask
from mindground.structures.masks import mask_box

__all__ = ["decode_sequences", "draw_polygon", "tokens_to_boxes", "tokens_to_points"]


def _sides(layout: Layout, padded: tuple[int, int]) -> np.ndarray:
    """(x, y) of what coordinates are shares of."""
    return np.asarray([ABSOLUTE_SIDE, ABSOLUTE_SIDE] if layout.absolute else [padded[1], padded[0]])


def tokens_to_boxes(tokens: np.ndarray, layout: Layout, padded: tuple[int, int]) -> np.ndarray:
    """(4,) tokens -> (4,) float64 xyxy in canvas pixels, as the tokens say: corners may stand in any order."""
    return dequantise(tokens, np.tile(_sides(layout, padded), 2), layout.bins)


def tokens_to_points(tokens: np.ndarray, layout: Layout, padded: tuple[int, int]) -> np.ndarray:
    """(n,) tokens before the end -> (n // 2, 2) float64 vertices in canvas pixels; an odd last token is left out."""
    pairs = tokens[: len(tokens) // 2 * 2].reshape(-1, 2)
    return dequantise(pairs, _sides(layout, padded), layout.bins)


def draw_polygon(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(n, 2) vertices -> (H, W) uint8 mask; fewer than three vertices enclose nothing.

    Upstream reads two vertices as left, top, width and height of a box.
    """
    if len(points) < 3:
        return np.zeros(size, np.uint8)
    return decode_segmentation([points.reshape(-1).tolist()], size)


def decode_sequences(outputs: Mapping[str, np.ndarray], batch: Batch, layout: Layout) -> list[Prediction]:
    """One prediction for each real sample.

    The score is the product of the probabilities of the box's tokens, or of the contour's up to its end. A contour is
    drawn in original pixels; `extras["polygon"]` (n, 2) holds it there, before it is drawn. Without a box of its own
    the box is that of the mask. `extras["token_probabilities"]` holds those of the tokens of `box` and of `contour`.

    Args:
        outputs: as `generate.generate` gives them.
    """
    found = []
    for index in range(batch.count):
        geometry, sample = batch.geometries[index], batch.samples[index]
        padded = padded_size(geometry)
        likely_tokens: dict[str, np.ndarray] = {}
        extras: dict[str, object] = {"token_probabilities": likely_tokens}
        boxes, scores, masks = np.zeros((1, 4), np.float32), np.ones(1), ()
        if layout.task != "box":
            tokens, likely = outputs["mask_tokens"][index], outputs["mask_probabilities"][index]
            count = before_end(tokens[None], layout.end)[0]
            points = tokens_to_points(tokens[:count], layout, padded)
            corners = np.concatenate([points, points], 1)
            polygon = geometry.boxes_to_original(corners, clip=False)[:, :2] if len(points) else points
            mask = draw_polygon(polygon, geometry.original_size)
            masks, boxes = (encode_mask(mask),), mask_box(mask)[None]
            likely_tokens["contour"] = likely[: count + 1]
            scores = np.asarray([likely[: count + 1].astype(np.float64).prod()])
            extras["polygon"] = polygon.astype(np.float32)
            if "mask" in batch.arrays:
                truth = batch.arrays["mask"][index, 0, : padded[0], : padded[1]] > 0
                drawn = draw_polygon(points, padded) > 0
                extras["canvas_area"] = int(drawn.sum())
                extras["canvas_iou_counts"] = (int((drawn & truth).sum()), int((drawn | truth).sum()))
        if layout.task == "contour":
            extras["boxes_from_masks"] = True
        else:
            box = tokens_to_boxes(outputs["box_tokens"][index], layout, padded)
            box = np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])
            boxes = geometry.boxes_to_original(box)
            likely_tokens["box"] = outputs["box_probabilities"][index]
            scores = np.asarray([likely_tokens["box"].astype(np.float64).prod()])
        found.append(
            Prediction(geometry.original_size, boxes, scores, masks=masks, expression=sample.expression, extras=extras)
        )
    return found
