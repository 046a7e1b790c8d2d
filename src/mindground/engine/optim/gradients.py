"""The size of a gradient, and what clipping makes of it."""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

__all__ = ["clip_factor", "sum_of_flat_squares", "sum_of_squares"]

_square_one = ops.MultitypeFuncGraph("square_one")
_squares = ops.HyperMap()
# Below this size a plain reduction costs nothing.
_LARGE = 1 << 16
# Length of the rows that joined small gradients are summed in; one long row would lose digits.
_ROW = 256


@_square_one.register("Tensor")
def _values_of_equal_norm(gradient: ms.Tensor) -> ms.Tensor:
    """A small gradient as one row; of a large one its norm alone."""
    gradient = ops.cast(gradient, ms.float32)
    if gradient.ndim <= 1 or gradient.size < _LARGE:
        return gradient.reshape(-1)
    return ops.sqrt(_sum_of_rows(ops.square(gradient).reshape(gradient.shape[0], -1))).reshape(1)


def _sum_of_rows(values: ms.Tensor) -> ms.Tensor:
    return ops.matmul(values, ops.ones((values.shape[1], 1), ms.float32)).sum()


def clip_factor(norm: float, limit: float, upstream: bool = False) -> float:
    """Factor on all gradients so that their global norm is at most `limit` (0 = do not clip).

    PyTorch adds 1e-6 to the norm; VG-LAW's upstream divides by max(norm, limit).
    """
    if limit <= 0:
        return 1.0
    return limit / max(norm, limit) if upstream else min(1.0, limit / (norm + 1e-6))


def sum_of_squares(gradients: tuple[ms.Tensor, ...]) -> ms.Tensor:
    """Sum of the squares of all values, float32 scalar; runs inside a graph.

    A wide reduction costs 4 to 6 times a product with a column of ones here, and L2Loss loses four digits. Small
    gradients are joined first, so that hundreds of them cost one kernel each.
    """
    joined = ops.concat(_squares(_square_one, gradients))
    missing = -joined.shape[0] % _ROW
    if missing > 0:
        joined = ops.concat((joined, ops.zeros((missing,), ms.float32)))
    return _sum_of_rows(ops.square(joined).reshape(-1, _ROW))


def sum_of_flat_squares(values: ms.Tensor) -> ms.Tensor:
    """Sum of the squares of a float32 vector of any length, float32 scalar; runs inside a graph.

    Row by row, then the sums of the rows the same way: a hundred million numbers in one sum would lose four digits.
    """
    sums = ops.square(values)
    while sums.shape[0] > _ROW:
        missing = -sums.shape[0] % _ROW
        if missing > 0:
            sums = ops.concat((sums, ops.zeros((missing,), ms.float32)))
        sums = ops.matmul(sums.reshape(-1, _ROW), ops.ones((_ROW, 1), ms.float32)).reshape(-1)
    return sums.sum()
