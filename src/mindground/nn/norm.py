"""Layer normalisation over the last axis, and over the channels of a map."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.kernels import fast_cpu_kernels

__all__ = ["ChannelNorm", "InstanceNorm", "LayerNorm", "norm_kernel"]


class _FastNorm(nn.Cell):
    """Normalise the rows of x (R, C): two to four times as fast as MindSpore's kernel, which uses one core.

    Values per row or per column are expanded to (R, C) by a product with ones: adding or multiplying a column with
    broadcasting costs several times as much on a CPU. The variance is that of centred values, so a large mean loses
    no precision.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.product = ops.MatMul()
        self.product_tn = ops.MatMul(transpose_a=True)
        self.add = ops.BiasAdd()

    def _centred(self, x: ms.Tensor, mean: ms.Tensor) -> ms.Tensor:
        return x - self.product(mean, ops.ones((1, x.shape[1]), x.dtype))

    def construct(self, x: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        """x (R, C), gamma and beta (C) -> normalised rows (R, C), their means and reciprocal deviations (R, 1)."""
        mean = x.mean(-1, keep_dims=True)
        centred = self._centred(x, mean)
        scale = ops.rsqrt(ops.square(centred).mean(-1, keep_dims=True) + self.eps)
        return self.add(centred * self.product(scale, gamma.expand_dims(0)), beta), mean, scale

    def bprop(
        self,
        x: ms.Tensor,
        gamma: ms.Tensor,
        beta: ms.Tensor,
        out: tuple[ms.Tensor, ms.Tensor, ms.Tensor],
        dout: tuple[ms.Tensor, ms.Tensor, ms.Tensor],
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        dy, (_, mean, scale) = dout[0], out
        rows, width = x.shape
        # Not before the incoming gradient exists: otherwise a compiled graph keeps the expanded forward tensors.
        x, mean, scale = ops.depend(x, dy), ops.depend(mean, dy), ops.depend(scale, dy)
        centred = self._centred(x, mean)
        dy_centred = dy * centred
        d_gamma = self.product_tn(scale, dy_centred).reshape(gamma.shape)
        d_beta = self.product(ops.ones((1, rows), x.dtype), dy).reshape(beta.shape)
        # With h = (x - m) s the normalised row: dx = s (g dy - mean(g dy) - h mean(g dy h)).
        share = gamma.expand_dims(1) / width
        slope = self.product(dy_centred, share) * scale * scale * scale
        offset = self.product(dy, share) * scale
        ones = ops.ones((1, width), x.dtype)
        d_x = dy * self.product(scale, gamma.expand_dims(0)) - centred * self.product(slope, ones)
        return d_x - self.product(offset, ones), d_gamma, d_beta


class _NativeNorm(nn.Cell):
    """The same function by the framework's kernel, gradient included."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=eps)

    def construct(self, x: ms.Tensor, gamma: ms.Tensor, beta: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        return self.norm(x, gamma, beta)


def norm_kernel(eps: float) -> nn.Cell:
    """Cell without parameters: (x (R, C), gamma (C), beta (C)) -> normalised rows (R, C), and two more tensors."""
    return _FastNorm(eps) if fast_cpu_kernels() else _NativeNorm(eps)


class LayerNorm(nn.Cell):
    """Normalise the last axis; parameters `gamma` and `beta` (width). `eps` has no default on purpose:
    PyTorch's is 1e-5, MindSpore's 1e-7, and published weights need the one they were trained with."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.width = width
        self.gamma = init.parameter(init.constant((width,), 1.0), "gamma")
        self.beta = init.parameter(init.constant((width,)), "beta")
        self.kernel = norm_kernel(eps)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., width) -> the same shape."""
        return self.kernel(x.reshape((-1, self.width)), self.gamma, self.beta)[0].reshape(x.shape)


class ChannelNorm(nn.Cell):
    """Normalise over the channels of every pixel of (B, C, H, W); parameters `weight` and `bias` (C)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = init.parameter(init.constant((channels,), 1.0), "weight")
        self.bias = init.parameter(init.constant((channels,)), "bias")
        self.kernel = norm_kernel(eps)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, C, H, W) -> the same shape."""
        channel_last = ops.transpose(x, (0, 2, 3, 1))
        rows = channel_last.reshape((-1, channel_last.shape[-1]))
        normal = self.kernel(rows, self.weight, self.bias)[0]
        return ops.transpose(normal.reshape(channel_last.shape), (0, 3, 1, 2))


class _FastInstanceNorm(nn.Cell):
    """Normalise every column of x (B, N, C); sums over N are products with a row of ones."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.product = ops.BatchMatMul()

    def _mean(self, x: ms.Tensor) -> ms.Tensor:
        return self.product(ops.ones((x.shape[0], 1, x.shape[1]), x.dtype) * (1.0 / x.shape[1]), x)

    def _spread(self, row: ms.Tensor, x: ms.Tensor) -> ms.Tensor:
        return self.product(ops.ones((x.shape[0], x.shape[1], 1), x.dtype), row)

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """x (B, N, C) -> normalised (B, N, C) and the reciprocal deviations (B, 1, C)."""
        centred = x - self._spread(self._mean(x), x)
        scale = ops.rsqrt(self._mean(ops.square(centred)) + self.eps)
        return centred * self._spread(scale, x), scale

    def bprop(
        self, x: ms.Tensor, out: tuple[ms.Tensor, ms.Tensor], dout: tuple[ms.Tensor, ms.Tensor]
    ) -> tuple[ms.Tensor]:
        # With y = (x - m) s: dx = s (g - mean(g) - y mean(g y)).
        g, (y, scale) = dout[0], out
        slope, offset = self._mean(g * y), self._mean(g)
        return ((g - self._spread(offset, g) - y * self._spread(slope, g)) * self._spread(scale, g),)


class _NativeInstanceNorm(nn.Cell):
    """The same function with the framework's gradient."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        centred = x - x.mean(1, keep_dims=True)
        scale = ops.rsqrt(ops.square(centred).mean(1, keep_dims=True) + self.eps)
        return centred * scale, scale


class InstanceNorm(nn.Cell):
    """Normalise every channel of every sample over its positions; no parameters, no running statistics."""

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.kernel = _FastInstanceNorm(eps) if fast_cpu_kernels() else _NativeInstanceNorm(eps)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, N, C) -> the same shape."""
        return self.kernel(x)[0]
