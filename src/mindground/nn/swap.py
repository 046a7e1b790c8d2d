"""Exchanging two axes in the middle of a tensor: heads with positions, rows of windows with windows."""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from mindground.nn.kernels import fast_cpu_kernels

__all__ = ["swap_middle"]


@ops.constexpr
def _by_parts() -> bool:
    return fast_cpu_kernels()


def swap_middle(x: ms.Tensor) -> ms.Tensor:
    """(A, P, Q, d) -> (A, Q, P, d).

    On a CPU the tensor is split along the shorter of the two axes and stacked along the other. The transposition
    there is slower and keeps an index of eight bytes per element, twice the tensor itself, for as long
    as the compiled graph lives (docs/performance.md).
    """
    outer, first, second, width = x.shape
    if first == 1 or second == 1:
        return x.reshape((outer, second, first, width))
    if not _by_parts():
        return ops.transpose(x, (0, 2, 1, 3))
    if first <= second:
        return ops.stack(ops.unbind(x, 1), 2)
    return ops.stack(ops.unbind(x, 2), 1)
