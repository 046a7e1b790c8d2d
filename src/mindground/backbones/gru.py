"""Bidirectional GRU of one layer (Cho et al., arXiv 1406.1078) with the numbers of PyTorch's, over whole rows.

Padding is not skipped: the backward direction starts on it, so the length of a row is part of what was learned.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn import init
from mindground.nn.linear import affine_kernel

__all__ = ["BiGru", "WordTable"]


class WordTable(nn.Cell):
    """Embedding lookup; parameter `embedding_table` (rows, width), normal of deviation 1 at the start."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.embedding_table = init.parameter(init.normal((rows, width), 1.0), "embedding_table")

    def construct(self, ids: ms.Tensor) -> ms.Tensor:
        """Ids (...) int32 -> (..., width)."""
        return ops.gather(self.embedding_table, ids, 0)


class BiGru(nn.Cell):
    """Both directions advance together, as two groups of one batched product a step.

    Parameters have PyTorch's names and layout: `weight_ih_l0` (3 H, E), `weight_hh_l0` (3 H, H), `bias_ih_l0`,
    `bias_hh_l0` (3 H), rows r, z, n, and the same with `_reverse`.

    Args:
        width: E of the inputs.
        hidden: H of one direction.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        for suffix in ("", "_reverse"):
            shapes = {
                "weight_ih_l0": (3 * hidden, width),
                "weight_hh_l0": (3 * hidden, hidden),
                "bias_ih_l0": (3 * hidden,),
                "bias_hh_l0": (3 * hidden,),
            }
            for name, shape in shapes.items():
                value = init.kaiming_uniform(shape, hidden)
                setattr(self, name + suffix, init.parameter(value, name + suffix))
        self.project = affine_kernel()
        self.product = ops.BatchMatMul(transpose_b=True)

    def _inputs(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """(B, T, E) -> what the inputs add to the gates, (T, B, 3 H), forwards and backwards in time."""
        batch, count, width = x.shape
        rows = ops.transpose(x, (1, 0, 2)).reshape((count * batch, width))
        shape = (count, batch, 3 * self.hidden)
        forward = self.project(rows, self.weight_ih_l0, self.bias_ih_l0).reshape(shape)
        backward = self.project(rows, self.weight_ih_l0_reverse, self.bias_ih_l0_reverse).reshape(shape)
        return forward, backward

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        """x (B, T, E) -> outputs of both directions (B, T, 2 H), and their last states side by side (B, 2 H)."""
        batch, count, _ = x.shape
        forward, backward = self._inputs(x)
        forward, backward = ops.unbind(forward, 0), ops.unbind(backward, 0)
        weights = ops.stack((self.weight_hh_l0, self.weight_hh_l0_reverse), 0)
        biases = ops.stack((self.bias_hh_l0, self.bias_hh_l0_reverse), 0).expand_dims(1)
        biases = ops.broadcast_to(biases, (2, batch, 3 * self.hidden))
        state = ops.zeros((2, batch, self.hidden), x.dtype)
        ahead: tuple[ms.Tensor, ...] = ()
        behind: tuple[ms.Tensor, ...] = ()
        for step in range(count):
            given = ops.stack((forward[step], backward[count - 1 - step]), 0)
            state = self._step(given, self.product(state, weights) + biases, state)
            there, back = ops.unbind(state, 0)
            ahead = ahead + (there,)
            behind = (back,) + behind
        outputs = ops.concat((ops.stack(ahead, 1), ops.stack(behind, 1)), -1)
        return outputs, ops.concat((ahead[count - 1], behind[0]), -1)

    def _step(self, given: ms.Tensor, own: ms.Tensor, state: ms.Tensor) -> ms.Tensor:
        """Gates from inputs and state, (2, B, 3 H) each, and the state (2, B, H) -> the next state."""
        r_given, z_given, n_given = ops.split(given, self.hidden, -1)
        r_own, z_own, n_own = ops.split(own, self.hidden, -1)
        reset, update = ops.sigmoid(r_given + r_own), ops.sigmoid(z_given + z_own)
        fresh = ops.tanh(n_given + reset * n_own)
        return fresh + update * (state - fresh)
