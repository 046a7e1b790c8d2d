"""Exponentially averaged weights in the model's place, for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.engine.optim.base import Optimizer

__all__ = ["averaged_weights", "other_weights"]


@contextmanager
def averaged_weights(optimizer: Optimizer) -> Iterator[None]:
    """The model computes with the averages of parameters and buffers inside the block; nothing where none are kept."""
    if optimizer.ema_decay <= 0:
        yield
        return
    current = (*optimizer.parameters, *optimizer.buffers)
    averages = (*optimizer.average, *optimizer.buffer_average)
    with _exchanged(current, [np.array(average.asnumpy()) for average in averages]):
        yield


@contextmanager
def other_weights(model: nn.Cell, values: Mapping[str, np.ndarray]) -> Iterator[None]:
    """The model computes with these values inside the block; parameters without a value keep their own.

    Args:
        values: by the parameters' names, in their shapes.
    """
    current = [parameter for name, parameter in model.parameters_and_names() if name in values]
    with _exchanged(current, [values[parameter.name] for parameter in current]):
        yield


@contextmanager
def _exchanged(parameters: Sequence[ms.Parameter], values: Sequence[np.ndarray]) -> Iterator[None]:
    # A copy of its own: `asnumpy` may show the parameter's memory itself.
    kept = [np.array(parameter.asnumpy()) for parameter in parameters]
    for parameter, value in zip(parameters, values, strict=True):
        ops.assign(parameter, ms.Tensor(np.array(value)).astype(parameter.dtype))
    try:
        yield
    finally:
        for parameter, value in zip(parameters, kept, strict=True):
            ops.assign(parameter, ms.Tensor(value))
