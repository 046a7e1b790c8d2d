"""Losses of detectors and of models that match queries to objects.

Every mean has a normaliser as an input, a scalar tensor: how many entries count is known on the host, where it may be a
mean over ranks. Entries that fill up a fixed shape have weight 0.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

__all__ = ["EPSILON", "binary_cross_entropy", "point_dice_loss", "smooth_l1", "weighted_cross_entropy"]

EPSILON = 1.1920929e-07
"""Is added to every normaliser, as published detectors do."""


def weighted_cross_entropy(
    logits: ms.Tensor,
    labels: ms.Tensor,
    weights: ms.Tensor,
    normaliser: ms.Tensor,
    class_weights: ms.Tensor | None = None,
) -> ms.Tensor:
    """Sum of w -log softmax(logits)[label], by the normaliser.

    Args:
        logits: (N, C).
        labels: (N,) int32.
        weights: (N,) of every entry.
        class_weights: (C,), multiplied to the weight of an entry by its label.
    """
    right = ops.one_hot(labels, logits.shape[1], ms.Tensor(1.0, ms.float32), ms.Tensor(0.0, ms.float32))
    losses = -(ops.log_softmax(logits, -1) * right).sum(1)
    if class_weights is not None:
        weights = weights * ops.matmul(right, class_weights.reshape((-1, 1))).reshape((-1,))
    return (losses * weights).sum() / (normaliser + EPSILON)


def binary_cross_entropy(logits: ms.Tensor, targets: ms.Tensor) -> ms.Tensor:
    """-(t log p + (1 - t) log(1 - p)) with p = sigmoid(logits), entry by entry; exact for any logit."""
    return ops.relu(logits) - logits * targets + ops.log(ops.exp(-ops.abs(logits)) + 1.0)


def smooth_l1(values: ms.Tensor, targets: ms.Tensor, beta: float = 1.0) -> ms.Tensor:
    """d^2 / (2 beta) for |d| < beta, |d| - beta / 2 beyond, entry by entry (Girshick 2015, eq. 3)."""
    distance = ops.abs(values - targets)
    # min(d, beta)^2 / (2 beta) + max(d - beta, 0): the same function without a choice.
    beyond = ops.relu(distance - beta)
    near = distance - beyond
    return ops.square(near) * (0.5 / beta) + beyond


def point_dice_loss(logits: ms.Tensor, targets: ms.Tensor, weights: ms.Tensor, normaliser: ms.Tensor) -> ms.Tensor:
    """Sum over masks of w (1 - (2 sum(p t) + 1) / (sum p + sum t + 1)), by the normaliser.

    Args:
        logits, targets: (M, P) at the points of every mask.
        weights: (M,).
    """
    probability = ops.sigmoid(logits)
    overlap = (probability * targets).sum(1) * 2.0 + 1.0
    total = probability.sum(1) + targets.sum(1) + 1.0
    return ((1.0 - overlap / total) * weights).sum() / (normaliser + EPSILON)
