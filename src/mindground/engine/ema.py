"""Exponentially averaged weights in the model's place, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import ops

from mindground.engine.optim.base import Optimizer

__all__ = ["averaged_weights"]


@contextmanager
def averaged_weights(optimizer: Optimizer) -> Iterator[None]:
    """The model computes with the averages of parameters and buffers inside the block; nothing where none are kept."""
    if optimizer.ema_decay <= 0:
        yield
        return
    current = (*optimizer.parameters, *optimizer.buffers)
    averages = (*optimizer.average, *optimizer.buffer_average)
    # A copy of its own: `asnumpy` may show the parameter's memory itself.
    kept = [np.array(parameter.asnumpy()) for parameter in current]
    for parameter, average in zip(current, averages, strict=True):
        ops.assign(parameter, ms.Tensor(np.array(average.asnumpy())).astype(parameter.dtype))
    try:
        yield
    finally:
        for parameter, value in zip(current, kept, strict=True):
            ops.assign(parameter, ms.Tensor(value))
