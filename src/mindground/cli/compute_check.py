"""A small compiled calculation with its gradient, compared with NumPy."""

from __future__ import annotations

import time

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.errors import DeviceError

__all__ = ["check_compute"]

_TOLERANCE = 1e-3


class _Layer(nn.Cell):
    """Sum of tanh(x w)."""

    def construct(self, x: ms.Tensor, w: ms.Tensor) -> ms.Tensor:
        """(N, C), (C, K) -> scalar."""
        return ops.tanh(ops.matmul(x, w)).sum()


def check_compute() -> tuple[float, float]:
    """Compile, compute forward and backward on the selected device.

    Returns:
        Seconds, and the largest difference from NumPy relative to the largest value.

    Raises:
        DeviceError: the numbers are wrong.
    """
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((64, 32)).astype(np.float32), rng.standard_normal((32, 16)).astype(np.float32)
    start = time.perf_counter()
    value, gradient = ms.value_and_grad(_Layer(), grad_position=1)(ms.Tensor(x), ms.Tensor(w))
    found, slope = float(value.asnumpy()), gradient.asnumpy()
    seconds = time.perf_counter() - start
    y = np.tanh(x.astype(np.float64) @ w)
    right = x.T @ (1 - y**2)
    difference = max(abs(found - y.sum()) / np.abs(y).sum(), np.abs(slope - right).max() / np.abs(right).max())
    if not difference <= _TOLERANCE:
        raise DeviceError(
            f"a product and its gradient differ from NumPy's by {difference:.1e}; reinstall MindSpore, or choose "
            "another device with --device_target"
        )
    return seconds, float(difference)
