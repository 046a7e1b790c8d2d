"""Points, boxes and earlier masks as tokens and maps of the mask decoder's width."""

from __future__ import annotations

import math
from functools import lru_cache

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.activations import Gelu
from mindground.nn.conv import Conv2d
from mindground.nn.norm import ChannelNorm

__all__ = ["PromptEncoder"]


@lru_cache(maxsize=16)
def _build_centres(rows: int, columns: int) -> ms.Tensor:
    y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    return ms.Tensor(np.stack([x.reshape(-1), y.reshape(-1)], 1).astype(np.float32))


@ops.constexpr
def _centres(rows: int, columns: int) -> ms.Tensor:
    return _build_centres(rows, columns)


class PromptEncoder(nn.Cell):
    """Parameters are few; the frequencies of the positions are drawn once and never learn.

    Args:
        width: C of tokens and maps, an even number.
        mask_channels: channels before the last convolution of an earlier mask; a multiple of 4.
        deviation: of the frequencies.
    """

    def __init__(self, width: int = 256, mask_channels: int = 16, deviation: float = 1.0) -> None:
        super().__init__()
        self.width = width
        self.frequencies = init.parameter(init.normal((2, width // 2), deviation), "frequencies", requires_grad=False)
        # Background, foreground, top left and bottom right corner of a box.
        self.point_embed = init.parameter(init.normal((4, width), 1.0), "point_embed")
        self.not_a_point = init.parameter(init.normal((1, width), 1.0), "not_a_point")
        self.no_mask = init.parameter(init.normal((1, width), 1.0), "no_mask")
        self.mask_conv1 = Conv2d(1, mask_channels // 4, 2, stride=2)
        self.mask_norm1 = ChannelNorm(mask_channels // 4)
        self.mask_conv2 = Conv2d(mask_channels // 4, mask_channels, 2, stride=2)
        self.mask_norm2 = ChannelNorm(mask_channels)
        self.mask_conv3 = Conv2d(mask_channels, width)
        self.act = Gelu()

    def encode(self, places: ms.Tensor) -> ms.Tensor:
        """(K, 2) xy as shares of the input's sides -> (K, C): sines, then cosines."""
        angles = ops.matmul((places * 2.0 - 1.0) * (2.0 * math.pi), self.frequencies)
        return ops.concat((ops.sin(angles), ops.cos(angles)), -1)

    def grid(self, rows: int, columns: int) -> ms.Tensor:
        """Positions of the embedding's cells, (1, rows * columns, C)."""
        return self.encode(_centres(rows, columns)).expand_dims(0)

    def tokens(self, places: ms.Tensor, kinds: ms.Tensor) -> ms.Tensor:
        """Tokens of points and corners.

        Args:
            places: (P, T, 2) xy as shares of the input's sides, half a pixel added.
            kinds: (P, T) int32, as `kinds` numbers them.

        Returns:
            (P, T, C).
        """
        count, length = kinds.shape
        table = ops.concat((self.not_a_point, self.point_embed, ops.zeros((1, self.width), ms.float32)), 0)
        chosen = ops.one_hot(kinds.reshape(-1), 6, ms.Tensor(1.0, ms.float32), ms.Tensor(0.0, ms.float32))
        located = chosen[:, 1:5].sum(-1, keepdims=True)
        position = self.encode(places.reshape((-1, 2)))
        tokens = ops.matmul(chosen, table) + position * ops.broadcast_to(located, position.shape)
        return tokens.reshape((count, length, self.width))

    def dense(self, mask: ms.Tensor) -> ms.Tensor:
        """Logits of earlier masks (P, 1, 4g, 4g) -> (P, g * g, C)."""
        x = self.act(self.mask_norm1(self.mask_conv1(mask)))
        x = self.mask_conv3(self.act(self.mask_norm2(self.mask_conv2(x))))
        return ops.transpose(x.reshape((x.shape[0], self.width, -1)), (0, 2, 1))
