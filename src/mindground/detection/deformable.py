"""Attention to a few sampled points of several maps (Zhu et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.linear import Linear
from mindground.nn.swap import swap_middle

__all__ = ["DeformableAttention", "reference_points"]


def reference_points(sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """(1, N, 1, 2) float32 x, y in (0, 1): centres of the cells of all maps (h, w), row by row."""
    points = []
    for height, width in sizes:
        y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
        points.append(np.stack([x, y], -1).reshape(-1, 2))
    return np.concatenate(points).astype(np.float32)[None, :, None]


class DeformableAttention(nn.Cell):
    """Every token takes weighted samples of all maps around its own place. Without dropout; adds the token itself.

    Args:
        width: C.
        heads: number of heads.
        levels: number of maps.
        points: samples of a head on every map.
    """

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.width, self.heads, self.levels, self.points = width, heads, levels, points
        self.sampling_offsets = Linear(width, heads * levels * points * 2, start="zeros")
        self.attention_weights = Linear(width, heads * levels * points, start="zeros")
        self.value_proj = Linear(width, width, start="xavier_uniform")
        self.output_proj = Linear(width, width, start="xavier_uniform")
        self.sampling_offsets.bias.set_data(ms.Tensor(_directions(heads, levels, points)))
        self.product = ops.BatchMatMul()

    def core(
        self, x: ms.Tensor, placed: ms.Tensor, reference: ms.Tensor, sizes: tuple[tuple[int, int], ...]
    ) -> ms.Tensor:
        """The weighted samples (B, N, C), before the last projection; see `construct`."""
        batch, count, width = x.shape
        heads, levels, points = self.heads, self.levels, self.points
        groups, each = batch * heads, width // heads
        shape = (batch, count, heads, levels * points)
        weights = ops.softmax(self.attention_weights(placed).reshape(shape), -1)
        weights = swap_middle(weights).reshape((groups * count, 1, levels * points))
        offsets = self.sampling_offsets(placed).reshape((batch, count, heads, levels * points * 2))
        offsets = swap_middle(offsets).reshape((groups, count, levels, points, 2))
        spread = (batch, heads, count, points, 2)
        values = swap_middle(self.value_proj(x).reshape((batch, count, heads, each))).reshape((groups, count, each))
        samples, start = (), 0
        for level, size in enumerate(sizes):
            height, wide = size
            part = ops.transpose(values[:, start : start + height * wide], (0, 2, 1))
            own = reference[:, :, level if reference.shape[2] > 1 else 0]
            centre = ops.broadcast_to(own.reshape((own.shape[0], 1, count, 1, 2)), spread)
            centre = centre.reshape((groups, count, points, 2))
            scale = ops.broadcast_to(ms.Tensor([1.0 / wide, 1.0 / height], ms.float32), centre.shape)
            grid = (centre + offsets[:, :, level] * scale) * 2.0 - 1.0
            found = ops.grid_sample(part.reshape((groups, each, height, wide)), grid, "bilinear", "zeros", False)
            samples = samples + (found,)
            start = start + height * wide
        # (G, each, N, levels * points) -> for every token a product of its weights and its samples.
        stacked = ops.transpose(ops.concat(samples, 3), (0, 2, 3, 1)).reshape((groups * count, levels * points, each))
        out = self.product(weights, stacked).reshape((batch, heads, count, each))
        return swap_middle(out).reshape((batch, count, width))

    def construct(
        self, x: ms.Tensor, position: ms.Tensor, reference: ms.Tensor, sizes: tuple[tuple[int, int], ...]
    ) -> ms.Tensor:
        """Tokens of all maps, one map after the other.

        Args:
            x: (B, N, C).
            position: (B, N, C), added where offsets and weights are made.
            reference: (1 or B, N, 1 or levels, 2) x, y in (0, 1) of every token on every map.
            sizes: (h, w) of every map.

        Returns:
            (B, N, C).
        """
        return x + self.output_proj(self.core(x, x + position, reference, sizes))


def _directions(heads: int, levels: int, points: int) -> np.ndarray:
    """Offsets to start with: every head looks in one direction, its points one after the other."""
    angles = np.arange(heads) * (2 * math.pi / heads)
    directions = np.stack([np.cos(angles), np.sin(angles)], -1)
    directions /= np.abs(directions).max(-1, keepdims=True)
    steps = np.arange(1, points + 1)[None, None, :, None]
    return np.broadcast_to(directions[:, None, None] * steps, (heads, levels, points, 2)).reshape(-1).astype(np.float32)


def xavier_normal(cell: nn.Cell) -> None:
    """Draw every matrix of a Cell again: normal of deviation sqrt(2 / (rows + columns)); other parameters stay."""
    for parameter in cell.get_parameters():
        if parameter.ndim > 1:
            receptive = int(np.prod(parameter.shape[2:]))
            fans = (parameter.shape[0] + parameter.shape[1]) * receptive
            parameter.set_data(init.normal(parameter.shape, math.sqrt(2.0 / fans)))
