"""Communication between ranks: one interface with three implementations.

`SingleComm`: one process, MPI is never imported. `HostComm`: mpirun on CPU machines, mpi4py on host
buffers, because MindSpore's CPU collectives are slow and hang on errors. `DeviceComm`: HCCL on
Ascend, NCCL on CUDA, through MindSpore.

A rank that fails must end the job, because the others would wait forever: `HostComm` calls `MPI_Abort` for uncaught
exceptions of any thread, commands abort through `current_comm`, and a rank that ends while others still communicate
aborts the job after `EXIT_TIMEOUT_S`.
"""

from __future__ import annotations

import atexit
import logging
import os
import pickle
import platform
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mindground.errors import DeviceError, one_line
from mindground.runtime.agreement import agree
from mindground.runtime.collectives import start_collectives
from mindground.runtime.launcher import find_launch, launched, launched_size
from mindground.runtime.packed import broadcast_bytes, gather_objects
from mindground.runtime.watch import note_failure

if TYPE_CHECKING:
    from mindspore import Tensor

__all__ = [
    "Comm",
    "DeviceComm",
    "HostComm",
    "SingleComm",
    "agree",
    "current_comm",
    "get_comm",
]

logger = logging.getLogger("mindground")

# Seconds that a finished rank waits for the others before it aborts the job.
EXIT_TIMEOUT_S = 45.0


class Comm(ABC):
    """Communication with the other ranks. Every rank calls every method, except `abort`."""

    rank: int = 0
    size: int = 1
    # True: gradients meet on the device, through `all_reduce_sum`; False: in host memory, by `all_reduce_mean_`.
    reduces_on_device: bool = False
    # True: the launcher does not end the others when one rank dies, so the ranks watch each other (`runtime.watch`).
    needs_watch: bool = False
    _operator: Callable[[Tensor], Tensor] | None = None

    @property
    def is_main(self) -> bool:
        """True on rank 0, which writes files and shows progress."""
        return self.rank == 0

    @abstractmethod
    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        """Average a contiguous float32 buffer over the ranks, in place. Raises ValueError for another buffer."""

    @abstractmethod
    def all_gather_object(self, value: Any) -> list[Any]:
        """The values of all ranks, in order of rank."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait for all ranks."""

    @abstractmethod
    def abort(self, code: int = 1) -> NoReturn:
        """End the whole job from any rank, without waiting for the others."""

    def broadcast_object(self, value: Any) -> Any:
        """The value of rank 0, on every rank."""
        return self.all_gather_object(value if self.is_main else None)[0]

    def broadcast_array_(self, array: np.ndarray) -> None:
        """Give every rank the numbers of rank 0, in place; a contiguous array of equal shape and type everywhere."""
        array[...] = self.broadcast_object(array if self.is_main else None)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum of a float32 tensor over the ranks, on the device; between two compiled graphs, never inside one."""
        if self._operator is None:
            self._operator = self.graph_all_reduce()
        return self._operator(values)

    def graph_all_reduce(self) -> Callable[[Tensor], Tensor]:
        """The sum over the ranks as an operator with a gradient, for use inside a compiled graph.

        Raises:
            DeviceError: ranks that meet in host memory, outside of graphs.
        """
        raise DeviceError(f"{type(self).__name__} has no collectives inside the compiled step")


def _checked(buffer: np.ndarray) -> np.ndarray:
    if buffer.dtype != np.float32 or not buffer.flags.c_contiguous or not buffer.flags.writeable:
        raise ValueError(f"needs a writable contiguous float32 buffer, found {buffer.dtype} {buffer.flags}")
    return buffer


class SingleComm(Comm):
    """One process: nothing is communicated."""

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        _checked(buffer)

    def all_gather_object(self, value: Any) -> list[Any]:
        return [value]

    def barrier(self) -> None:
        """No operation."""

    def abort(self, code: int = 1) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class HostComm(Comm):
    """Several ranks on CPUs: mpi4py on host memory.

    Raises:
        DeviceError: mpi4py is missing or belongs to another MPI than the mpirun that started the job.
    """

    def __init__(self) -> None:
        size, rank, _ = launched()
        try:
            import mpi4py

            # `finalize` does it, so that a rank that ends too early is detected.
            mpi4py.rc.finalize = False
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise DeviceError(
                f"the launcher started {size} ranks, but mpi4py cannot be imported ({error}); install it in this "
                "environment (pip install -r requirements.txt) and use the mpirun beside this python"
            ) from error
        self._mpi, self._world = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        if (self.size, self.rank) != (size, rank):
            raise DeviceError(
                f"the launcher says rank {rank} of {size}, mpi4py says rank {self.rank} of {self.size}: they belong to "
                f"different MPIs (mpi4py uses {MPI.Get_library_version().split(',')[0]}); start with "
                f"{os.path.join(os.path.dirname(sys.executable), 'mpirun')}"
                + (", or srun --mpi=pmix where Slurm has it" if find_launch().by == "srun" else "")
            )
        # The barrier at the end has its own communicator, so that it cannot match an all-reduce of another rank.
        self._exit_world = self._world.Dup()
        _guard(self)

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        self._world.Allreduce(self._mpi.IN_PLACE, _checked(buffer))
        buffer /= self.size

    def broadcast_object(self, value: Any) -> Any:
        return self._world.bcast(value)

    def broadcast_array_(self, array: np.ndarray) -> None:
        self._world.Bcast(array)

    def all_gather_object(self, value: Any) -> list[Any]:
        return self._world.allgather(value)

    def barrier(self) -> None:
        self._world.Barrier()

    def abort(self, code: int = 1) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        self._world.Abort(code)
        # Abort may return before the launcher's signal arrives.
        os._exit(code)

    def finalize(self) -> None:
        """Wait for the other ranks at the end of the process; abort the job if they do not arrive."""
        if self._mpi.Is_finalized():
            return
        request, deadline = self._exit_world.Ibarrier(), time.monotonic() + EXIT_TIMEOUT_S
        while not request.Test():
            if time.monotonic() > deadline:
                sys.stderr.write(
                    f"mindground: rank {self.rank} is done, but the others are not after "
                    f"{EXIT_TIMEOUT_S:.0f} s; the job ends\n"
                )
                self.abort(1)
            time.sleep(0.01)
        self._mpi.Finalize()


_current: Comm | None = None


def _guard(comm: HostComm | DeviceComm) -> None:
    """Make an uncaught exception of any thread end the whole job with its traceback."""

    def report(kind: type[BaseException], value: BaseException | None, trace: TracebackType | None) -> None:
        sys.stderr.write(f"mindground: rank {comm.rank} of {comm.size} on {platform.node()} failed; the job ends\n")
        traceback.print_exception(kind, value, trace)
        note_failure(f"{kind.__name__}: {one_line(value)}")
        comm.abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    def report_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            report(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = report
    threading.excepthook = report_thread
    atexit.register(comm.finalize)


class DeviceComm(Comm):
    """Several ranks on accelerators: HCCL or NCCL through `mindspore.communication`, which `device.apply` has started.

    It follows MindSpore's documentation and has not run on such a machine; tests run it with recorded collectives.
    """

    reduces_on_device = True
    needs_watch = True

    def __init__(self) -> None:
        self.rank, self.size = start_collectives(find_launch())
        _guard(self)

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        from mindspore import Tensor

        total = self.all_reduce_sum(Tensor(_checked(buffer))).asnumpy()
        np.divide(total, np.float32(self.size), out=buffer)

    def graph_all_reduce(self) -> Callable[[Tensor], Tensor]:
        from mindspore import ops

        operator: Callable[[Tensor], Tensor] = ops.AllReduce()
        return operator

    def _gather(self, words: np.ndarray) -> np.ndarray:
        from mindspore import Tensor, ops

        return np.asarray(ops.AllGather()(Tensor(words)).asnumpy()).reshape(self.size, -1)

    def _broadcast(self, words: np.ndarray) -> np.ndarray:
        from mindspore import Tensor, ops

        return np.asarray(ops.Broadcast(0)((Tensor(words),))[0].asnumpy())

    def all_gather_object(self, value: Any) -> list[Any]:
        return gather_objects(value, self._gather)

    def broadcast_object(self, value: Any) -> Any:
        # The bytes come only from the first rank of this job.
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL) if self.is_main else None
        return pickle.loads(broadcast_bytes(data, self._broadcast))

    def broadcast_array_(self, array: np.ndarray) -> None:
        data = array.tobytes() if self.is_main else None
        array[...] = np.frombuffer(broadcast_bytes(data, self._broadcast), array.dtype).reshape(array.shape)

    def barrier(self) -> None:
        self._gather(np.zeros(1, np.int32))

    def abort(self, code: int = 1) -> NoReturn:
        # Launchers end the other ranks when one exits without leaving the group; so do the other ranks' watchers.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 1)

    def finalize(self) -> None:
        """Leave the group at the end of the process."""
        from mindspore import communication

        communication.release()


def get_comm() -> Comm:
    """The communication of this job; further calls return the same object.

    A process without a launcher gets `SingleComm`, and mpi4py is never imported. Several ranks use the device that
    `device.apply` selected; before that call, the first that is available.

    Raises:
        DeviceError: ranks, launcher and MPI library contradict each other, or `run_distribute` is false under one.
    """
    global _current
    if _current is None:
        if launched_size() == 1:
            _current = SingleComm()
        else:
            from mindground.runtime import device

            target = (device.applied() or device.apply()).target
            _current = HostComm() if target == "CPU" else DeviceComm()
    return _current


def current_comm() -> Comm | None:
    """What `get_comm` has made, or None before that; a command aborts it when one rank fails."""
    return _current
