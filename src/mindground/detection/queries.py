"""From queries with masks to instances of an image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mindground.nn.resize import linear_matrix
from mindground.structures import mask_box

__all__ = ["QueryInstances", "best_pairs", "probability_on_image", "query_instances", "resize_canvas_mask"]


class QueryInstances(NamedTuple):
    """Of one image, by falling class score.

    Attributes:
        masks: (K, H, W) bool in the original image.
        scores: (K,) class score times mean probability inside the mask.
        class_scores: (K,).
        labels: (K,) int64 from 0.
        queries: (K,) int64.
        boxes: (K, 4) tight boxes of the masks; zeros for an empty mask.
    """

    masks: np.ndarray
    scores: np.ndarray
    class_scores: np.ndarray
    labels: np.ndarray
    queries: np.ndarray
    boxes: np.ndarray


def best_pairs(logits: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, queries and labels of the best pairs of query and class; a query may appear under several classes.

    Args:
        logits: (Q, C + 1); the last is "no object".
        limit: number of pairs.
    """
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    scores = (shifted / shifted.sum(1, keepdims=True))[:, :-1]
    order = np.argsort(-scores, axis=None, kind="stable")[:limit]
    queries, labels = np.divmod(order, scores.shape[1])
    return scores.reshape(-1)[order].astype(np.float32), queries, labels


def resize_canvas_mask(values: np.ndarray, inside: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Values (h, w) on a padded canvas -> (H, W) float32 of the original image, bilinear.

    Args:
        inside: (height, width) of the image on the canvas, without padding.
        size: (H, W).
    """
    part = values[: inside[0], : inside[1]].astype(np.float32)
    return linear_matrix(part.shape[0], size[0]) @ part @ linear_matrix(part.shape[1], size[1]).T


def probability_on_image(
    logits: np.ndarray, canvas: tuple[int, int], inside: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Probabilities (H, W) float32 of one mask: logits (h, w) become probabilities before they are resized.

    Args:
        canvas: (height, width) that the logits cover, padding included.
        inside, size: see `resize_canvas_mask`.
    """
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-logits.astype(np.float32)))
    return resize_canvas_mask(resize_canvas_mask(probability, (logits.shape[0], logits.shape[1]), canvas), inside, size)


def query_instances(
    logits: np.ndarray, masks: np.ndarray, inside: tuple[int, int], size: tuple[int, int], limit: int
) -> QueryInstances:
    """Instances of one image.

    Args:
        logits: (Q, C + 1) class logits.
        masks: (Q, S, S) mask logits on the canvas.
        inside: (height, width) of the image on the canvas, without padding.
        size: (height, width) of the original image.
        limit: K, fewer if there are fewer pairs.
    """
    class_scores, queries, labels = best_pairs(logits, limit)
    found, scores, boxes = [], [], []
    resized: dict[int, np.ndarray] = {}
    for query, score in zip(queries.tolist(), class_scores, strict=True):
        if query not in resized:
            resized[query] = resize_canvas_mask(masks[query], inside, size)
        values = resized[query]
        mask = values > 0
        probability = 1 / (1 + np.exp(-values[mask]))
        scores.append(float(score * (probability.sum(dtype=np.float32) / np.float32(mask.sum() + 1e-6))))
        found.append(mask)
        boxes.append(mask_box(mask))
    stacked = np.stack(found) if found else np.zeros((0, *size), bool)
    return QueryInstances(
        stacked, np.asarray(scores, np.float32), class_scores, labels, queries, np.asarray(boxes).reshape(-1, 4)
    )
