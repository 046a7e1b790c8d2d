"""Activations."""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.kernels import fast_cpu_kernels

__all__ = ["Gelu", "QuickGelu", "gelu_kernel", "quick_gelu_kernel"]

# Phi(x) = sigmoid(x * P(x^2)), the normal distribution function: P of degree 6, lowest power first, fitted to
# logit(Phi) by re-weighted least squares so that |x| times the error stays level on |x| <= 5.5. In float32
# the GELU built on it is within 5.9e-7 of the exact one for every x; the leading coefficient is positive, so
# it saturates to 0 and 1 far outside the fitted range.
_POLYNOMIAL = (
    1.5957685708999634,
    0.07266829907894135,
    -6.605320959351957e-05,
    -0.00011054683272959664,
    7.948149686853867e-06,
    -2.675668895335548e-07,
    3.6278653414711926e-09,
)
_DENSITY_SCALE = 1.0 / math.sqrt(2.0 * math.pi)
_TINY = 1e-30  # keeps out / x defined at x = 0, where it yields exactly 1/2


class _FastGelu(nn.Cell):
    """Exact (erf) GELU without erf, which costs ten times a multiplication on MindSpore's CPU backend."""

    def __init__(self) -> None:
        super().__init__()
        self.divide = ops.RealDiv()
        # Tensors: the graph compiler takes two Python numbers less than 2.2e-16 apart for the same constant.
        self.tiny = ms.Tensor(_TINY, ms.float32)
        self.half_tiny = ms.Tensor(0.5 * _TINY, ms.float32)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        square = ops.square(x)
        p = square * _POLYNOMIAL[6] + _POLYNOMIAL[5]
        p = p * square + _POLYNOMIAL[4]
        p = p * square + _POLYNOMIAL[3]
        p = p * square + _POLYNOMIAL[2]
        p = p * square + _POLYNOMIAL[1]
        p = p * square + _POLYNOMIAL[0]
        return x * ops.sigmoid(x * p)

    def bprop(self, x: ms.Tensor, out: ms.Tensor, dout: ms.Tensor) -> tuple[ms.Tensor]:
        # Without the dependency on dout a compiled graph is free to run this during the forward pass and to
        # keep the result of every layer alive until the backward pass.
        x = ops.depend(x, dout)
        phi = self.divide(out + self.half_tiny, x + self.tiny)
        density = ops.exp(ops.square(x) * (-0.5)) * _DENSITY_SCALE
        return (dout * (phi + x * density),)


def gelu_kernel() -> nn.Cell:
    """Cell without parameters that applies the exact GELU to a tensor of any shape."""
    return _FastGelu() if fast_cpu_kernels() else nn.GELU(approximate=False)


class Gelu(nn.Cell):
    """Exact GELU x * Phi(x), element by element."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = gelu_kernel()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Any shape -> the same shape."""
        return self.kernel(x)


_QUICK = 1.702


class _FastQuickGelu(nn.Cell):
    """x * sigmoid(1.702 x) with a gradient that keeps only x in memory.

    The framework's gradient also keeps 1.702 x and its sigmoid for every layer, and adds two products.
    """

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return x * ops.sigmoid(x * _QUICK)

    def bprop(self, x: ms.Tensor, out: ms.Tensor, dout: ms.Tensor) -> tuple[ms.Tensor]:
        # As in _FastGelu: not before the incoming gradient exists.
        x = ops.depend(x, dout)
        scaled = x * _QUICK
        share = ops.sigmoid(scaled)
        return (dout * (share + share * (scaled - scaled * share)),)


class _NativeQuickGelu(nn.Cell):
    """The same function with the framework's gradient."""

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return x * ops.sigmoid(x * _QUICK)


def quick_gelu_kernel() -> nn.Cell:
    """Cell without parameters that applies x * sigmoid(1.702 x) to a tensor of any shape."""
    return _FastQuickGelu() if fast_cpu_kernels() else _NativeQuickGelu()


class QuickGelu(nn.Cell):
    """x * sigmoid(1.702 x), the activation that CLIP was trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = quick_gelu_kernel()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Any shape -> the same shape."""
        return self.kernel(x)
