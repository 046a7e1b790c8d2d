"""Self-attention whose three projections lie in one matrix, laid out as PyTorch's MultiheadAttention."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.attention import Attention, merge_heads, split_heads
from mindground.nn.linear import Linear, affine_kernel

__all__ = ["PackedAttention"]


class PackedAttention(nn.Cell):
    """Multi-head self-attention; parameters `in_proj_weight` (3C, C), `in_proj_bias` (3C), `out_proj`.

    The rows of the packed matrix are those of q, k and v, in this order.

    Args:
        width: C.
        heads: number of heads.
        dropout: rate on the probabilities, in training only.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.width = width
        self.in_proj_weight = init.parameter(init.xavier_uniform((3 * width, width)), "in_proj_weight")
        self.in_proj_bias = init.parameter(init.constant((3 * width,)), "in_proj_bias")
        self.out_proj = Linear(width, width, start="xavier_uniform")
        self.attention = Attention(heads, width // heads, dropout)
        self.project = affine_kernel()
        self.scale = (width // heads) ** -0.5
        self.product = ops.BatchMatMul()
        self.product_nt = ops.BatchMatMul(transpose_b=True)

    def _projected(self, x: ms.Tensor, first: int, count: int) -> ms.Tensor:
        """x (B, N, C) through `count` of the three projections, starting with `first`: (B, N, count * C)."""
        low, high = first * self.width, (first + count) * self.width
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if count < 3:
            weight, bias = weight[low:high], bias[low:high]
        rows = self.project(x.reshape((-1, self.width)), weight, bias)
        return rows.reshape((x.shape[0], x.shape[1], count * self.width))

    def construct(self, x: ms.Tensor, bias: ms.Tensor | None = None) -> ms.Tensor:
        """x (B, N, C), additive bias (B or 1, 1 or heads, 1 or N, N) -> (B, N, C)."""
        q, k, v = ops.split(self._projected(x, 0, 3), self.width, -1)
        return self.out_proj(self.attention(q, k, v, bias))

    def with_positions(self, x: ms.Tensor, placed: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        """Attention as in DETR: queries and keys from `placed` (x plus positions), values from x."""
        q, k = ops.split(self._projected(placed, 0, 2), self.width, -1)
        return self.out_proj(self.attention(q, k, self._projected(x, 2, 1), bias))

    def first_with_positions(self, x: ms.Tensor, placed: ms.Tensor, bias: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """The first row alone of what `with_positions` gives, and where it looked.

        Args:
            bias: (B, 1, 1, N).

        Returns:
            (B, 1, C), and the probabilities (B, N), averaged over heads.
        """
        batch, count = x.shape[0], x.shape[1]
        heads = self.attention.heads
        q = split_heads(self._projected(placed[:, :1], 0, 1), heads)
        k, v = split_heads(self._projected(placed, 1, 1), heads), split_heads(self._projected(x, 2, 1), heads)
        bias = ops.broadcast_to(bias, (batch, heads, 1, count)).reshape(batch * heads, 1, count)
        # One row per head: nothing here is large enough to be worth a gradient of its own.
        probabilities = ops.softmax(self.product_nt(q * self.scale, k) + bias, -1)
        out = merge_heads(self.product(self.attention.dropout(probabilities), v), heads)
        return self.out_proj(out), probabilities.reshape(batch, heads, count).mean(1)
