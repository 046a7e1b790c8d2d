"""Start values of parameters, always materialised, drawn from MindSpore's global seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore.common import initializer as msinit

__all__ = ["constant", "kaiming_uniform", "normal", "parameter", "sincos_positions", "trunc_normal", "xavier_uniform"]


def trunc_normal(shape: Sequence[int], std: float = 0.02) -> ms.Tensor:
    """Normal of deviation `std`, cut at -2 and 2 as PyTorch's `trunc_normal_` does."""
    # Below a tenth of the cut nothing is ever cut, and the plain generator is three times as fast.
    kind = msinit.Normal(std) if std < 0.2 else msinit.TruncatedNormal(std)
    return msinit.initializer(kind, tuple(shape), ms.float32).init_data()


def normal(shape: Sequence[int], std: float = 0.02) -> ms.Tensor:
    """Normal of deviation `std`."""
    return msinit.initializer(msinit.Normal(std), tuple(shape), ms.float32).init_data()


def kaiming_uniform(shape: Sequence[int], fan_in: int) -> ms.Tensor:
    """Uniform in +-1/sqrt(fan_in): Kaiming with a=sqrt(5), the default of PyTorch's Linear and Conv."""
    bound = 1.0 / math.sqrt(max(1, fan_in))
    return msinit.initializer(msinit.Uniform(bound), tuple(shape), ms.float32).init_data()


def xavier_uniform(shape: Sequence[int]) -> ms.Tensor:
    """Uniform in +-sqrt(6 / (rows + columns)) of a matrix (Glorot and Bengio 2010)."""
    bound = math.sqrt(6.0 / (shape[0] + shape[1]))
    return msinit.initializer(msinit.Uniform(bound), tuple(shape), ms.float32).init_data()


def constant(shape: Sequence[int], value: float = 0.0) -> ms.Tensor:
    """Every entry equal to `value`."""
    return ms.Tensor(np.full(tuple(shape), value, np.float32))


def parameter(tensor: ms.Tensor, name: str, requires_grad: bool = True) -> ms.Parameter:
    """Named parameter. A parameter made from an unmaterialised initialiser can silently lose its gradient."""
    return ms.Parameter(tensor, name=name, requires_grad=requires_grad)


def sincos_positions(rows: int, columns: int, width: int, standardised: bool = False) -> np.ndarray:
    """(rows * columns, width) sines and cosines of the row in one half, of the column in the other (MAE, app. A.1).

    On a small grid the slow waves hardly move and most channels are constants. `standardised` gives every channel mean
    0 and deviation 1 over the grid, which turns those constants into ramps and parabolas, coordinates that can be read.

    Raises:
        ValueError: `width` is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"width={width} must be a multiple of 4 for sine and cosine positions")
    rates = 1.0 / 10000 ** (np.arange(width // 4) / (width // 4))
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    halves = [np.concatenate([np.sin(a), np.cos(a)], 1) for a in (y.reshape(-1, 1) * rates, x.reshape(-1, 1) * rates)]
    waves = np.concatenate(halves, 1)
    if standardised:
        # The slowest cosines of a small grid vary by less than 1e-6; the summand keeps them small instead of rough.
        waves = (waves - waves.mean(0)) / (waves.std(0) + 1e-6)
    return waves.astype(np.float32)
