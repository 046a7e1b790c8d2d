"""Layer normalisation over the last axis, and over the channels of a map."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init

__all__ = ["ChannelNorm", "LayerNorm"]


class LayerNorm(nn.Cell):
    """Normalise the last axis; parameters `gamma` and `beta` (width). `eps` has no default on purpose:
    PyTorch's is 1e-5, MindSpore's 1e-7, and published weights need the one they were trained with."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.gamma = init.parameter(init.constant((width,), 1.0), "gamma")
        self.beta = init.parameter(init.constant((width,)), "beta")
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=eps)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., width) -> the same shape."""
        return self.norm(x, self.gamma, self.beta)[0]


class ChannelNorm(nn.Cell):
    """Normalise over the channels of every pixel of (B, C, H, W); parameters `weight` and `bias` (C)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = init.parameter(init.constant((channels,), 1.0), "weight")
        self.bias = init.parameter(init.constant((channels,)), "bias")
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=eps)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> the same shape."""
        channel_last = ops.transpose(x, (0, 2, 3, 1))
        return ops.transpose(self.norm(channel_last, self.weight, self.bias)[0], (0, 3, 1, 2))
