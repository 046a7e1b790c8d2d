"""Cross-entropy over tokens with smoothed labels, each place with its own weight."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import ops

from mindground.models.seqtr.sequences import Layout

__all__ = ["place_weights", "smoothed_cross_entropy"]


def place_weights(layout: Layout, det_coord: tuple[int, ...], det_coord_weight: float) -> np.ndarray:
    """(N,) float32: `det_coord_weight` for the named places of a box (0 = left, 4 = its end), 1 for all others."""
    weights = np.ones(layout.length, np.float32)
    if layout.task != "contour":
        for place in det_coord:
            weights[place] = det_coord_weight
    return weights


def smoothed_cross_entropy(
    logits: ms.Tensor, target: ms.Tensor, weights: ms.Tensor, smoothing: float, end_weight: float = 1.0
) -> ms.Tensor:
    """Mean over all places of weight times -sum(t log p), with t = 1 - a at the label and a / C elsewhere.

    Args:
        logits: (B, N, C) float32; class C - 1 is the end.
        target: (B, N) int32.
        weights: (N,).
        smoothing: a.
        end_weight: further weight of places whose label is the end.
    """
    batch, count, classes = logits.shape
    surprise = -ops.log_softmax(logits, -1).reshape((batch * count, classes))
    right = ops.one_hot(target.reshape(-1), classes, ms.Tensor(1.0, ms.float32), ms.Tensor(0.0, ms.float32))
    ones = ops.ones((classes, 1), logits.dtype)
    wanted = right * (1.0 - smoothing - smoothing / classes) + smoothing / classes
    loss = ops.matmul(surprise * wanted, ones).reshape((batch, count))
    spread = ops.broadcast_to(weights.expand_dims(0), loss.shape)
    if end_weight != 1.0:
        ends = (target == classes - 1).astype(loss.dtype)
        spread = spread * (1.0 - ends * (1.0 - end_weight))
    return (loss * spread).sum() / (batch * count)
