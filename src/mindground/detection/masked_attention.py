"""Decoder layers whose queries look only where their own mask of the layer before is (Cheng et al. 2022)."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.detection.deformable import xavier_normal
from mindground.detection.pixel_decoder import feed_forward
from mindground.nn import init
from mindground.nn.attention import Attention
from mindground.nn.linear import Linear, affine_kernel
from mindground.nn.norm import LayerNorm
from mindground.nn.resize import resize_maps

__all__ = ["MaskedDecoderLayer", "attention_bias", "blocked_positions"]

# Added to a score; its exponential is 0 beside any other.
_NEVER = -1e9


class _PackedCross(nn.Cell):
    """Multi-head attention; `in_proj_weight` (3C, C) has the rows of q, k, v in this order."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.width = width
        self.in_proj_weight = init.parameter(init.xavier_uniform((3 * width, width)), "in_proj_weight")
        self.in_proj_bias = init.parameter(init.constant((3 * width,)), "in_proj_bias")
        self.out_proj = Linear(width, width, start="xavier_uniform")
        self.attention = Attention(heads, width // heads)
        self.project = affine_kernel()

    def _projected(self, x: ms.Tensor, part: int) -> ms.Tensor:
        low, high = part * self.width, (part + 1) * self.width
        rows = self.project(x.reshape((-1, self.width)), self.in_proj_weight[low:high], self.in_proj_bias[low:high])
        return rows.reshape(x.shape)

    def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor | None = None) -> ms.Tensor:
        """q (B, N, C), k and v (B, M, C), bias (B, 1, N, M) or None -> (B, N, C)."""
        return self.out_proj(self.attention(self._projected(q, 0), self._projected(k, 1), self._projected(v, 2), bias))


class MaskedDecoderLayer(nn.Cell):
    """Attention to a memory inside a mask, among queries, and a feed-forward part; a norm after each.

    Args:
        width: C.
        heads: number of heads.
        hidden: width inside the feed-forward part.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.cross_attn = _PackedCross(width, heads)
        self.self_attn = _PackedCross(width, heads)
        self.ffn = feed_forward(width, hidden)
        self.norms = nn.CellList([LayerNorm(width, 1e-5) for _ in range(3)])
        xavier_normal(self)

    def construct(
        self, x: ms.Tensor, position: ms.Tensor, memory: ms.Tensor, placed: ms.Tensor, bias: ms.Tensor
    ) -> ms.Tensor:
        """Queries (B, N, C).

        Args:
            position: (B, N, C) of the queries; keys and queries get positions, values none.
            memory: (B, M, C).
            placed: (B, M, C), the memory with its positions.
            bias: (B, 1, N, M) of `attention_bias`.

        Returns:
            (B, N, C).
        """
        x = self.norms[0](x + self.cross_attn(x + position, placed, memory, bias))
        with_place = x + position
        x = self.norms[1](x + self.self_attn(with_place, with_place, x))
        return self.norms[2](x + self.ffn(x))


def blocked_positions(masks: ms.Tensor, size: tuple[int, int]) -> ms.Tensor:
    """Mask logits (B, N, h, w) -> (B, N, H * W) float32: 1 where a query may not look, without a gradient.

    The logits are resized to (H, W); a position is blocked where its probability is below 0.5.
    """
    batch, count = masks.shape[0], masks.shape[1]
    resized = resize_maps(ops.stop_gradient(masks), size).reshape((batch, count, -1))
    return ops.cast(resized < 0.0, ms.float32)


def attention_bias(blocked: ms.Tensor) -> ms.Tensor:
    """(B, N, M) of 0 and 1 -> what is added to scores, (B, 1, N, M). A query with nothing open may look everywhere."""
    count = blocked.shape[2]
    closed = ops.cast(blocked.sum(2, keepdims=True) > count - 0.5, ms.float32)
    return (blocked * ops.broadcast_to(1.0 - closed, blocked.shape) * _NEVER).expand_dims(1)
