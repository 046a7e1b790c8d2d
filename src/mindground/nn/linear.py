"""Affine maps over the last axis."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.kernels import fast_cpu_kernels

__all__ = ["Linear", "PlainProduct", "affine_kernel"]


# A product with at least this many rows and at most this many outputs is 10 to 20 % faster on a CPU if the weight is
# transposed first, transposition included; other sizes lose more than they gain (docs/performance.md).
_TRANSPOSED_FROM_ROWS = 1500
_TRANSPOSED_TO_OUTPUTS = 512


class PlainProduct(nn.Cell):
    """x (M, in), weight (out, in) -> x weight^T (M, out)."""

    def __init__(self) -> None:
        super().__init__()
        self.transposes = fast_cpu_kernels()
        self.product = ops.MatMul(transpose_b=True)
        self.product_nn = ops.MatMul()

    def construct(self, x: ms.Tensor, weight: ms.Tensor) -> ms.Tensor:
        """(M, in), (out, in) -> (M, out)."""
        if self.transposes and x.shape[0] >= _TRANSPOSED_FROM_ROWS and weight.shape[0] <= _TRANSPOSED_TO_OUTPUTS:
            # `depend` delays this until x exists: otherwise the transposed weights of all layers are in memory at once.
            return self.product_nn(x, ops.transpose(ops.depend(weight, x), (1, 0)))
        return self.product(x, weight)


class _FastAffine(nn.Cell):
    """x weight^T + bias whose bias gradient is a product with a row of ones.

    The stock gradient sums columns with BiasAddGrad, which costs several times as much on a CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.product = PlainProduct()
        self.product_nn = ops.MatMul()
        self.product_tn = ops.MatMul(transpose_a=True)
        self.add = ops.BiasAdd()

    def construct(self, x: ms.Tensor, weight: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        return self.add(self.product(x, weight), bias)

    def bprop(
        self, x: ms.Tensor, weight: ms.Tensor, bias: ms.Tensor, out: ms.Tensor, dout: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
        ones = ops.ones((1, x.shape[0]), x.dtype)
        d_bias = self.product_nn(ones, dout).reshape(bias.shape)
        return self.product_nn(dout, weight), self.product_tn(dout, x), d_bias


class _NativeAffine(nn.Cell):
    """x weight^T + bias with the framework's gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.product = ops.MatMul(transpose_b=True)
        self.add = ops.BiasAdd()

    def construct(self, x: ms.Tensor, weight: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        return self.add(self.product(x, weight), bias)


def affine_kernel() -> nn.Cell:
    """Cell without parameters: (x (M, in), weight (out, in), bias (out)) -> (M, out)."""
    return _FastAffine() if fast_cpu_kernels() else _NativeAffine()


class Linear(nn.Cell):
    """Affine map over the last axis of a tensor of any rank.

    Parameters: `weight` (out, in) and, if `bias` is set, `bias` (out), as in PyTorch.

    Args:
        in_features: width of the last axis of the input.
        out_features: width of the last axis of the output.
        bias: whether a bias is added.
        start: "trunc_normal" (deviation 0.02, bias 0), "kaiming_uniform" (PyTorch's default, weight and bias
            in +-1/sqrt(in)), "xavier_uniform" (bias 0) or "zeros".
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, start: str = "trunc_normal") -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.has_bias = bias
        shape = (out_features, in_features)
        offset = init.constant((out_features,))
        if start == "trunc_normal":
            value = init.trunc_normal(shape)
        elif start == "kaiming_uniform":
            value = init.kaiming_uniform(shape, in_features)
            offset = init.kaiming_uniform((out_features,), in_features)
        elif start == "xavier_uniform":
            value = init.xavier_uniform(shape)
        elif start == "zeros":
            value = init.constant(shape)
        else:
            raise ValueError(f"start={start!r}; choose trunc_normal, kaiming_uniform, xavier_uniform or zeros")
        self.weight = init.parameter(value, "weight")
        if bias:
            self.bias = init.parameter(offset, "bias")
            self.kernel = affine_kernel()
        else:
            self.kernel = PlainProduct()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(..., in) -> (..., out)."""
        rows = x.reshape((-1, self.in_features))
        if self.has_bias:
            out = self.kernel(rows, self.weight, self.bias)
        else:
            out = self.kernel(rows, self.weight)
        return out.reshape(x.shape[:-1] + (self.out_features,))
