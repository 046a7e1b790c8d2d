"""Between an image encoder and a detector: one map from many layers, and a pyramid from one map."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.activations import Gelu
from mindground.nn.batch_norm import BatchNorm2d
from mindground.nn.conv import Conv2d
from mindground.nn.deconv import Deconv2x
from mindground.nn.norm import ChannelNorm

__all__ = ["FeatureAggregator", "FeatureSplitter", "Fpn", "PseudoAggregator"]

# The published splitter builds its norms by a function whose default this is; the aggregators' norms have 1e-6.
_SPLITTER_EPS = 1e-5


class FeatureAggregator(nn.Cell):
    """One map from the outputs of several encoder blocks, each added to what the earlier ones became.

    Args:
        channels: of the encoder.
        hidden: channels in between.
        out: channels of the result.
        count: number of blocks whose outputs are used.
    """

    def __init__(self, channels: int, hidden: int, out: int, count: int) -> None:
        super().__init__()
        self.downconvs = nn.CellList(
            [nn.SequentialCell(*_unit(channels, hidden, 1), *_unit(hidden, hidden, 3)) for _ in range(count)]
        )
        self.hidden_convs = nn.CellList([nn.SequentialCell(*_unit(hidden, hidden, 3)) for _ in range(count)])
        last = Conv2d(out, out, 3, padding=1)
        self.fusion_conv = nn.SequentialCell(*_unit(hidden, out, 1), *_unit(out, out, 3), last)

    def construct(self, states: tuple[ms.Tensor, ...]) -> ms.Tensor:
        """`count` outputs (B, h, w, channels) -> (B, out, h, w)."""
        x = None
        for index, layer in enumerate(self.downconvs):
            feature = layer(ops.transpose(states[index], (0, 3, 1, 2)))
            total = feature if x is None else x + feature
            x = total + self.hidden_convs[index](total)
        return self.fusion_conv(x)


def _unit(channels: int, out: int, kernel: int) -> tuple[nn.Cell, ...]:
    return Conv2d(channels, out, kernel, padding=kernel // 2), BatchNorm2d(out), nn.ReLU()


class PseudoAggregator(nn.Cell):
    """Three convolutions with norms over channels and no activation, on the one map of an adapted encoder."""

    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.channel_fusion = nn.SequentialCell(
            Conv2d(channels, hidden, 1, bias=False),
            ChannelNorm(hidden),
            Conv2d(hidden, hidden, 3, padding=1, bias=False),
            ChannelNorm(hidden),
            Conv2d(hidden, out, 3, padding=1, bias=False),
            ChannelNorm(out),
        )

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, channels, h, w) -> (B, out, h, w)."""
        return self.channel_fusion(x)


class _NormedConv(nn.Cell):
    """A convolution without bias and a norm over channels; its weights start as Kaiming's normal of the outputs."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
        self.conv.weight.set_data(init.normal(self.conv.weight.shape, (2.0 / (out * kernel**2)) ** 0.5))
        self.norm_layer = ChannelNorm(out, _SPLITTER_EPS)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.norm_layer(self.conv(x))


class FeatureSplitter(nn.Cell):
    """A pyramid of strides 4, 8, 16, 32, 64 from one map of stride 16, without a way from coarse to fine.

    Args:
        channels: of the map.
        out: of every level.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.fpn1 = nn.SequentialCell(
            Deconv2x(channels, half), ChannelNorm(half, _SPLITTER_EPS), Gelu(), Deconv2x(half, quarter)
        )
        self.fpn2 = nn.SequentialCell(Deconv2x(channels, half))
        self.pool = nn.MaxPool2d(2, 2)
        # Every second pixel; the gradient of a slice with steps fails on a CPU.
        self.skip = nn.MaxPool2d(1, 2)
        widths = (quarter, half, channels, channels)
        self.lateral_convs = nn.CellList([_NormedConv(width, out, 1) for width in widths])
        self.fpn_convs = nn.CellList([_NormedConv(out, out, 3) for _ in widths])

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """(B, channels, h, w) with even sides -> five levels (B, out, ...)."""
        maps = (self.fpn1(x), self.fpn2(x), x, self.pool(x))
        levels = ()
        level = x
        for index in range(4):
            level = self.fpn_convs[index](self.lateral_convs[index](maps[index]))
            levels = levels + (level,)
        return (*levels, self.skip(level))


class Fpn(nn.Cell):
    """Feature pyramid (Lin et al. 2017): every level gets what the coarser one holds; a fifth level is sub-sampled.

    Args:
        channels: of the four maps, from fine to coarse.
        out: of every level.
    """

    def __init__(self, channels: Sequence[int], out: int) -> None:
        super().__init__()
        self.lateral_convs = nn.CellList([Conv2d(width, out) for width in channels])
        self.fpn_convs = nn.CellList([Conv2d(out, out, 3, padding=1) for _ in channels])
        self.skip = nn.MaxPool2d(1, 2)
        for layer in (*self.lateral_convs, *self.fpn_convs):
            rows, columns = layer.weight.shape[0], layer.weight.shape[1] * layer.weight.shape[2] ** 2
            bound = (6.0 / (rows * layer.weight.shape[2] ** 2 + columns)) ** 0.5
            layer.weight.set_data(init.kaiming_uniform(layer.weight.shape, 1) * bound)
            layer.bias.set_data(init.constant(layer.bias.shape))

    def construct(self, maps: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        """Maps (B, C_i, h_i, w_i), each of half the side of the one before, -> one level more (B, out, ...)."""
        count = len(self.lateral_convs)
        held = self.lateral_convs[count - 1](maps[count - 1])
        levels = (self.fpn_convs[count - 1](held),)
        for index in range(count - 2, -1, -1):
            lateral = self.lateral_convs[index](maps[index])
            held = lateral + _nearest(held, (lateral.shape[2], lateral.shape[3]))
            levels = (self.fpn_convs[index](held), *levels)
        return (*levels, self.skip(levels[count - 1]))


def _nearest(x: ms.Tensor, size: tuple[int, int]) -> ms.Tensor:
    if size == (2 * x.shape[2], 2 * x.shape[3]):
        batch, channels, height, width = x.shape
        wide = ops.broadcast_to(
            x.reshape((batch, channels, height, 1, width, 1)), (batch, channels, height, 2, width, 2)
        )
        return wide.reshape((batch, channels, 2 * height, 2 * width))
    return ops.interpolate(x, size=size, mode="nearest")
