"""The joint encoder of CLIP-VG: [REG] + words + image, post-norm layers as in DETR (paper, section 3.3)."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.linear import Linear
from mindground.nn.noise import Dropout
from mindground.nn.norm import LayerNorm
from mindground.nn.packed_attention import PackedAttention

__all__ = ["JointEncoder", "JointLayer"]

_EPS = 1e-5


class JointLayer(nn.Cell):
    """Self-attention and feed-forward, each followed by its norm; positions enter queries and keys, not values.

    Args:
        width, heads, hidden: dimensions.
        dropout: rate on attention probabilities, inside and after the feed-forward half, and after attention.
        norm_first: the form with norms before the two halves, which upstream offers and does not use.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, norm_first: bool = False) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.self_attn = PackedAttention(width, heads, dropout)
        self.linear1 = Linear(width, hidden, start="xavier_uniform")
        self.linear2 = Linear(hidden, width, start="xavier_uniform")
        for layer in (self.linear1, self.linear2):
            layer.bias.set_data(init.kaiming_uniform(layer.bias.shape, layer.in_features))
        self.norm1 = LayerNorm(width, _EPS)
        self.norm2 = LayerNorm(width, _EPS)
        self.dropout = Dropout(dropout)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)

    def _feed(self, x: ms.Tensor) -> ms.Tensor:
        return self.dropout2(self.linear2(self.dropout(ops.relu(self.linear1(x)))))

    def construct(self, x: ms.Tensor, positions: ms.Tensor, bias: ms.Tensor, shared: int = 0) -> ms.Tensor:
        """x and positions (B, N, C), additive key bias (B, 1, 1, N) -> (B, N, C).

        The last `shared` rows of x are the same in every sample.
        """
        if self.norm_first:
            inner = self.norm1(x)
            x = x + self.dropout1(self.self_attn.with_positions(inner, inner + positions, bias, shared))
            return x + self._feed(self.norm2(x))
        x = self.norm1(x + self.dropout1(self.self_attn.with_positions(x, x + positions, bias, shared)))
        return self.norm2(x + self._feed(x))

    def first(self, x: ms.Tensor, positions: ms.Tensor, bias: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """The first row alone of what `construct` gives, (B, 1, C), and where it looked, (B, N)."""
        attended, where = self.self_attn.first_with_positions(x, x + positions, bias)
        row = self.norm1(x[:, :1] + self.dropout1(attended))
        return self.norm2(row + self._feed(row)), where


class JointEncoder(nn.Cell):
    """A stack of `JointLayer`s; only the REG row of the last one is asked for."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.CellList([JointLayer(width, heads, hidden, dropout) for _ in range(layers)])

    def construct(
        self, x: ms.Tensor, positions: ms.Tensor, bias: ms.Tensor, shared: int = 0
    ) -> tuple[ms.Tensor, ms.Tensor]:
        """x and positions (B, N, C), additive key bias (B, 1, 1, N) -> first row of the last layer (B, C).

        Also where that row looked in the last layer, (B, N). The last `shared` rows of x are the same in every sample.
        """
        last = len(self.layers) - 1
        for index in range(last):
            x = self.layers[index](x, positions, bias, shared if index == 0 else 0)
        row, where = self.layers[last].first(x, positions, bias)
        return row[:, 0], where
