"""Self-attention whose three projections form one matrix, as in PyTorch's MultiheadAttention."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.attention import Attention
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

    def _projected_once(self, x: ms.Tensor, first: int, count: int, shared: int) -> ms.Tensor:
        """`_projected`, but the last `shared` tokens, equal in every sample, are projected for the first one only."""
        batch, own = x.shape[0], x.shape[1] - shared
        # Whole rows of the flattened tensor: x[:1, own:] is copied element by element on a CPU.
        rows = x.reshape((-1, self.width))[own : own + shared]
        common = self._projected(rows.expand_dims(0), first, count)
        common = ops.broadcast_to(common, (batch, shared, count * self.width))
        return ops.concat((self._projected(x[:, :own], first, count), common), 1)

    def with_positions(self, x: ms.Tensor, placed: ms.Tensor, bias: ms.Tensor, shared: int = 0) -> ms.Tensor:
        """Attention as in DETR: queries and keys from `placed` (x plus positions), values from x.

        Args:
            bias: (B or 1, 1 or heads, 1 or N, N).
            shared: number of tokens at the end that are equal in every sample; they are projected once.
        """
        if shared > 0:
            placed, values = self._projected_once(placed, 0, 2, shared), self._projected_once(x, 2, 1, shared)
        else:
            placed, values = self._projected(placed, 0, 2), self._projected(x, 2, 1)
        q, k = ops.split(placed, self.width, -1)
        return self.out_proj(self.attention(q, k, values, bias))

    def first_with_positions(self, x: ms.Tensor, placed: ms.Tensor, bias: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """The first token of `with_positions`, and the attention of its query.

        One query needs no keys and values of N tokens: q (W x) = (q W) x, and the sum of p (W x) is W times the sum of
        p x. The bias of the keys adds the same value to all logits of a head, which softmax ignores.

        Args:
            bias: (B, 1, 1, N).

        Returns:
            (B, 1, C), and the probabilities (B, N), averaged over heads.
        """
        batch, count, heads, width = x.shape[0], x.shape[1], self.attention.heads, self.width
        q_weight, k_weight, v_weight = ops.split(self.in_proj_weight, width, 0)
        q_bias, _, v_bias = ops.split(self.in_proj_bias, width, 0)
        by_head = (heads, width // heads, width)
        q = self.project(placed[:, 0], q_weight, q_bias) * self.scale
        q = ops.transpose(q.reshape(batch, heads, width // heads), (1, 0, 2))
        projected = ops.transpose(self.product(q, k_weight.reshape(by_head)), (1, 0, 2))  # (B, heads, C)
        bias = ops.broadcast_to(bias.reshape(batch, 1, count), (batch, heads, count))
        probabilities = ops.softmax(self.product_nt(projected, placed) + bias, -1)
        kept = self.attention.dropout(probabilities)
        attended = ops.transpose(self.product(kept, x), (1, 0, 2))  # (heads, B, C)
        values = ops.transpose(self.product_nt(attended, v_weight.reshape(by_head)), (1, 0, 2)).reshape(batch, width)
        # After dropout the probabilities do not sum to 1, so the bias of the values is scaled by their sum.
        total = kept.sum(-1).expand_dims(-1)
        offset = ops.broadcast_to(total, (batch, heads, width // heads)).reshape(batch, width)
        values = values + offset * ops.broadcast_to(v_bias.expand_dims(0), (batch, width))
        return self.out_proj(values.expand_dims(1)), probabilities.mean(1)
