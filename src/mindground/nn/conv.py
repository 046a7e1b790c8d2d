"""Convolutions with PyTorch's layout and start values."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.linear import PlainProduct, affine_kernel

__all__ = ["Conv2d", "Pointwise"]


class Conv2d(nn.Cell):
    """Convolution of maps (B, C, H, W) with zero padding; `weight` (out, in / groups, k, k) and optionally `bias`.

    Args:
        in_channels, out_channels: C before and after.
        kernel: side of the square kernel.
        stride: step in pixels.
        padding: zeros on every side.
        groups: parts that the channels are split into.
        bias: whether a bias is added.
        start: "kaiming_uniform" (PyTorch's default) or "trunc_normal" (deviation 0.02, bias 0).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        start: str = "kaiming_uniform",
    ) -> None:
        super().__init__()
        shape, fan_in = (out_channels, in_channels // groups, kernel, kernel), in_channels // groups * kernel**2
        if start not in ("kaiming_uniform", "trunc_normal"):
            raise ValueError(f"start={start!r}; choose kaiming_uniform or trunc_normal")
        uniform = start == "kaiming_uniform"
        value = init.kaiming_uniform(shape, fan_in) if uniform else init.trunc_normal(shape)
        self.weight = init.parameter(value, "weight")
        self.has_bias = bias
        if bias:
            offset = init.kaiming_uniform((out_channels,), fan_in) if uniform else init.constant((out_channels,))
            self.bias = init.parameter(offset, "bias")
        self.conv = ops.Conv2D(out_channels, kernel, pad_mode="pad", pad=(padding,) * 4, stride=stride, group=groups)
        self.add = ops.BiasAdd()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, in, H, W) -> (B, out, H', W')."""
        y = self.conv(x, self.weight)
        return self.add(y, self.bias) if self.has_bias else y


class Pointwise(nn.Cell):
    """A convolution of kernel 1 over a sequence, computed as a matrix product over the last axis.

    Parameters: `weight` (out, in, 1) and `bias` (out), the layout of PyTorch's Conv1d and its start values.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.has_bias = in_channels, out_channels, bias
        self.weight = init.parameter(init.kaiming_uniform((out_channels, in_channels, 1), in_channels), "weight")
        if bias:
            self.bias = init.parameter(init.kaiming_uniform((out_channels,), in_channels), "bias")
            self.kernel = affine_kernel()
        else:
            self.kernel = PlainProduct()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., in) -> (..., out)."""
        rows = x.reshape((-1, self.in_channels))
        weight = self.weight.reshape((self.out_channels, self.in_channels))
        out = self.kernel(rows, weight, self.bias) if self.has_bias else self.kernel(rows, weight)
        return out.reshape(x.shape[:-1] + (self.out_channels,))
