"""Dropout whose pattern is a function of seed and step, so that a resumed run repeats it to the bit.

MindSpore's own dropout keeps its generator inside the kernel: no seed set later reaches it, and it cannot be saved.
Here every step fills one table of uniform numbers on the host (Philox, keyed by seed, step, micro-batch and rank) and
each dropout reads its own stretch of it, which is also cheaper than drawing inside the graph.
"""

from __future__ import annotations

import zlib

import mindspore as ms
import numpy as np
from mindspore import nn, ops

__all__ = ["Dropout", "StepNoise"]

# Numbers in the table: 4 MiB, renewed in about 3 ms.
TABLE_SIZE = 1 << 20

# One table per process, kept out of the Cells' registers so that it never enters a checkpoint.
# Until a step renews it, it holds fixed uniform numbers, so that a Cell tried on its own drops the share it should.
_TABLE = ms.Parameter(
    ms.Tensor(np.random.default_rng(0).random(TABLE_SIZE, dtype=np.float32)), name="step_noise", requires_grad=False
)


class Dropout(nn.Cell):
    """Zero each value with probability `p`, in training only; the rest is scaled by 1/(1-p). Stands in for nn.Dropout.

    Args:
        p: share of values to zero, from 0 up to, not including, 1.
    """

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"dropout rate {p}; choose a value from 0 up to, not including, 1")
        self.rate = float(p)
        self.start = 0
        object.__setattr__(self, "table", _TABLE)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """Any shape -> the same shape."""
        if not self.training or self.rate == 0.0:
            return x
        count = 1
        for size in x.shape:
            count = count * size
        if count < TABLE_SIZE:
            start = self.start % (TABLE_SIZE - count)
            noise = self.table[start : start + count]
        else:
            # More values than numbers: the table is repeated, each time from another place.
            pieces = []
            left = count
            turn = 0
            while left > 0:
                start = (self.start + turn * 7919) % (TABLE_SIZE // 2)
                size = min(left, TABLE_SIZE // 2)
                pieces.append(self.table[start : start + size])
                left = left - size
                turn = turn + 1
            noise = ops.concat(pieces)
        kept = (noise.reshape(x.shape) >= self.rate).astype(x.dtype)
        return x * (kept * (1.0 / (1.0 - self.rate)))


class StepNoise:
    """Renews the table before a step, if the model has a dropout that reads it.

    Args:
        model: its dropouts get their stretches by name, the same in every process.
        seed: of the run.
    """

    def __init__(self, model: nn.Cell, seed: int) -> None:
        self._seed = int(seed)
        self.active = False
        for name, cell in model.cells_and_names():
            if isinstance(cell, Dropout) and cell.rate > 0:
                cell.start = zlib.crc32(name.encode()) % TABLE_SIZE
                self.active = True

    def renew(self, step: int, micro: int = 0, rank: int = 0) -> None:
        """Fill the table for one micro-batch of one step on one rank."""
        if not self.active:
            return
        key = np.random.SeedSequence([self._seed, int(step), int(micro), int(rank)])
        values = np.random.Generator(np.random.Philox(key)).random(TABLE_SIZE, dtype=np.float32)
        # `set_data` does not reach a graph that is compiled already; `assign` does, in both modes.
        ops.assign(_TABLE, ms.Tensor(values))
