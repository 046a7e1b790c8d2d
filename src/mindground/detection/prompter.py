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
        """x (R, C, h, w), real (R,) float32 of 0 and 1, None = all are real -> the same shape as x."""
        if not self.training or self.kind == "frozen":
            return self.by_running(x, self.gamma, self.beta, self.moving_mean, self.moving_variance)[0]
        if real is None:
            real = ops.ones((x.shape[0],), ms.float32)
        weight = real.reshape((-1, 1, 1, 1))
        count = self._joint(real.sum() * float(x.shape[2] * x.shape[3]))
        one = ops.ones_like(count)
        share = 1.0 / ops.maximum(count, one)
        mean = self._joint((x * weight).sum((0, 2, 3))) * share
        centred = x - mean.reshape((1, -1, 1, 1))
        variance = self._joint((ops.square(centred) * weight).sum((0, 2, 3))) * share
        step = ops.minimum(count, one) * self.momentum
        unbiased = ops.stop_gradient(variance) * (count / ops.maximum(count - 1.0, one))
        ops.assign(self.moving_mean, self.moving_mean + (ops.stop_gradient(mean) - self.moving_mean) * step)
        ops.assign(self.moving_variance, self.moving_variance + (unbiased - self.moving_variance) * step)
        scale = (self.gamma * ops.rsqrt(variance + self.eps)).reshape((1, -1, 1, 1))
        return centred * scale + self.beta.reshape((1, -1, 1, 1))

    def _joint(self, values: ms.Tensor) -> ms.Tensor:
        """The sum over all ranks where they share their statistics."""
        if self.ranks > 1:
            return self.all_reduce(values)
        return values


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
        self.point_emb = nn.CellList(
            [
                Conv2d(channels, channels, 3, 2, 1),
                _BoxNorm(channels),
                nn.ReLU(),
                nn.Flatten(),
                Linear(channels * (side // 2) ** 2, channels, start=start),
                nn.ReLU(),
                Linear(channels, channels, start=start),
                nn.ReLU(),
                Linear(channels, channels * 2 * tokens, start=start),
            ]
        )

    def construct(self, features: ms.Tensor, real: ms.Tensor | None = None) -> ms.Tensor:
        """See the class; `real` (R,) float32 is 0 for boxes that only fill the shape, None = all are real."""
        x = self.point_emb[1](self.point_emb[0](features), real)
        for index in range(2, len(self.point_emb)):
            x = self.point_emb[index](x)
        return interleaved_tokens(x, self.tokens)
