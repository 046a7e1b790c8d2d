"""Collectives of a device, made of MPI on the CPU: the device path of a training runs for real on two ranks.

`install` puts them in the place of MindSpore's; each is an operator that works inside compiled graphs and outside, as
HCCL's and NCCL's are, and counts what travels.
"""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindground.runtime.distributed import DeviceComm

__all__ = ["MpiDeviceComm"]


class _Sum(nn.Cell):
    """The sum over the ranks; its gradient is the sum of the gradients, as of MindSpore's own operator."""

    def __init__(self, world: Any, counts: dict[str, int]) -> None:
        super().__init__()
        self.world, self.counts = world, counts
        self.custom = ops.Custom(self._summed, lambda shape: shape, lambda kind: kind, func_type="pyfunc")

    def _summed(self, values: np.ndarray) -> np.ndarray:
        total = np.ascontiguousarray(values)
        found = np.empty_like(total)
        self.world.Allreduce(total, found)
        self.counts["reductions"] += 1
        self.counts["reduced bytes"] += total.nbytes
        return found

    def construct(self, values: ms.Tensor) -> ms.Tensor:
        return self.custom(values)

    def bprop(self, values: ms.Tensor, out: ms.Tensor, dout: ms.Tensor) -> tuple[ms.Tensor, ...]:
        return (self.custom(dout),)


class MpiDeviceComm(DeviceComm):
    """`DeviceComm` whose four collectives are MPI's."""

    needs_watch = False

    def __init__(self) -> None:
        from mpi4py import MPI

        self.world = MPI.COMM_WORLD
        self.rank, self.size = self.world.Get_rank(), self.world.Get_size()
        self.counts = {"reductions": 0, "reduced bytes": 0, "gathered bytes": 0, "broadcast bytes": 0}

    def graph_all_reduce(self) -> Any:
        return _Sum(self.world, self.counts)

    def _gather(self, words: np.ndarray) -> np.ndarray:
        assert words.dtype == np.int32 and words.ndim == 1
        found = np.empty((self.size, words.size), np.int32)
        self.world.Allgather(np.ascontiguousarray(words), found)
        self.counts["gathered bytes"] += found.nbytes
        return found

    def _broadcast(self, words: np.ndarray) -> np.ndarray:
        assert words.dtype == np.int32 and words.ndim == 1
        found = np.array(words)
        self.world.Bcast(found)
        self.counts["broadcast bytes"] += found.nbytes
        return found

    def finalize(self) -> None:
        from mpi4py import MPI

        self.world.Barrier()
        MPI.Finalize()  # `atexit` does it a second time only where this has not
