"""Stochastic depth."""

from __future__ import annotations

import mindspore as ms
from mindspore import nn, ops

from mindground.nn.noise import Dropout

__all__ = ["DropPath"]


class DropPath(nn.Cell):
    """Drop a residual branch per sample, in training only; the other branches are scaled by 1/(1-rate)."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"drop path rate {rate}; choose a value from 0 up to, not including, 1")
        self.rate = rate
        self.dropout = Dropout(rate)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, ...) -> the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        keep = self.dropout(ops.ones((x.shape[0],) + (1,) * (x.ndim - 1), x.dtype))
        return x * ops.broadcast_to(keep, x.shape)
