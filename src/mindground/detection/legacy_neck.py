"""The neck of the first version of RSPrompter, whose trained weights are the only ones that were released."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.batch_norm import BatchNorm2d
from mindground.nn.conv import Conv2d
from mindground.nn.resize import resize_maps

__all__ = ["LegacyNeck"]


class _Unit(nn.Cell):
    """Convolution without bias, BatchNorm, and ReLU if `active`."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        self.conv = Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
        self.bn = BatchNorm2d(out)
        self.active = active

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.bn(self.conv(x))
        return ops.relu(x) if self.active else x


class _Doubled(nn.Cell):
    """Twice the side, bilinear, with two convolutions on one way and none on the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = _Unit(channels, channels, 3), _Unit(channels, channels, 3)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        wide = resize_maps(x, (2 * x.shape[2], 2 * x.shape[3]))
        return self.second(self.first(wide)) + wide


class LegacyNeck(nn.Cell):
    """Three levels of strides 8, 16, 32 from the outputs of selected encoder blocks (stride 16).

    Args:
        channels: of the encoder.
        hidden: channels in between.
        selected: indexes of the blocks, from 0.
        out: channels of every level.
    """

    def __init__(self, channels: int, hidden: int, selected: Sequence[int], out: int) -> None:
        super().__init__()
        self.selected = tuple(selected)
        self.down_sample_layers = nn.CellList(
            [nn.SequentialCell(_Unit(channels, hidden, 1), _Unit(hidden, hidden, 3, 2)) for _ in self.selected]
        )
        self.fusion_layers = nn.CellList([_Unit(hidden, hidden, 3) for _ in self.selected])
        self.mixed = nn.SequentialCell(_Unit(hidden, hidden, 3), _Unit(hidden, hidden, 3))
        self.widened = _Unit(hidden, out, 1, active=False)
        self.doubled = nn.CellList([_Doubled(out), _Doubled(out)])

    def construct(self, blocks: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        """Outputs (B, h, w, channels) of all blocks, with even sides -> levels (B, out, ...) of strides 8, 16, 32."""
        x = None
        for index, block in enumerate(self.selected):
            feature = self.down_sample_layers[index](ops.transpose(blocks[block], (0, 3, 1, 2)))
            total = feature if x is None else x + feature
            x = total + self.fusion_layers[index](total)
        coarse = self.widened(x + self.mixed(x))
        middle = self.doubled[0](coarse)
        return self.doubled[1](middle), middle, coarse
