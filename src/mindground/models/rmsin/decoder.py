"""From four maps, coarse to fine, to the logits of background and referent."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.models.rmsin.rotated_convolution import RotatedConv
from mindground.nn.batch_norm import BatchNorm2d
from mindground.nn.conv import Conv2d
from mindground.nn.resize import resize_maps

__all__ = ["Decoder", "DecoderLevel"]


class DecoderLevel(nn.Cell):
    """Joins the coarser result with a finer map: two convolutions, of which RMSIN turns the second."""

    def __init__(self, in_channels: int, hidden: int, rotated: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = Conv2d(in_channels, hidden, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(hidden)
        if rotated:
            self.conv2 = RotatedConv(hidden, hidden, rotated, dropout)
        else:
            self.conv2 = Conv2d(hidden, hidden, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(hidden)

    def construct(self, coarse: ms.Tensor, fine: ms.Tensor) -> ms.Tensor:
        """(B, C, h, w), (B, c, H, W) -> (B, hidden, H, W)."""
        x = resize_maps(coarse, (fine.shape[2], fine.shape[3]), "aligned")
        x = ops.relu(self.bn1(self.conv1(ops.concat((x, fine), 1))))
        return ops.relu(self.bn2(self.conv2(x)))


class Decoder(nn.Cell):
    """Three levels and a projection to two classes.

    Args:
        widths: channels of the four maps, fine to coarse.
        rotated: kernels of the rotated convolution; 0 = an ordinary one (LAVT).
        dropout: of its routing.
    """

    def __init__(self, widths: Sequence[int], rotated: int = 1, dropout: float = 0.2) -> None:
        super().__init__()
        hidden = widths[3] // 2
        inputs = (widths[3] + widths[2], hidden + widths[1], hidden + widths[0])
        self.levels = nn.CellList([DecoderLevel(channels, hidden, rotated, dropout) for channels in inputs])
        self.classify = Conv2d(hidden, 2)

    def construct(self, maps: tuple[ms.Tensor, ...]) -> ms.Tensor:
        """Maps (B, C_i, H_i, W_i), fine to coarse -> logits (B, 2, H_0, W_0)."""
        x = maps[3]
        for index in range(3):
            x = self.levels[index](x, maps[2 - index])
        return self.classify(x)
