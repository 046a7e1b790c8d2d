"""Prompt tokens for a mask decoder from the features of a box (Chen et al., arXiv 2306.16269, section III-C)."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.batch_norm import BatchNorm2d
from mindground.nn.conv import Conv2d
from mindground.nn.linear import Linear

__all__ = ["RoiPrompter", "interleaved_tokens"]


def interleaved_tokens(values: ms.Tensor, tokens: int) -> ms.Tensor:
    """(..., tokens * 2 C) -> (..., tokens, C): the sine of every second value, plus the value after it."""
    pairs = values.reshape(values.shape[:-1] + (tokens, values.shape[-1] // (2 * tokens), 2))
    low, high = ops.unbind(pairs, -1)
    return ops.sin(low) + high


class RoiPrompter(nn.Cell):
    """Features (R, C, side, side) of boxes -> prompt tokens (R, K, C).

    BatchNorm in training sees the boxes of the step alone; `train.batch_norm` chooses what it does.

    Args:
        channels: C, also of the tokens.
        side: of the grid of a box, even.
        tokens: K.
    """

    def __init__(self, channels: int, side: int = 14, tokens: int = 5) -> None:
        super().__init__()
        self.tokens = tokens
        start = "kaiming_uniform"
        self.point_emb = nn.SequentialCell(
            Conv2d(channels, channels, 3, 2, 1),
            BatchNorm2d(channels),
            nn.ReLU(),
            nn.Flatten(),
            Linear(channels * (side // 2) ** 2, channels, start=start),
            nn.ReLU(),
            Linear(channels, channels, start=start),
            nn.ReLU(),
            Linear(channels, channels * 2 * tokens, start=start),
        )

    def construct(self, features: ms.Tensor) -> ms.Tensor:
        """See the class."""
        return interleaved_tokens(self.point_emb(features), self.tokens)
