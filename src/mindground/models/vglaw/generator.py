"""From an expression's token features to one small weight per ViT block (paper section 3.2)."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.activations import Gelu
from mindground.nn.linear import Linear
from mindground.nn.norm import LayerNorm

__all__ = ["WeightGenerator"]

_MASKED = -1e9  # underflows to exactly 0 after softmax in float32 and keeps all-padding rows finite


class WeightGenerator(nn.Cell):
    """Aggregates tokens once per adapted block and projects each aggregate to that block's weight.

    Args:
        sizes: numbers generated for each adapted block (K*K for svd).
        text_dim: width T of the token features; `heads` and 16 divide it.
        heads: heads of the aggregation, which has no projections of its own.
        norm_eps: of the LayerNorm between the two projections (published code: 1e-7).
        use_activation: a ReLU after the last projection.
        neutral: bias that leaves the block unchanged (0 for svd, 1 for scales); the last
            projection starts with zero weights and this bias, so training starts at plain ViTDet.
        last_std: when above 0, the last projection's weights start as normal noise instead.
    """

    def __init__(
        self,
        sizes: list[int],
        text_dim: int,
        heads: int,
        norm_eps: float = 1e-7,
        use_activation: bool = False,
        neutral: float = 0.0,
        last_std: float = 0.0,
    ) -> None:
        super().__init__()
        if text_dim % heads or text_dim % 16:
            raise ValueError(f"text_dim={text_dim} must be a multiple of heads={heads} and of 16")
        self.layers, self.heads, self.head_dim = len(sizes), heads, text_dim // heads
        inner = text_dim // 16
        queries = init.kaiming_uniform((self.layers, 1, text_dim), text_dim)
        self.layer_embedding = init.parameter(queries, "layer_embedding")
        self.proj = nn.CellList()
        for size in sizes:
            last = Linear(inner, size, start="zeros")
            if last_std:
                last.weight.set_data(init.normal((size, inner), last_std))
            last.bias.set_data(init.constant((size,), neutral))
            first = Linear(text_dim, inner, start="kaiming_uniform")
            parts = [first, LayerNorm(inner, norm_eps), Gelu(), last]
            self.proj.append(nn.SequentialCell(parts + [nn.ReLU()] if use_activation else parts))

    def aggregate(self, text_feat: ms.Tensor, token_mask: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """(B, L, T) features, (B, L) mask of real tokens -> (layers, B, T) and attention (B, heads, layers, L)."""
        batch, length, width = text_feat.shape
        keys = text_feat.reshape(batch, length, self.heads, self.head_dim).transpose(0, 2, 1, 3)
        queries = self.layer_embedding.reshape(1, self.layers, self.heads, self.head_dim).transpose(0, 2, 1, 3)
        queries = ops.broadcast_to(queries * self.head_dim**-0.5, (batch, self.heads, self.layers, self.head_dim))
        scores = ops.matmul(queries, keys.transpose(0, 1, 3, 2))
        padding = (1.0 - token_mask.astype(text_feat.dtype)) * _MASKED
        scores = scores + ops.broadcast_to(padding.reshape(batch, 1, 1, length), scores.shape)
        attention = ops.softmax(scores, -1)
        heads = ops.matmul(attention, keys)  # (B, heads, layers, T / heads)
        return heads.transpose(2, 0, 1, 3).reshape(self.layers, batch, width), attention

    def construct(self, text_feat: ms.Tensor, token_mask: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """-> one (B, size) tensor for each adapted block, in block order."""
        aggregated, _ = self.aggregate(text_feat, token_mask)
        parts = ops.unbind(aggregated, 0)
        weights = ()
        for i in range(self.layers):
            weights = weights + (self.proj[i](parts[i]),)
        return weights
