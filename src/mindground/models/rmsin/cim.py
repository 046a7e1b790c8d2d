"""Cross-scale interaction: one attention over all stages of the image encoder on a common coarse grid (RMSIN).

Two reinterpretations in the attention, and the identity that is added twice in the step within scales, look like
mistakes. Trained weights depend on them, so they are computed as upstream does.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.attention import attention_core, merge_heads, split_heads
from mindground.nn.batch_norm import BatchNorm2d
from mindground.nn.conv import Conv2d
from mindground.nn.linear import Linear
from mindground.nn.resize import resize_maps

__all__ = [
    "CrossScaleAttention",
    "CrossScaleBlock",
    "CrossScaleInteraction",
    "FeedForward",
    "IntraScale",
    "ScaleGate",
    "TokenAttention",
    "token_count",
]


def token_count(grid: int) -> int:
    """Tokens of the grid itself, of its half and of its third."""
    return int(grid**2 + ((grid + 1) // 2) ** 2 + ((grid + 2) // 3) ** 2)


class TokenAttention(nn.Cell):
    """Attention of the tokens of three resolutions, which gives one result for every token of the finest.

    Args:
        width: d of a token.
        grid: side g of the finest resolution.
        heads, key_dim: n heads with queries and keys of `key_dim`, and values of twice that.
    """

    def __init__(self, width: int, grid: int, heads: int = 8, key_dim: int = 32) -> None:
        super().__init__()
        self.grid, self.heads, self.key_dim = grid, heads, key_dim
        inner = 2 * heads * key_dim
        self.qkv = Linear(width, 2 * inner, bias=False)
        self.qkv_bn = BatchNorm2d(2 * inner)
        self.parallel_conv = Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.to_out = Linear(inner, width)
        self.proj = Linear(token_count(grid), grid**2)
        self.core = attention_core(key_dim**-0.5)

    def packed(self, x: ms.Tensor) -> ms.Tensor:
        """(B, N, d) -> (B, N, n * 4 key_dim): for every head its query, key and value."""
        x = self.qkv(x)
        rows = x.reshape((-1, x.shape[2], 1, 1))
        return self.qkv_bn(rows).reshape(x.shape)

    def branches(self, packed: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """Result of `packed` -> attended tokens (B, n * 2 key_dim, g * g) and convolved values (B, ..., g, g)."""
        batch, count, _ = packed.shape
        tokens, inner, own = self.grid**2, 2 * self.heads * self.key_dim, self.key_dim
        q, k, v = ops.split(split_heads(packed, self.heads), [own, own, 2 * own], -1)
        attended = merge_heads(self.core(q, k, v), self.heads)
        # Not transposed: the numbers of (N, channels) are read as (channels, N).
        projected = self.proj(attended.reshape((batch, inner, count)))
        # Nor is this: (n, g * g, 2 key_dim) is read as (n * 2 key_dim, g * g).
        values = v[:, :tokens].reshape((batch, inner, self.grid, self.grid))
        return projected, self.parallel_conv(ops.hardswish(values))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, N, d) -> (B, g * g, d)."""
        projected, convolved = self.branches(self.packed(x))
        total = projected + convolved.reshape(projected.shape)
        return self.to_out(ops.transpose(total, (0, 2, 1)))


class CrossScaleAttention(nn.Cell):
    """The grid beside its half and its third, attention over the tokens of all, back to the grid."""

    def __init__(self, width: int, grid: int, heads: int = 8, key_dim: int = 32) -> None:
        super().__init__()
        self.grid = grid
        self.bn1 = BatchNorm2d(width)
        self.half_conv = Conv2d(width, width, 3, stride=2, padding=1, groups=width)
        self.half_bn = BatchNorm2d(width)
        self.third_conv = Conv2d(width, width, 5, stride=3, padding=2, groups=width)
        self.third_bn = BatchNorm2d(width)
        self.attention = TokenAttention(width, grid, heads, key_dim)
        self.bn4 = BatchNorm2d(width)
        self.conv = Conv2d(width, width)

    def construct(self, z: ms.Tensor) -> ms.Tensor:
        """(B, d, g, g) -> the same shape."""
        batch, width = z.shape[0], z.shape[1]
        z = self.bn1(z)
        half, third = self.half_bn(self.half_conv(z)), self.third_bn(self.third_conv(z))
        shape = (batch, width, -1)
        tokens = ops.concat((z.reshape(shape), half.reshape(shape), third.reshape(shape)), 2)
        found = ops.transpose(self.attention(ops.transpose(tokens, (0, 2, 1))), (0, 2, 1))
        return self.conv(ops.hardswish(self.bn4(found.reshape(z.shape))))


class FeedForward(nn.Cell):
    """Widened, mixed with the neighbours, narrowed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1 = BatchNorm2d(width)
        self.conv1 = Conv2d(width, 2 * width)
        self.bn2 = BatchNorm2d(2 * width)
        self.conv2 = Conv2d(2 * width, 2 * width, 3, padding=1, groups=width)
        self.conv3 = Conv2d(2 * width, width)
        self.clip = ops.ReLU6()

    def construct(self, z: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> the same shape."""
        return self.conv3(self.clip(self.conv2(self.bn2(self.conv1(self.bn1(z))))))


class IntraScale(nn.Cell):
    """A feed-forward layer for the channels of every stage, beside the identity.

    Args:
        widths: channels of the groups that z is split into.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.layers = nn.CellList([FeedForward(width) for width in widths])

    def construct(self, z: ms.Tensor) -> ms.Tensor:
        """(B, sum of widths, H, W) -> the same shape: 2 z plus the layers, because both wrappers add z."""
        parts = ops.split(z, self.widths, 1)
        found = ()
        for index in range(len(self.layers)):
            found = found + (self.layers[index](parts[index]),)
        return z * 2.0 + ops.concat(found, 1)


class CrossScaleBlock(nn.Cell):
    """Attention, layers within scales, attention, a layer over all."""

    def __init__(self, widths: Sequence[int], grid: int, heads: int, key_dim: int) -> None:
        super().__init__()
        total = sum(widths)
        self.csa1 = CrossScaleAttention(total, grid, heads, key_dim)
        self.intra = IntraScale(widths)
        self.csa2 = CrossScaleAttention(total, grid, heads, key_dim)
        self.ff = FeedForward(total)

    def construct(self, z: ms.Tensor) -> ms.Tensor:
        """(B, d, g, g) -> the same shape."""
        z = self.intra(z + self.csa1(z))
        z = z + self.csa2(z)
        return z + self.ff(z)


class ScaleGate(nn.Cell):
    """A map of one stage, scaled and shifted by what the coarse grid says of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local_embedding = Conv2d(width, width)
        self.bn1 = BatchNorm2d(width)
        self.global_embedding = Conv2d(width, width)
        self.bn2 = BatchNorm2d(width)
        self.global_act = Conv2d(width, width)
        self.bn3 = BatchNorm2d(width)
        self.clip = ops.ReLU6()

    def construct(self, local: ms.Tensor, coarse: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W), (B, C, g, g) -> (B, C, H, W)."""
        size = (local.shape[2], local.shape[3])
        shift = resize_maps(self.bn2(self.global_embedding(coarse)), size)
        scale = self.clip(self.bn3(self.global_act(coarse)) + 3.0) * (1.0 / 6.0)
        return self.bn1(self.local_embedding(local)) * resize_maps(scale, size) + shift


class CrossScaleInteraction(nn.Cell):
    """Four maps to four maps of the same shapes.

    Args:
        widths: channels of the maps, fine to coarse; multiples of 4.
        grid: side g of the common grid.
        heads, key_dim: of the attention.
        blocks: number of blocks; 1 in all published weights.
    """

    def __init__(self, widths: Sequence[int], grid: int, heads: int = 8, key_dim: int = 32, blocks: int = 1) -> None:
        super().__init__()
        self.widths, self.grid = list(widths), grid
        quarters = [width // 4 for width in widths]
        self.down_channel = Conv2d(sum(widths), sum(quarters))
        self.blocks = nn.CellList([CrossScaleBlock(quarters, grid, heads, key_dim) for _ in range(blocks)])
        self.bn = BatchNorm2d(sum(quarters))
        self.up_channel = Conv2d(sum(quarters), sum(widths))
        self.gates = nn.CellList([ScaleGate(width) for width in widths])

    def pool(self, maps: tuple[ms.Tensor, ...]) -> ms.Tensor:
        """Maps (B, C_i, H_i, W_i) -> averages on the grid (B, sum of C_i, g, g)."""
        pooled = ()
        for item in maps:
            pooled = pooled + (resize_maps(item, (self.grid, self.grid), "pool"),)
        return ops.concat(pooled, 1)

    def construct(self, maps: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        """Maps (B, C_i, H_i, W_i), fine to coarse -> maps of the same shapes."""
        z = self.down_channel(self.pool(maps))
        for block in self.blocks:
            z = block(z)
        parts = ops.split(self.up_channel(self.bn(z)), self.widths, 1)
        found = ()
        for index in range(len(self.gates)):
            found = found + (self.gates[index](maps[index], parts[index]),)
        return found
