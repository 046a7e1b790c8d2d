"""One interface for several ranks, three engines.

`SingleComm`: one process, MPI is never imported. `HostComm`: mpirun on CPU machines, mpi4py on host
buffers, because MindSpore's own CPU collectives are slow and hang on errors. `DeviceComm`: HCCL on
Ascend, NCCL on CUDA, through MindSpore.

A rank that fails must end the job, or the others wait for it for ever: `HostComm` sends uncaught
exceptions of any thread to `MPI_Abort`, doors abort through `current_comm`, and a rank that ends while
others still wait for it gives up after `EXIT_PATIENCE_S`.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import pickle
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from mindground.errors import DeviceError
from mindground.runtime.launcher import launched, launched_rank, launched_size

if TYPE_CHECKING:
    from mindspore import Parameter, nn

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

# Seconds that a rank which is done waits for the others before it declares the job broken.
EXIT_PATIENCE_S = 45.0


class Comm(ABC):
    """What trainer and evaluator ask of the other ranks. All methods but `abort` are called by every rank."""

    rank: int = 0
    size: int = 1
    # True: gradients are averaged by `reducer` inside the compiled step, not by `all_reduce_mean_`.
    reduces_on_device: bool = False

    @property
    def is_main(self) -> bool:
        """Rank 0 writes files and shows progress."""
        return self.rank == 0

    @abstractmethod
    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        """Averages a contiguous float32 buffer over the ranks, in place."""

    @abstractmethod
    def broadcast_(self, buffer: np.ndarray) -> None:
        """Overwrites a contiguous buffer with that of rank 0."""

    @abstractmethod
    def all_gather_object(self, value: Any) -> list[Any]:
        """The values of all ranks, in order of rank."""

    @abstractmethod
    def barrier(self) -> None:
        """Waits for all ranks."""

    @abstractmethod
    def abort(self, code: int = 1) -> NoReturn:
        """Ends the whole job now, from any rank, without waiting for anybody."""

    def broadcast_object(self, value: Any) -> Any:
        """The value of rank 0, on every rank."""
        return self.all_gather_object(value if self.is_main else None)[0]

    def any(self, flag: bool) -> bool:
        """True on every rank if `flag` is true on one: a SIGTERM that reached one rank stops all at the same step."""
        return any(self.all_gather_object(bool(flag)))

    def reducer(self, parameters: Sequence[Parameter]) -> nn.Cell | None:
        """Gradient-averaging Cell for the compiled step, or None where `all_reduce_mean_` does it."""
        return None


def _checked(buffer: np.ndarray) -> np.ndarray:
    if buffer.dtype != np.float32 or not buffer.flags.c_contiguous or not buffer.flags.writeable:
        raise ValueError(f"needs a writable contiguous float32 buffer, found {buffer.dtype} {buffer.flags}")
    return buffer


class SingleComm(Comm):
    """One process: everything is already where it belongs."""

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        _checked(buffer)

    def broadcast_(self, buffer: np.ndarray) -> None:
        """Nothing to fetch: this is rank 0."""

    def all_gather_object(self, value: Any) -> list[Any]:
        return [value]

    def barrier(self) -> None:
        """Nobody to wait for."""

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

            # `_leave` finalises, so that a rank which ends too early is noticed.
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
            )
        # The farewell has a communicator of its own: it must not meet an all-reduce of a rank that still works.
        self._farewell = self._world.Dup()
        _guard(self)

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        self._world.Allreduce(self._mpi.IN_PLACE, _checked(buffer))
        buffer /= self.size

    def broadcast_(self, buffer: np.ndarray) -> None:
        self._world.Bcast(buffer)

    def broadcast_object(self, value: Any) -> Any:
        return self._world.bcast(value)

    def all_gather_object(self, value: Any) -> list[Any]:
        return self._world.allgather(value)

    def barrier(self) -> None:
        self._world.Barrier()

    def any(self, flag: bool) -> bool:
        return bool(self._world.allreduce(bool(flag), self._mpi.LOR))

    def abort(self, code: int = 1) -> NoReturn:
        sys.stdout.flush()
        sys.stderr.flush()
        self._world.Abort(code)
        # Abort may return before the launcher's signal arrives.
        os._exit(code)

    def leave(self) -> None:
        """Meets the other ranks at the end of the process; without them, ends the job."""
        if self._mpi.Is_finalized():
            return
        request, deadline = self._farewell.Ibarrier(), time.monotonic() + EXIT_PATIENCE_S
        while not request.Test():
            if time.monotonic() > deadline:
                sys.stderr.write(
                    f"mindground: rank {self.rank} is done, but others still wait for it after "
                    f"{EXIT_PATIENCE_S:.0f} s; the job ends\n"
                )
                self.abort(1)
            time.sleep(0.01)
        self._mpi.Finalize()


_current: Comm | None = None


def _guard(comm: HostComm | DeviceComm) -> None:
    """From now on an uncaught exception of any thread ends the whole job with its traceback."""

    def report(kind: type[BaseException], value: BaseException | None, trace: TracebackType | None) -> None:
        sys.stderr.write(f"mindground: rank {comm.rank} of {comm.size} failed; the job ends\n")
        traceback.print_exception(kind, value, trace)
        comm.abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    def report_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            report(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = report
    threading.excepthook = report_thread
    atexit.register(comm.leave)


class DeviceComm(Comm):
    """Several ranks on accelerators: HCCL or NCCL through `mindspore.communication`.

    Written from MindSpore's documentation; it has not run on such a machine.
    """

    reduces_on_device = True

    def __init__(self) -> None:
        from mindspore import communication, context, set_auto_parallel_context

        try:
            communication.init()
            self.rank, self.size = communication.get_rank(), communication.get_group_size()
        except (RuntimeError, ValueError, TypeError) as error:
            raise DeviceError(
                f"the collective library cannot start on rank {launched_rank()} of {launched_size()}: {error}; check "
                "that mpirun is the one MindSpore was built for and that every rank has a device of its own"
            ) from error
        if self.size != launched_size():
            raise DeviceError(f"the launcher started {launched_size()} ranks, MindSpore sees {self.size}")
        set_auto_parallel_context(
            parallel_mode=context.ParallelMode.DATA_PARALLEL, gradients_mean=True, device_num=self.size
        )
        _guard(self)

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        from mindspore import Tensor, ops

        total = ops.AllReduce()(Tensor.from_numpy(_checked(buffer))).asnumpy()
        np.divide(total, self.size, out=buffer)

    def broadcast_(self, buffer: np.ndarray) -> None:
        from mindspore import Tensor, ops

        (fetched,) = ops.Broadcast(0)((Tensor(buffer),))
        buffer[...] = fetched.asnumpy()

    def _gather_bytes(self, row: np.ndarray) -> np.ndarray:
        from mindspore import Tensor, ops

        return ops.AllGather()(Tensor(row)).asnumpy().reshape(self.size, -1)

    def all_gather_object(self, value: Any) -> list[Any]:
        # The bytes come from this job's own ranks, over its own fabric.
        return gather_objects(value, self._gather_bytes)

    def barrier(self) -> None:
        self._gather_bytes(np.zeros(1, np.int32))

    def reducer(self, parameters: Sequence[Parameter]) -> nn.Cell:
        from mindspore import nn

        return nn.DistributedGradReducer(list(parameters), mean=True, degree=self.size)

    def abort(self, code: int = 1) -> NoReturn:
        # Launchers end the other ranks when one dies without leaving the group.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 1)

    def leave(self) -> None:
        """Leaves the group at the end of the process."""
        from mindspore import communication

        communication.release()


def gather_objects(value: Any, gather: Callable[[np.ndarray], np.ndarray]) -> list[Any]:
    """Any picklable value of every rank, through a collective that knows only equal-sized arrays.

    Args:
        gather: takes a 1-D array, returns the (size, n) stack of all ranks' arrays.
    """
    data = np.frombuffer(pickle.dumps(value), np.uint8).astype(np.int32)
    lengths = gather(np.asarray([data.size], np.int32))[:, 0]
    rows = gather(np.pad(data, (0, int(lengths.max()) - data.size)))
    return [pickle.loads(row[:n].astype(np.uint8).tobytes()) for row, n in zip(rows, lengths, strict=True)]


def get_comm() -> Comm:
    """The engine for this job; the same object when asked again.

    A process without a launcher gets `SingleComm`, and mpi4py is never imported. Ranks meet on the device that
    `device.apply` selected; before that, on the best there is.

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
    """The engine that `get_comm` made, or None before that: what a door aborts when one rank fails."""
    return _current


def agree(comm: Comm, payload: str, what: str = "configuration") -> None:
    """Raises DeviceError on every rank if `payload` differs between ranks (stale files, different arguments)."""
    digests = comm.all_gather_object(hashlib.sha256(payload.encode()).hexdigest())
    others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise DeviceError(
            f"ranks {others} have another {what} than rank 0; start all of them with the same arguments, files and code"
        )
