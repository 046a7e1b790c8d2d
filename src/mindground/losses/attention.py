"""A loss on attention maps."""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import ops

from mindground.losses.boxes import corners

__all__ = ["attention_loss"]


def attention_loss(attention: ms.Tensor, boxes: ms.Tensor) -> ms.Tensor:
    """-log of the fraction of attention inside the true box, averaged over B.

    This loss is ours and appears in no paper. It helps training from random weights: a pooled feature tells the
    position of the referent only if its attention covers it, and the box losses alone need long to reach that.

    Args:
        attention: (B, G*G), rows sum to 1, over a square grid in row-major order.
        boxes: (B, 4) truth, cxcywh in [0, 1]; a cell counts by the fraction of it that the box covers.
    """
    batch, cells = attention.shape
    side = math.isqrt(cells)
    left, top, right, bottom = corners(boxes)
    edges = ops.arange(side).astype(attention.dtype).reshape(1, side) * (1.0 / side)
    edges = ops.broadcast_to(edges, (batch, side))

    def covered(low: ms.Tensor, high: ms.Tensor) -> ms.Tensor:
        low = ops.maximum(ops.broadcast_to(low.reshape(batch, 1), edges.shape), edges)
        high = ops.minimum(ops.broadcast_to(high.reshape(batch, 1), edges.shape), edges + 1.0 / side)
        return ops.relu(high - low) * float(side)

    cover = ops.bmm(covered(top, bottom).reshape(batch, side, 1), covered(left, right).reshape(batch, 1, side))
    return -ops.log((attention * cover.reshape(batch, cells)).sum(1) + 1e-6).mean()
