"""Initial values of parameters, always materialised, drawn from MindSpore's global seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import mindspore as ms
import numpy as np
from mindspore.common import initializer as msinit

from mindground.errors import WeightsError

__all__ = [
    "at_most",
    "constant",
    "kaiming_uniform",
    "normal",
    "parameter",
    "sincos_positions",
    "trunc_normal",
    "xavier_uniform",
]

_left: ContextVar[int | None] = ContextVar("numbers that may still be made", default=None)


@contextmanager
def at_most(numbers: int) -> Iterator[None]:
    """Inside it the initial values of parameters may be so many numbers together.

    For a network that a file describes: its sizes are compared with what the file holds before memory is taken.

    Raises:
        WeightsError: from the function that would make the first number too many.
    """
    token = _left.set(numbers)
    try:
        yield
    finally:
        _left.reset(token)


def _counted(shape: Sequence[int]) -> tuple[int, ...]:
    left = _left.get()
    if left is not None:
        left -= math.prod(shape)
        if left < 0:
            raise WeightsError(
                f"the network has a tensor of shape {tuple(shape)}, which the file has no weights for; sizes in the "
                "configuration are not those of the weights"
            )
        _left.set(left)
    return tuple(shape)


def trunc_normal(shape: Sequence[int], std: float = 0.02) -> ms.Tensor:
    """Normal of deviation `std`, truncated to [-2, 2] as PyTorch's `trunc_normal_` does."""
    # Below a tenth of the bound no value reaches it, and the plain generator is three times as fast.
    kind = msinit.Normal(std) if std < 0.2 else msinit.TruncatedNormal(std)
    return msinit.initializer(kind, _counted(shape), ms.float32).init_data()


def normal(shape: Sequence[int], std: float = 0.02) -> ms.Tensor:
    """Normal of deviation `std`."""
    return msinit.initializer(msinit.Normal(std), _counted(shape), ms.float32).init_data()


def kaiming_uniform(shape: Sequence[int], fan_in: int) -> ms.Tensor:
    """Uniform in +-1/sqrt(fan_in): Kaiming with a=sqrt(5), the default of PyTorch's Linear and Conv."""
    bound = 1.0 / math.sqrt(max(1, fan_in))
    return msinit.initializer(msinit.Uniform(bound), _counted(shape), ms.float32).init_data()


def xavier_uniform(shape: Sequence[int]) -> ms.Tensor:
    """Uniform in +-sqrt(6 / (rows + columns)) of a matrix (Glorot and Bengio 2010)."""
    bound = math.sqrt(6.0 / (shape[0] + shape[1]))
    return msinit.initializer(msinit.Uniform(bound), _counted(shape), ms.float32).init_data()


def constant(shape: Sequence[int], value: float = 0.0) -> ms.Tensor:
    """Every entry equal to `value`."""
    return ms.Tensor(np.full(_counted(shape), value, np.float32))


def parameter(tensor: ms.Tensor, name: str, requires_grad: bool = True) -> ms.Parameter:
    """Named parameter. A parameter made from an unmaterialised initialiser can silently lose its gradient."""
    return ms.Parameter(tensor, name=name, requires_grad=requires_grad)


def sincos_positions(rows: int, columns: int, width: int, standardised: bool = False) -> np.ndarray:
    """(rows * columns, width) sines and cosines of the row in one half, of the column in the other (MAE, app. A.1).

    On a small grid the low frequencies hardly vary and most channels are nearly constant. `standardised` gives every
    channel mean 0 and deviation 1 over the grid, so that these channels become ramps and parabolas of the coordinates.

    Raises:
        ValueError: `width` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width={width} must be a multiple of 4 for sine and cosine positions")
    rates = 1.0 / 10000 ** (np.arange(width // 4) / (width // 4))
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    halves = [np.concatenate([np.sin(a), np.cos(a)], 1) for a in (y.reshape(-1, 1) * rates, x.reshape(-1, 1) * rates)]
    table = np.concatenate(halves, 1)
    if standardised:
        # The lowest cosines of a small grid vary by less than 1e-6; the summand keeps their rounding errors small.
        table = (table - table.mean(0)) / (table.std(0) + 1e-6)
    return table.astype(np.float32)
