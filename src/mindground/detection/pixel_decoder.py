"""The pixel decoder of Mask2Former: deformable attention on coarse maps, then a way down to a map for masks."""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import nn, ops

from mindground.detection.deformable import DeformableAttention, reference_points, xavier_normal
from mindground.detection.positions import sine_positions
from mindground.nn import init
from mindground.nn.conv import Conv2d
from mindground.nn.linear import Linear
from mindground.nn.norm import LayerNorm
from mindground.nn.resize import resize_maps

__all__ = ["PixelDecoder", "feed_forward"]


@ops.constexpr
def _references(sizes: tuple[tuple[int, int], ...]) -> ms.Tensor:
    return ms.Tensor(reference_points(sizes))


@ops.constexpr
def _positions(height: int, width: int, features: int) -> ms.Tensor:
    """(h * w, 2 features)."""
    table = sine_positions(height, width, features).reshape(2 * features, -1)
    return ms.Tensor(table.T.copy())


def feed_forward(width: int, hidden: int) -> nn.SequentialCell:
    """Two layers with ReLU between them: entries 0 and 2."""
    layers = Linear(width, hidden, start="kaiming_uniform"), nn.ReLU(), Linear(hidden, width, start="kaiming_uniform")
    return nn.SequentialCell(*layers)


class _GroupNorm(nn.Cell):
    """Normalise groups of channels of every sample (Wu and He 2018); parameters `gamma` and `beta` (C)."""

    def __init__(self, groups: int, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.gamma = init.parameter(init.constant((channels,), 1.0), "gamma")
        self.beta = init.parameter(init.constant((channels,)), "beta")

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        batch, channels, height, width = x.shape
        rows = x.reshape((batch * self.groups, -1))
        centred = rows - rows.mean(1, keep_dims=True)
        scale = ops.rsqrt(ops.square(centred).mean(1, keep_dims=True) + self.eps)
        normal = (centred * ops.broadcast_to(scale, centred.shape)).reshape(x.shape)
        gamma = ops.broadcast_to(self.gamma.reshape((1, channels, 1, 1)), x.shape)
        return normal * gamma + ops.broadcast_to(self.beta.reshape((1, channels, 1, 1)), x.shape)


class _Unit(nn.Cell):
    """Convolution, normalisation of groups, and ReLU if `active`."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        groups: int,
        bias: bool = False,
        active: bool = False,
        a: float = 1.0,
    ) -> None:
        super().__init__()
        self.conv = Conv2d(channels, out, kernel, padding=kernel // 2, bias=bias)
        self.gn = _GroupNorm(groups, out)
        self.active = active
        # Uniform in +-sqrt(3 a / fan-in) or, with a = 0, in Xavier's range.
        fan_in, fan_out = channels * kernel**2, out * kernel**2
        bound = math.sqrt(3.0 * a / fan_in) if a else math.sqrt(6.0 / (fan_in + fan_out))
        self.conv.weight.set_data(init.kaiming_uniform(self.conv.weight.shape, 1) * bound)
        if bias:
            self.conv.bias.set_data(init.constant((out,)))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.gn(self.conv(x))
        return ops.relu(x) if self.active else x


class _EncoderLayer(nn.Cell):
    def __init__(self, width: int, heads: int, levels: int, points: int, hidden: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(width, heads, levels, points)
        self.ffn = feed_forward(width, hidden)
        self.norms = nn.CellList([LayerNorm(width, 1e-5), LayerNorm(width, 1e-5)])

    def construct(
        self, x: ms.Tensor, position: ms.Tensor, reference: ms.Tensor, sizes: tuple[tuple[int, int], ...]
    ) -> ms.Tensor:
        x = self.norms[0](self.self_attn(x, position, reference, sizes))
        return self.norms[1](x + self.ffn(x))


class PixelDecoder(nn.Cell):
    """Five maps of strides 4 to 64 -> a map of stride 4 for masks and three memories of strides 64, 32, 16.

    `lateral_convs.0` and `output_convs.0` belong to stride 4, those with 1 to stride 8.

    Args:
        channels: of every map.
        width: inside, and of the memories.
        out: channels of the map for masks.
        layers, heads, hidden: of the encoder.
        groups: of the normalisation.
        points: samples of a head on every map.
    """

    def __init__(
        self, channels: int, width: int, out: int, layers: int = 3, heads: int = 8, hidden: int = 512, groups: int = 32,
        points: int = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width = width
        self.input_convs = nn.CellList([_Unit(channels, width, 1, groups, bias=True, a=0.0) for _ in range(3)])
        self.layers = nn.CellList([_EncoderLayer(width, heads, 3, points, hidden) for _ in range(layers)])
        for layer in self.layers:
            xavier_normal(layer.ffn)
        self.level_encoding = init.parameter(init.normal((3, width), 1.0), "level_encoding")
        self.lateral_convs = nn.CellList([_Unit(channels, width, 1, groups) for _ in range(2)])
        self.output_convs = nn.CellList([_Unit(width, width, 3, groups, active=True) for _ in range(2)])
        self.mask_feature = Conv2d(width, out)
        self.mask_feature.weight.set_data(init.kaiming_uniform((out, width, 1, 1), 1) * math.sqrt(3.0 / width))
        self.mask_feature.bias.set_data(init.constant((out,)))

    def construct(self, maps: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, tuple[ms.Tensor, ...]]:
        """Maps (B, channels, h, w) from stride 4 to 64 -> (B, out, h, w) of stride 4, and memories (B, width, ...)."""
        tokens, placed, sizes = (), (), ()
        for index in range(3):
            x = self.input_convs[index](maps[4 - index])
            batch, width, high, wide = x.shape
            tokens = tokens + (ops.transpose(x.reshape((batch, width, high * wide)), (0, 2, 1)),)
            row = self.level_encoding[index : index + 1]
            place = _positions(high, wide, width // 2) + ops.broadcast_to(row, (high * wide, width))
            placed = placed + (place,)
            sizes = sizes + ((high, wide),)
        x = ops.concat(tokens, 1)
        position = ops.broadcast_to(ops.concat(placed, 0).expand_dims(0), x.shape)
        reference = _references(sizes)
        for layer in self.layers:
            x = layer(x, position, reference, sizes)
        memories, start, fine = (), 0, x
        for index in range(3):
            high, wide = maps[4 - index].shape[2], maps[4 - index].shape[3]
            part = ops.transpose(x[:, start : start + high * wide], (0, 2, 1))
            fine = part.reshape((x.shape[0], self.width, high, wide))
            memories = memories + (fine,)
            start = start + high * wide
        for index in (1, 0):
            lateral = self.lateral_convs[index](maps[index])
            fine = self.output_convs[index](lateral + resize_maps(fine, (lateral.shape[2], lateral.shape[3])))
        return self.mask_feature(fine), memories
