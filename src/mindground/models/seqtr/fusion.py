"""SeqTR's fusion: three maps become one, which is multiplied by the sentence."""

from __future__ import annotations

from collections.abc import Sequence

import mindspore as ms
from mindspore import nn, ops

from mindground.backbones.darknet import ConvUnit
from mindground.nn.resize import resize_maps

__all__ = ["DIRECTIONS", "SimpleFusion"]

DIRECTIONS = ("bottom_up", "to_mid", "none")


class SimpleFusion(nn.Cell):
    """tanh(map) * tanh(sentence) at every pixel.

    Args:
        widths: channels of the three maps, fine first.
        direction: where the maps meet: bottom_up at the coarsest (stride 32), to_mid at the middle one (stride 16),
            none takes the coarsest alone.

    Attributes:
        width: channels of the result, which the sentence must have.
    """

    def __init__(self, widths: Sequence[int], direction: str = "bottom_up") -> None:
        super().__init__()
        if direction not in DIRECTIONS:
            raise ValueError(f"direction={direction!r}; choose one of {', '.join(DIRECTIONS)}")
        fine, middle, coarse = widths
        self.direction, self.width = direction, coarse
        self.halve = ops.AvgPool(kernel_size=2, strides=2, pad_mode="valid")
        if direction == "bottom_up":
            self.middle = ConvUnit(fine + middle, fine + middle, 3)
            self.bottom = ConvUnit(fine, fine, 3)
            joined = fine + middle + coarse
        elif direction == "to_mid":
            self.top = ConvUnit(coarse, coarse, 3)
            self.bottom = ConvUnit(fine, fine, 3)
            joined = fine + middle + coarse
        else:
            joined = coarse
        if direction != "none":
            self.project = nn.CellList([ConvUnit(joined, joined, 3), ConvUnit(joined, coarse, 1)])

    def construct(
        self, maps: tuple[ms.Tensor, ...], sentence: ms.Tensor, words: ms.Tensor, real: ms.Tensor
    ) -> ms.Tensor:
        """Maps (B, C_i, H_i, W_i), sentence (B, width) -> (B, width, h, w); words take no part."""
        x = self.join(maps)
        said = ops.tanh(sentence).expand_dims(-1).expand_dims(-1)
        return ops.tanh(x) * ops.broadcast_to(said, (said.shape[0],) + x.shape[1:])

    def join(self, maps: tuple[ms.Tensor, ...]) -> ms.Tensor:
        """The maps -> one, before the sentence."""
        fine, middle, coarse = maps
        if self.direction == "none":
            return coarse
        if self.direction == "bottom_up":
            middle = ops.concat((self.bottom(self.halve(fine)), middle), 1)
            x = ops.concat((self.middle(self.halve(middle)), coarse), 1)
        else:
            size = (middle.shape[2], middle.shape[3])
            x = ops.concat((self.bottom(self.halve(fine)), middle, resize_maps(self.top(coarse), size, "aligned")), 1)
        return self.project[1](self.project[0](x))
