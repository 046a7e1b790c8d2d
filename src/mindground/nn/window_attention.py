"""Attention among the tokens of a window, with one learned bias for all windows and a constant mask for each.

The bias enters the logits as one addition over rows of heads * N * N values, and its gradient is a product with a row
of ones: MindSpore's broadcasting and its sums over leading axes cost several times as much on a CPU.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.attention import FastCore, scores_gradient
from mindground.nn.kernels import fast_cpu_kernels

__all__ = ["window_core"]


class _Core(FastCore):
    def __init__(self, scale: float) -> None:
        super().__init__(scale)
        self.add = ops.BiasAdd()
        self.product = ops.MatMul()

    def _biased(self, scores: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        """(G, N, N) + (heads, N, N), heads last among the groups."""
        return self.add(scores.reshape((-1, bias.size)), bias.reshape(-1)).reshape(scores.shape)

    def _masked(self, scores: ms.Tensor, bias: ms.Tensor, mask: ms.Tensor) -> ms.Tensor:
        """(G, N, N) + (heads, N, N) + (windows, N, N); windows stand before the heads."""
        heads, count, _ = bias.shape
        spread = ops.broadcast_to(mask.expand_dims(1), (mask.shape[0], heads, count, count))
        both = self.add(spread.reshape((mask.shape[0], -1)), bias.reshape(-1))
        return self.add(scores.reshape((-1, both.size)), both.reshape(-1)).reshape(scores.shape)

    def _bias_gradient(self, d_scores: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        rows = d_scores.reshape((-1, bias.size))
        return self.product(ops.ones((1, rows.shape[0]), rows.dtype), rows).reshape(bias.shape)


class _FastWindowCore(_Core):
    """softmax(scale * q k^T + bias) v."""

    def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor) -> ms.Tensor:
        return self.bmm(self.softmax(self._biased(self.bmm_nt(q * self.scale, k), bias)), v)

    def bprop(
        self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor, out: ms.Tensor, dout: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        scaled = ops.depend(q, dout) * self.scale
        probabilities = self.softmax(self._biased(self.bmm_nt(scaled, k), bias))
        d_scores = scores_gradient(probabilities, v, out, dout, None)
        d_q, d_k = self.bmm(d_scores, k) * self.scale, self.bmm_tn(d_scores, scaled)
        return d_q, d_k, self.bmm_tn(probabilities, dout), self._bias_gradient(d_scores, bias)


class _FastMaskedWindowCore(_Core):
    """softmax(scale * q k^T + bias + mask) v."""

    def construct(self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor, mask: ms.Tensor) -> ms.Tensor:
        return self.bmm(self.softmax(self._masked(self.bmm_nt(q * self.scale, k), bias, mask)), v)

    def bprop(
        self,
        q: ms.Tensor,
        k: ms.Tensor,
        v: ms.Tensor,
        bias: ms.Tensor,
        mask: ms.Tensor,
        out: ms.Tensor,
        dout: ms.Tensor,
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        scaled = ops.depend(q, dout) * self.scale
        probabilities = self.softmax(self._masked(self.bmm_nt(scaled, k), bias, mask))
        d_scores = scores_gradient(probabilities, v, out, dout, None)
        d_q, d_k = self.bmm(d_scores, k) * self.scale, self.bmm_tn(d_scores, scaled)
        d_v, d_bias = self.bmm_tn(probabilities, dout), self._bias_gradient(d_scores, bias)
        return d_q, d_k, d_v, d_bias, ops.zeros_like(mask)


class _NativeWindowCore(nn.Cell):
    """The same function with broadcasting and the framework's gradients."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.bmm = ops.BatchMatMul()
        self.bmm_nt = ops.BatchMatMul(transpose_b=True)
        self.softmax = ops.Softmax(-1)

    def construct(
        self, q: ms.Tensor, k: ms.Tensor, v: ms.Tensor, bias: ms.Tensor, mask: ms.Tensor | None = None
    ) -> ms.Tensor:
        scores = self.bmm_nt(q * self.scale, k)
        heads, count, _ = bias.shape
        split = scores.reshape((-1, heads, count, count)) + bias.expand_dims(0)
        if mask is not None:
            split = split.reshape((-1, mask.shape[0], heads, count, count)) + mask.expand_dims(1).expand_dims(0)
        return self.bmm(self.softmax(split.reshape(scores.shape)), v)


def window_core(scale: float, masked: bool) -> nn.Cell:
    """Cell without parameters: q, k, v (G, N, d), bias (heads, N, N)[, mask (windows, N, N)] -> (G, N, d).

    G is batch times windows times heads, heads last.

    Args:
        scale: factor of q k^T.
        masked: whether the Cell takes a mask, which gets no gradient.
    """
    if not fast_cpu_kernels():
        return _NativeWindowCore(scale)
    return _FastMaskedWindowCore(scale) if masked else _FastWindowCore(scale)
