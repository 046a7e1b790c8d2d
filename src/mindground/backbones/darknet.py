"""DarkNet-53 (Redmon and Farhadi, arXiv 1804.02767) with the first layers of YOLO's head, as SeqTR reads images.

Modules carry the numbers of SeqTR's files: 3x3 convolutions at 0, 1, 3, 5, 7, 9, of which all but the first halve the
map; residual units at 2, 4, 6, 8, 10; pairs without a shortcut at 11; a 1x1 and a 3x3 convolution at 12 and 13. Results
of 6, 8 and 13 are given: maps at an eighth, a sixteenth and a thirty-second of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.batch_norm import BatchNorm2d
from mindground.nn.conv import Conv2d

__all__ = ["ConvUnit", "Darknet", "Residual", "leaky"]

_SLOPE = 0.1
_EXPORTS = (6, 8, 13)


def leaky(x: ms.Tensor) -> ms.Tensor:
    """LeakyReLU of slope 0.1; MindSpore's own gradient costs seven times as much on a CPU."""
    return x * _SLOPE + ops.relu(x) * (1.0 - _SLOPE)


class ConvUnit(nn.Cell):
    """Convolution without bias, BatchNorm, LeakyReLU of slope 0.1.

    Args:
        in_channels, out_channels: C before and after.
        kernel: side of the square kernel; the map keeps its size where `stride` is 1.
        stride: step in pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        # Kaiming's normal by what leaves a pixel, for this activation.
        deviation = (2.0 / ((1.0 + _SLOPE**2) * out_channels * kernel * kernel)) ** 0.5
        self.conv.weight.set_data(init.normal(self.conv.weight.shape, deviation))
        self.bn = BatchNorm2d(out_channels, eps=1e-5, momentum=0.1, exact=True)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        return leaky(self.bn(self.conv(x)))


class Residual(nn.Cell):
    """Pairs of a 1x1 convolution to half the channels and a 3x3 one back.

    Args:
        channels: C.
        count: pairs.
        shortcut: whether the input of a pair is added to what it gives.
    """

    def __init__(self, channels: int, count: int, shortcut: bool = True) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.blocks = nn.CellList(
            [
                nn.CellList([ConvUnit(channels, channels // 2, 1), ConvUnit(channels // 2, channels, 3)])
                for _ in range(count)
            ]
        )

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> the same shape."""
        for pair in self.blocks:
            y = pair[1](pair[0](x))
            x = x + y if self.shortcut else y
        return x


class Darknet(nn.Cell):
    """Image -> three maps.

    Args:
        first: channels of the first convolution; 32 in the published network.
        blocks: pairs of modules 2, 4, 6, 8, 10 and 11.
    """

    def __init__(self, first: int = 32, blocks: Sequence[int] = (1, 2, 8, 8, 4, 2)) -> None:
        super().__init__()
        if len(blocks) != 6:
            raise ValueError(f"blocks={list(blocks)} needs six numbers")
        layers: list[nn.Cell] = [ConvUnit(3, first, 3)]
        width = first
        for count in blocks[:5]:
            layers += [ConvUnit(width, 2 * width, 3, 2), Residual(2 * width, count)]
            width *= 2
        layers += [Residual(width, blocks[5], shortcut=False)]
        layers += [ConvUnit(width, width // 2, 1), ConvUnit(width // 2, width, 3)]
        self.layers = nn.CellList(layers)
        self.widths = (width // 4, width // 2, width)

    def construct(self, image: ms.Tensor) -> tuple[ms.Tensor, ...]:
        """Image (B, 3, H, W) of values from 0 to 255, sides multiples of 32 -> maps (B, C_i, H_i, W_i), fine first."""
        maps: tuple[ms.Tensor, ...] = ()
        x = image
        for index in range(len(self.layers)):
            x = self.layers[index](x)
            if index in _EXPORTS:
                maps = maps + (x,)
        return maps

    def freeze(self, learning: int) -> None:
        """Only the last `learning` modules get a gradient; statistics of the others still follow the batches."""
        for index, layer in enumerate(self.layers):
            for parameter in layer.get_parameters():
                if parameter.name.rsplit(".", 1)[-1] not in BatchNorm2d.buffer_names:
                    parameter.requires_grad = index >= len(self.layers) - learning

    def frozen_layers(self) -> list[nn.Cell]:
        """Modules without a parameter that learns."""
        return [layer for layer in self.layers if not layer.trainable_params()]
