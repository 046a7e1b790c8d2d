"""Transposed convolution of kernel 2 and stride 2: every pixel becomes four."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init

__all__ = ["Deconv2x"]


class Deconv2x(nn.Cell):
    """(B, C, h, w) -> (B, out, 2 h, 2 w). Without overlap it is one matrix product and a change of order.

    Parameters: `weight` (C, out, 2, 2) and `bias` (out), PyTorch's layout and start values.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        # PyTorch takes the second axis for the fan-in of either convolution.
        fan_in = out_channels * 4
        self.weight = init.parameter(init.kaiming_uniform((in_channels, out_channels, 2, 2), fan_in), "weight")
        self.bias = init.parameter(init.kaiming_uniform((out_channels,), fan_in), "bias")
        self.product = ops.BatchMatMul(transpose_a=True)
        self.add = ops.BiasAdd()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """See the class."""
        batch, channels, height, width = x.shape
        out = self.out_channels
        weight = self.weight.reshape((1, channels, out * 4))
        weight = ops.broadcast_to(weight, (batch, channels, out * 4))
        y = self.product(weight, x.reshape((batch, channels, height * width)))
        y = ops.transpose(y.reshape((batch * out, 2, 2, height, width)), (0, 3, 1, 4, 2))
        return self.add(y.reshape((batch, out, 2 * height, 2 * width)), self.bias)
