"""Queries to objects, each to one at most, at the least cost in all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

__all__ = ["Costs", "Matched", "match_queries", "matching_costs"]

# In place of a cost that is not finite: worse than any other, and still a number.
_WORST = np.float32(1e8)


class Costs(NamedTuple):
    """(Q, G) float32 each: of classes, of masks by cross entropy, of masks by dice."""

    classes: np.ndarray
    masks: np.ndarray
    dice: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Their sum."""
        return self.classes + self.masks + self.dice


class Matched(NamedTuple):
    """Indexes of K queries, rising, and of their objects, int64."""

    queries: np.ndarray
    objects: np.ndarray


def matching_costs(
    logits: np.ndarray,
    points: np.ndarray,
    truth: np.ndarray,
    labels: np.ndarray,
    class_weight: float = 2.0,
    mask_weight: float = 5.0,
    dice_weight: float = 5.0,
) -> Costs:
    """What it costs to match a query to an object.

    Args:
        logits: (Q, C + 1) class logits; the last is "no object".
        points: (Q, P) mask logits at the points of the image.
        truth: (G, P) of the objects at the same points, in [0, 1].
        labels: (G,) from 0.
    """
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    kind = -np.float32(class_weight) * (shifted / shifted.sum(1, keepdims=True))[:, labels]
    number = np.float32(max(points.shape[1], 1))
    # -log p and -log(1 - p) of every point, exact for any logit.
    tail = np.log1p(np.exp(-np.abs(points)))
    missed, extra = np.maximum(-points, 0) + tail, np.maximum(points, 0) + tail
    entropy = (missed @ truth.T + extra @ (1 - truth).T) / number
    with np.errstate(over="ignore"):
        probability = 1 / (1 + np.exp(-points))
    overlap = 2 * (probability @ truth.T) + 1
    dice = 1 - overlap / (probability.sum(1)[:, None] + truth.sum(1)[None] + 1)
    return Costs(kind, np.float32(mask_weight) * entropy, np.float32(dice_weight) * dice)


def match_queries(total: np.ndarray) -> Matched:
    """Assignment of the least cost (Kuhn 1955, by SciPy).

    With more objects than queries, every query gets an object and the dearest objects get none.

    Args:
        total: (Q, G) costs; what is not finite counts as very dear.
    """
    if not total.size:
        return Matched(np.zeros(0, np.int64), np.zeros(0, np.int64))
    costs = np.where(np.isfinite(total), total, _WORST)
    rows, columns = linear_sum_assignment(costs)
    return Matched(rows.astype(np.int64), columns.astype(np.int64))
