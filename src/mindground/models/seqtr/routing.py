"""Bi-level routing attention (Zhu et al., BiFormer, arXiv 2303.08810): a region looks at the regions most like it.

It stands in MSAM's repository and no configuration there uses it; neither does any of ours. It is kept for networks
that are built on that code.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.conv import Conv2d

__all__ = ["RoutingAttention"]


class RoutingAttention(nn.Cell):
    """Attention of every region's pixels to the pixels of `topk` regions.

    Args:
        width: C.
        heads: number of heads.
        regions: regions along each side; it divides the sides of a map.
        topk: regions that are looked at.
    """

    def __init__(self, width: int, heads: int, regions: int, topk: int) -> None:
        super().__init__()
        self.heads, self.regions, self.topk = heads, regions, topk
        # By the width of all heads, as published.
        self.scale = width**-0.5
        self.qkv_linear = Conv2d(width, 3 * width)
        self.output_linear = Conv2d(width, width)
        self.lepe = Conv2d(width, width, 3, padding=1, groups=width)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> the same shape.

        Raises:
            ValueError: `regions` does not divide the sides.
        """
        batch, width, height, columns = x.shape
        side, count = self.regions, self.regions * self.regions
        if height % side != 0 or columns % side != 0:
            raise ValueError("the number of regions does not divide the map")
        rows, across = height // side, columns // side
        q, k, v = ops.split(self.qkv_linear(x), width, 1)
        q_seq, k_seq, v_seq = self._regions(q), self._regions(k), self._regions(v)
        # The choice of regions has no gradient.
        likeness = ops.bmm(ops.stop_gradient(q_seq).mean(2), ops.transpose(ops.stop_gradient(k_seq).mean(2), (0, 2, 1)))
        chosen = ops.topk(likeness, self.topk)[1]
        offsets = ops.broadcast_to(
            (ops.arange(batch) * count).reshape((batch, 1, 1)).astype(chosen.dtype), chosen.shape
        )
        index = (chosen + offsets).reshape(-1)
        pixels, head = rows * across, width // self.heads
        queries = ops.transpose(q_seq.reshape((batch * count, pixels, self.heads, head)), (0, 2, 1, 3))
        keys, values = self._gathered(k_seq, index, batch * count), self._gathered(v_seq, index, batch * count)
        shape = (batch * count * self.heads, -1, head)
        scores = ops.bmm(queries.reshape(shape) * self.scale, ops.transpose(keys.reshape(shape), (0, 2, 1)))
        found = ops.bmm(ops.softmax(scores, -1), values.reshape(shape))
        found = found.reshape((batch, side, side, self.heads, rows, across, head))
        found = ops.transpose(found, (0, 3, 6, 1, 4, 2, 5)).reshape((batch, width, height, columns))
        return self.output_linear(found + self.lepe(v))

    def _regions(self, x: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> (B, regions, pixels, C)."""
        batch, width, height, columns = x.shape
        side = self.regions
        split = x.reshape((batch, width, side, height // side, side, columns // side))
        return ops.transpose(split, (0, 2, 4, 3, 5, 1)).reshape((batch, side * side, -1, width))

    def _gathered(self, x: ms.Tensor, index: ms.Tensor, groups: int) -> ms.Tensor:
        """Pixels of the chosen regions by heads: (groups, heads, topk * pixels, d)."""
        _, _, pixels, width = x.shape
        rows = ops.gather(x.reshape((groups, pixels * width)), index, 0)
        rows = rows.reshape((groups, self.topk * pixels, self.heads, width // self.heads))
        return ops.transpose(rows, (0, 2, 1, 3))
