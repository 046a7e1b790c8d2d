"""Adaptive rotated convolution: 3x3 kernels turned by an angle that every sample chooses (RMSIN's decoder).

A turned kernel is the stored one sampled bilinearly at turned taps, which is a 9 x 9 matrix M(theta) on its taps. On
either side of 0 every entry of M is a sum of 1, cos, sin and cos sin with coefficients -1, 0 or 1. This form has a
derivative at theta = 0, where the bilinear weights have a kink: that of the side theta >= 0.
"""

from __future__ import annotations

import math
from functools import lru_cache

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.conv import Conv2d
from mindground.nn.linear import Linear
from mindground.nn.noise import Dropout
from mindground.nn.norm import LayerNorm

__all__ = ["RotatedConv", "Routing", "rotate_kernels", "rotation_matrix", "sampling_matrix"]

TAPS = 9
# Angles stay below 40 degrees; up to 45 at most four taps take part in a turned one.
LARGEST_ANGLE = math.radians(40.0)


def sampling_matrix(theta: float) -> np.ndarray:
    """(9, 9) float64: row = tap of the turned kernel, column = tap of the stored one; |theta| <= 45 degrees.

    Taps are counted row by row. A tap that would leave the kernel is moved to its edge.
    """
    at = np.asarray([(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)], np.float64)
    down = np.clip(at[:, 0] * np.cos(theta) + at[:, 1] * np.sin(theta), -1, 1)
    across = np.clip(-at[:, 0] * np.sin(theta) + at[:, 1] * np.cos(theta), -1, 1)

    def hat(distance: np.ndarray) -> np.ndarray:
        return np.maximum(0.0, 1.0 - np.abs(distance))

    return hat(down[:, None] - at[None, :, 0]) * hat(across[:, None] - at[None, :, 1])


@lru_cache(maxsize=1)
def _coefficients() -> np.ndarray:
    """(8, 81): coefficients of 1, cos, sin, cos sin for theta >= 0, then for theta < 0."""
    sides = []
    for sign in (1.0, -1.0):
        angles = sign * np.radians(np.arange(2.0, 44.0, 3.0))
        basis = np.stack([np.ones_like(angles), np.cos(angles), np.sin(angles), np.cos(angles) * np.sin(angles)], 1)
        entries = np.stack([sampling_matrix(angle).reshape(-1) for angle in angles])
        # Whole numbers, which the solution meets up to rounding.
        sides.append(np.round(np.linalg.lstsq(basis, entries, rcond=None)[0]))
    return np.concatenate(sides).astype(np.float32)


@lru_cache(maxsize=1)
def _build_coefficients() -> ms.Tensor:
    return ms.Tensor(_coefficients())


@ops.constexpr
def _coefficients_constant() -> ms.Tensor:
    return _build_coefficients()


def rotation_matrix(theta: ms.Tensor) -> ms.Tensor:
    """Angles (B, n) in radians, at most 45 degrees -> (B, n, 9, 9), rows the taps of the turned kernel."""
    batch, kernels = theta.shape
    flat = theta.reshape((-1, 1))
    cosine, sine = ops.cos(flat), ops.sin(flat)
    basis = ops.concat((ops.ones_like(flat), cosine, sine, cosine * sine), 1)
    positive = ops.broadcast_to((flat >= 0).astype(theta.dtype), basis.shape)
    both = ops.concat((basis * positive, basis * (1.0 - positive)), 1)
    return ops.matmul(both, _coefficients_constant()).reshape((batch, kernels, TAPS, TAPS))


def rotate_kernels(weight: ms.Tensor, scale: ms.Tensor, theta: ms.Tensor) -> tuple[ms.Tensor, ...]:
    """The kernels of every sample: turned, scaled and summed over n.

    Args:
        weight: (n, out, in, 3, 3).
        scale, theta: (B, n).

    Returns:
        One tensor (out, in, 3, 3) for each of the B samples.
    """
    kernels, out_channels, in_channels = weight.shape[0], weight.shape[1], weight.shape[2]
    batch = theta.shape[0]
    matrices = rotation_matrix(theta).reshape((batch * kernels, TAPS * TAPS))
    matrices = matrices * ops.broadcast_to(scale.reshape((-1, 1)), matrices.shape)
    matrices = matrices.reshape((batch, kernels, TAPS, TAPS))
    product = ops.MatMul(transpose_b=True)
    shape = (out_channels, in_channels, 3, 3)
    stored = ()
    for kernel in range(kernels):
        stored = stored + (weight[kernel].reshape((out_channels * in_channels, TAPS)),)
    turned = ()
    for sample in range(batch):
        total = product(stored[0], matrices[sample, 0])
        for kernel in range(1, kernels):
            total = total + product(stored[kernel], matrices[sample, kernel])
        turned = turned + (total.reshape(shape),)
    return turned


class Routing(nn.Cell):
    """Reads weight and angle of every kernel off the map.

    Args:
        channels: of the map.
        kernels: n.
        dropout: on the averaged map, drawn for weights and angles apart, in training only.
    """

    def __init__(self, channels: int, kernels: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.dwc = Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False, start="trunc_normal")
        self.norm = LayerNorm(channels, 1e-5)
        self.product = ops.BatchMatMul()
        self.drop_alpha, self.drop_theta = Dropout(dropout), Dropout(dropout)
        self.fc_alpha = Linear(channels, kernels)
        self.fc_alpha.bias.set_data(init.kaiming_uniform((kernels,), channels))
        self.fc_theta = Linear(channels, kernels, bias=False)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """(B, C, H, W) -> weights in (0, 1) and angles in radians, both (B, n)."""
        seen = ops.relu(self.norm(ops.transpose(self.dwc(x), (0, 2, 3, 1))))
        # A product with a row of ones is the mean over pixels that is fast on a CPU.
        pixels = seen.reshape((seen.shape[0], -1, seen.shape[3]))
        ones = ops.ones((pixels.shape[0], 1, pixels.shape[1]), x.dtype) * (1.0 / pixels.shape[1])
        mean = self.product(ones, pixels).reshape((seen.shape[0], -1))
        alpha = ops.sigmoid(self.fc_alpha(self.drop_alpha(mean)))
        theta = self.fc_theta(self.drop_theta(mean))
        return alpha, theta / (ops.abs(theta) + 1.0) * LARGEST_ANGLE


class RotatedConv(nn.Cell):
    """3x3 convolution without bias, its kernels turned for every sample.

    Parameters: `weight` (n, out, in, 3, 3) and those of `routing`.

    Args:
        in_channels, out_channels: of the maps.
        kernels: n, which are turned, weighted and summed.
        dropout: of the routing.
    """

    def __init__(self, in_channels: int, out_channels: int, kernels: int = 1, dropout: float = 0.2) -> None:
        super().__init__()
        deviation = math.sqrt(2.0 / (kernels * in_channels * TAPS))
        shape = (kernels, out_channels, in_channels, 3, 3)
        self.weight = init.parameter(init.normal(shape, deviation), "weight")
        self.routing = Routing(in_channels, kernels, dropout)
        self.conv = ops.Conv2D(out_channels, 3, pad_mode="pad", pad=(1,) * 4)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        alpha, theta = self.routing(x)
        kernels = rotate_kernels(self.weight, alpha, theta)
        if x.shape[0] == 1:
            return self.conv(x, kernels[0])
        results = ()
        for sample in range(x.shape[0]):
            results = results + (self.conv(x[sample : sample + 1], kernels[sample]),)
        return ops.concat(results, 0)
