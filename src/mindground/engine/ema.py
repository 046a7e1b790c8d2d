"""Exponentially averaged weights in the model's place, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import ops

from mindground.engine.optim.adamw import AdamW

__all__ = ["averaged_weights"]


@contextmanager
def averaged_weights(optimizer: AdamW) -> Iterator[None]:
    """The model computes with the averages inside the block; does nothing where none are kept."""
    if optimizer.ema_decay <= 0:
        yield
        return
    # A copy of its own: `asnumpy` may show the parameter's memory itself.
    kept = [np.array(parameter.asnumpy()) for parameter in optimizer.parameters]
    for parameter, average in zip(optimizer.parameters, optimizer.average, strict=True):
        ops.assign(parameter, ms.Tensor(np.array(average.asnumpy())).astype(parameter.dtype))
    try:
        yield
    finally:
        for parameter, value in zip(optimizer.parameters, kept, strict=True):
            ops.assign(parameter, ms.Tensor(value))
