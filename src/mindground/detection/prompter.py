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


class _BoxNorm(BatchNorm2d):
    """BatchNorm over those boxes that are real; without any, the running statistics stay."""

    def construct(self, x: ms.Tensor, real: ms.Tensor | None = None) -> ms.Tensor:
        """x (R, C, h, w), real (R,) float32 of 0 and 1, None = all -> the same shape as x."""
        if real is None or not self.training or self.kind == "frozen":
            return super().construct(x)
        weight = real.reshape((-1, 1, 1, 1))
        count = self.all_reduce(real.sum() * float(x.shape[2] * x.shape[3]))
        share = 1.0 / ops.maximum(count, ops.ones_like(count))
        mean = self.all_reduce((x * weight).sum((0, 2, 3))) * share
        centred = x - mean.reshape((1, -1, 1, 1))
        variance = self.all_reduce((ops.square(centred) * weight).sum((0, 2, 3))) * share
        self._follow_some(mean, variance, count)
        scale = (self.gamma * ops.rsqrt(variance + self.eps)).reshape((1, -1, 1, 1))
        return centred * scale + self.beta.reshape((1, -1, 1, 1))

    def _follow_some(self, mean: ms.Tensor, variance: ms.Tensor, count: ms.Tensor) -> None:
        """Move the running statistics towards mean and biased variance (C) of `count` values, if there are any."""
        step = ops.minimum(count, ops.ones_like(count)) * self.momentum
        unbiased = count / ops.maximum(count - 1.0, ops.ones_like(count))
        mean, variance = ops.stop_gradient(mean), ops.stop_gradient(variance) * unbiased
        ops.assign(self.moving_mean, self.moving_mean + (mean - self.moving_mean) * step)
        ops.assign(self.moving_variance, self.moving_variance + (variance - self.moving_variance) * step)


class RoiPrompter(nn.Cell):
    """Features (R, C, side, side) of boxes -> prompt tokens (R, K, C).

    BatchNorm in training sees the real boxes of the step alone; `train.batch_norm` chooses what it does.

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
            _BoxNorm(channels),
            nn.ReLU(),
            nn.Flatten(),
            Linear(channels * (side // 2) ** 2, channels, start=start),
            nn.ReLU(),
            Linear(channels, channels, start=start),
            nn.ReLU(),
            Linear(channels, channels * 2 * tokens, start=start),
        )

    def construct(self, features: ms.Tensor, real: ms.Tensor | None = None) -> ms.Tensor:
        """See the class; `real` (R,) float32 is 0 for boxes that only fill the shape, None = all are real."""
        x = features
        for index, layer in enumerate(self.point_emb):
            x = layer(x, real) if index == 1 else layer(x)
        return interleaved_tokens(x, self.tokens)
