"""What a network answers to prompts that follow from the truth: one point, one box, clicks that correct.

The first click is the point deepest inside the object, each further one the deepest point of what is wrong; the mask of
the answer before is given with it. This is how interactive segmentation is measured, and nothing of it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mindground.models.sam.ask import ask, prompt_tokens

if TYPE_CHECKING:
    from mindground.models.base import Run
    from mindground.models.sam.network import Sam

__all__ = ["CLICKS", "deepest_point", "next_click", "prompted_masks"]

CLICKS = 3


def deepest_point(region: np.ndarray) -> tuple[tuple[int, int], float]:
    """(x, y) of the pixel of a region (H, W) that is furthest from its edge, and the distance in pixels."""
    padded = np.pad(np.asarray(region, np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = divmod(int(distance.argmax()), distance.shape[1])
    return (column, row), float(distance[row, column])


def next_click(found: np.ndarray, truth: np.ndarray) -> tuple[tuple[int, int], int]:
    """(x, y) of the deepest point of what is wrong, and its label: 1 where the object was missed, 0 where it is not."""
    missed, deep = deepest_point(truth & ~found)
    added, height = deepest_point(found & ~truth)
    return (missed, 1) if deep >= height else (added, 0)


def _iou(found: np.ndarray, truth: np.ndarray) -> float:
    union = int((found | truth).sum())
    return int((found & truth).sum()) / union if union else 0.0


def _resized(logits: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(logits, (side, side), interpolation=cv2.INTER_LINEAR)


def _best(logits: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Of the three masks of every prompt the one that is expected to fit best: (P, 4, h, w) -> (P, h, w)."""
    return logits[np.arange(len(logits)), 1 + expected[:, 1:].argmax(1)]


def prompted_masks(model: Sam, run: Run, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Answers about the objects of a batch, and their IoU on the canvas.

    Args:
        arrays: what `targets.encode_prompts` makes, and the image or its embedding.

    Returns:
        `prompt_logits` (B, Q, 4g, 4g) and `prompt_expected` (B, Q) of the single masks that boxes gave; `prompt_iou`
        (B, Q, 4): by one point (best of three), by one box, after three clicks, and of the box itself as mask; NaN for
        objects that do not count.
    """
    (found,) = run.features("image", arrays)
    embeddings = found.asnumpy()
    masks, boxes, counted = arrays["prompt_masks"], arrays["prompt_boxes"], arrays["prompt_new"]
    count, objects, side = masks.shape[:3]
    cells = 4 * embeddings.shape[2]
    logits = np.full((count, objects, cells, cells), -1.0, np.float32)
    expected = np.zeros((count, objects), np.float32)
    scores = np.full((count, objects, 4), np.nan, np.float32)
    for index in range(count):
        kept = np.flatnonzero(counted[index] > 0)
        if len(kept) == 0:
            continue
        truth = masks[index, kept] > 0
        given = boxes[index, kept]
        own = embeddings[index : index + 1]
        low, iou = ask(run, own, *prompt_tokens(None, None, given))
        logits[index, kept], expected[index, kept] = low[:, 0], iou[:, 0]
        scores[index, kept, 1] = [_iou(_resized(a, side) > 0, b) for a, b in zip(low[:, 0], truth, strict=True)]
        scores[index, kept, 3] = [_iou(_box_mask(a, side), b) for a, b in zip(given, truth, strict=True)]
        scores[index, kept, 0], scores[index, kept, 2] = _by_clicks(run, own, truth, side)
    return {"prompt_logits": logits, "prompt_expected": expected, "prompt_iou": scores}


def _box_mask(box: np.ndarray, side: int) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    left, top, right, bottom = np.rint(box).astype(int)
    mask[top:bottom, left:right] = True
    return mask


def _by_clicks(run: Run, embedding: Any, truth: np.ndarray, side: int) -> tuple[list[float], list[float]]:
    """IoU of every object by one point, the best of three masks, and by the single mask after all clicks."""
    places = np.asarray([deepest_point(mask)[0] for mask in truth], np.float32)[:, None]
    labels = np.ones((len(truth), 1), np.int32)
    earlier: np.ndarray | None = None
    first: list[float] = []
    found = np.zeros(truth.shape, bool)
    for number in range(CLICKS):
        if number:
            clicks = [next_click(a, b) for a, b in zip(found, truth, strict=True)]
            places = np.concatenate([places, np.asarray([c[0] for c in clicks], np.float32)[:, None]], 1)
            labels = np.concatenate([labels, np.asarray([[c[1]] for c in clicks], np.int32)], 1)
        low, iou = ask(run, embedding, *prompt_tokens(places, labels, None), earlier)
        earlier = low[:, :1]
        found = np.stack([_resized(mask, side) > 0 for mask in low[:, 0]])
        if number == 0:
            chosen = _best(low, iou)
            first = [_iou(_resized(a, side) > 0, b) for a, b in zip(chosen, truth, strict=True)]
    return first, [_iou(a, b) for a, b in zip(found, truth, strict=True)]
