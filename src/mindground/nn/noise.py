"""Dropout whose pattern is a function of seed and step, so that a resumed run repeats it to the bit.

MindSpore's own dropout keeps its generator inside the kernel: no seed set later reaches it, and it cannot be saved.
Here every step fills one table of uniform numbers on the host (Philox, keyed by seed, step, micro-batch and rank), and
each dropout reads its own part of the table, which is also cheaper than drawing inside the graph.

A small dropout reads one slice. A large one adds two parts of the table, of lengths without a common divisor, and
keeps the fraction: value i is frac(a[(i + s) mod m] + b[(i + t) mod n]). The sum of two uniform numbers has a uniform
fraction. At a distance of m the first term repeats and the second does not, so all values up to m n = 2.7e11 are
pairwise independent. Every dropout has its own offsets s and t.
"""

from __future__ import annotations

import zlib
from functools import cache

import mindspore as ms
import numpy as np
from mindspore import nn, ops

__all__ = ["Dropout", "StepNoise", "step_table"]

# Numbers in the table: 4 MiB, renewed in about 3 ms.
TABLE_SIZE = 1 << 20
# From this size on, slices of one table would overlap between dropouts or repeat within one.
_LARGE = 1 << 19
# Lengths of the two parts: consecutive integers have no common divisor.
_FIRST_PART, _SECOND_PART = 1 << 19, (1 << 19) - 1


@cache
def step_table() -> ms.Parameter:
    """The table of this process, made when the first dropout is: no tensor may exist before a device is selected.

    The Cells do not register it, so that it never enters a checkpoint. Before the first step it holds fixed uniform
    numbers, so that a Cell that is used without a trainer drops the right fraction.
    """
    numbers = np.random.default_rng(0).random(TABLE_SIZE, dtype=np.float32)
    return ms.Parameter(ms.Tensor(numbers), name="step_noise", requires_grad=False)


class Dropout(nn.Cell):
    """Zero each value with probability `p`, in training only; the rest is scaled by 1/(1-p). Replaces nn.Dropout.

    Args:
        p: fraction of values to set to zero, from 0 up to, not including, 1.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"dropout rate {p}; choose a value from 0 up to, not including, 1")
        self.rate = float(p)
        self.start, self.second_start = 0, 0
        object.__setattr__(self, "table", step_table())

    def set_offsets(self, name: str) -> None:
        """Choose the part of the table from the dropout's name, equally in every process."""
        self.start = zlib.crc32(name.encode()) % TABLE_SIZE
        self.second_start = zlib.crc32(b"second " + name.encode()) % _SECOND_PART

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Any shape -> the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        count = 1
        for size in x.shape:
            count = count * size
        if count < _LARGE:
            start = self.start % (TABLE_SIZE - count)
            noise = self.table[start : start + count]
        else:
            sums = self._repeated(0, _FIRST_PART, self.start % _FIRST_PART, count)
            sums = sums + self._repeated(_FIRST_PART, _SECOND_PART, self.second_start, count)
            noise = sums - ops.floor(sums)
        kept = (noise.reshape(x.shape) >= self.rate).astype(x.dtype)
        return x * (kept * (1.0 / (1.0 - self.rate)))

    def _repeated(self, first: int, length: int, start: int, count: int) -> ms.Tensor:
        """(count,) numbers of the part [first, first + length), from its index `start` on, wrapping around."""
        pieces = []
        index = start
        left = count
        while left > 0:
            size = min(left, length - index)
            pieces.append(self.table[first + index : first + index + size])
            left = left - size
            index = 0
        return ops.concat(pieces)


class StepNoise:
    """Renews the table before a step, if the model has a dropout that reads it.

    Args:
        model: its dropouts get their offsets by name, equally in every process.
        seed: the run's seed.
    """

    def __init__(self, model: nn.Cell, seed: int) -> None:
        self._seed = int(seed)
        self.active = False
        for name, cell in model.cells_and_names():
            if isinstance(cell, Dropout) and cell.rate > 0:
                cell.set_offsets(name)
                self.active = True

    def renew(self, step: int, micro: int = 0, rank: int = 0) -> None:
        """Fill the table for one micro-batch of one step on one rank."""
        if not self.active:
            return
        key = np.random.SeedSequence([self._seed, int(step), int(micro), int(rank)])
        values = np.random.Generator(np.random.Philox(key)).random(TABLE_SIZE, dtype=np.float32)
        # `set_data` does not reach a graph that is compiled already; `assign` does, in both modes.
        ops.assign(step_table(), ms.Tensor(values))
