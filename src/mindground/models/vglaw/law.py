"""The qkv projection of a ViT block, bent by the expression (paper section 3.2, eqs. 3 to 6).

Every Cell here owns the plain projection (`weight`, `bias`) and receives what the expression
generated for its block. `x` is (B, N, C) with all windows of one sample side by side.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from mindground.nn import init
from mindground.nn.linear import Linear

__all__ = ["GroupScaledLinear", "OmniScaledLinear", "SvdLinear", "law_linear", "law_size"]


class SvdLinear(Linear):
    """y = x W^T + b + ((x D^T) Phi^T) S^T with one K x K matrix Phi per sample.

    Computed as one product [x, z] [W, S]^T with z = (x D^T) Phi^T, so that the low-rank term costs
    no second output-sized buffer and no addition.

    Args:
        in_features, out_features: C and 3C.
        rank: K.
        own_factors: True keeps S and D as this layer's own parameters instead of receiving them.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, own_factors: bool = False) -> None:
        super().__init__(in_features, out_features)
        self.rank, self.own_factors = rank, own_factors
        if own_factors:
            self.S = init.parameter(init.kaiming_uniform((out_features, rank, 1), rank), "S")
            self.D = init.parameter(init.kaiming_uniform((rank, in_features, 1), in_features), "D")

    def construct(
        self, x: ms.Tensor, phi: ms.Tensor | None = None, s: ms.Tensor | None = None, d: ms.Tensor | None = None
    ) -> ms.Tensor:
        """(B, ..., C), phi (B, K*K) row-major, S (3Cmax, K, 1), D (K, Cmax, 1) -> (B, ..., 3C).

        S and D may belong to a wider layer: D gives its first C columns, S the first C rows of each of q, k, v.
        """
        if phi is None:
            return super().construct(x)
        if self.own_factors:
            s, d = self.S, self.D
        rank, batch = self.rank, phi.shape[0]
        d = d.reshape(rank, -1)[:, : self.in_features]
        s = s.reshape(3, -1, rank)[:, : self.out_features // 3].reshape(self.out_features, rank)
        rows = x.reshape(-1, self.in_features)
        low = ops.matmul(rows, d.transpose(1, 0)).reshape(batch, -1, rank)
        low = ops.bmm(low, phi.reshape(batch, rank, rank).transpose(0, 2, 1)).reshape(-1, rank)
        weight = ops.concat((self.weight, s), 1)
        y = self.kernel(ops.concat((rows, low), 1), weight, self.bias)
        return y.reshape(x.shape[:-1] + (self.out_features,))


def _scaled(x: ms.Tensor, scale: ms.Tensor) -> ms.Tensor:
    """(B, N, C) * (B, C), without the slow broadcasting product."""
    return x * ops.broadcast_to(scale.expand_dims(1), x.shape)


class GroupScaledLinear(Linear):
    """`la`: row group g of W sees its input channels scaled, y_g = (x * a_g) W_g^T + b_g.

    Args:
        groups: number G of equal row groups.
    """

    def __init__(self, in_features: int, out_features: int, groups: int = 1) -> None:
        super().__init__(in_features, out_features)
        if out_features % groups:
            raise ValueError(f"groups={groups} must divide {out_features} rows")
        self.groups = groups

    def construct(self, x: ms.Tensor, scale: ms.Tensor | None = None) -> ms.Tensor:
        """(B, N, C), scale (B, G*C) -> (B, N, 3C)."""
        if scale is None:
            return super().construct(x)
        batch, tokens, width = x.shape
        step = self.out_features // self.groups
        parts = []
        for g in range(self.groups):
            rows = _scaled(x, scale[:, g * width : (g + 1) * width]).reshape(-1, width)
            span = slice(g * step, (g + 1) * step)
            parts.append(self.kernel(rows, self.weight[span], self.bias[span]))
        return ops.concat(parts, 1).reshape(batch, tokens, self.out_features)


class OmniScaledLinear(Linear):
    """`od1|od2|od3`: input scales for all rows, for qk and v, or for q, k and v; then one output scale.

    The output scale also multiplies the bias.
    """

    def __init__(self, in_features: int, out_features: int, inputs: int) -> None:
        super().__init__(in_features, out_features)
        third = out_features // 3
        self.edges = {1: (0, out_features), 2: (0, 2 * third, out_features), 3: (0, third, 2 * third, out_features)}[
            inputs
        ]

    def construct(self, x: ms.Tensor, scale: ms.Tensor | None = None) -> ms.Tensor:
        """(B, N, C), scale (B, n*C + 3C) -> (B, N, 3C)."""
        if scale is None:
            return super().construct(x)
        batch, tokens, width = x.shape
        parts = []
        for i in range(len(self.edges) - 1):
            rows = _scaled(x, scale[:, i * width : (i + 1) * width]).reshape(-1, width)
            span = slice(self.edges[i], self.edges[i + 1])
            parts.append(self.kernel(rows, self.weight[span], self.bias[span]))
        y = ops.concat(parts, 1).reshape(batch, tokens, self.out_features)
        return _scaled(y, scale[:, (len(self.edges) - 1) * width :])


def law_linear(law_type: str, width: int, group: int, rank: int, own_factors: bool = False) -> Linear:
    """The qkv projection of one block; `group` 0 leaves the block unadapted."""
    if group == 0 or law_type == "none":
        return Linear(width, 3 * width)
    if law_type == "svd":
        return SvdLinear(width, 3 * width, rank, own_factors)
    if law_type == "la":
        return GroupScaledLinear(width, 3 * width, group)
    return OmniScaledLinear(width, 3 * width, int(law_type[2:]))


def law_size(law_type: str, width: int, group: int, rank: int) -> int:
    """Numbers that the generator has to produce for one adapted block."""
    if law_type == "svd":
        return rank * rank
    if law_type == "la":
        return group * width
    return (int(law_type[2:]) + 3) * width
