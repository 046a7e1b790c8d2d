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

# Seconds that a finished rank waits for the others before it aborts the job.
EXIT_TIMEOUT_S = 45.0


class Comm(ABC):
    """Communication with the other ranks. Every rank calls every method, except `abort`."""

    rank: int = 0
    size: int = 1
    # True: gradients are averaged by `reducer` inside the compiled step, not by `all_reduce_mean_`.
    reduces_on_device: bool = False

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

    def reducer(self, parameters: Sequence[Parameter]) -> nn.Cell | None:
        """Gradient-averaging Cell for the compiled step, or None where `all_reduce_mean_` does it."""
        return None


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
            )
        # The barrier at the end has its own communicator, so that it cannot match an all-reduce of another rank.
        self._exit_world = self._world.Dup()
        _guard(self)

    def all_reduce_mean_(self, buffer: np.ndarray) -> None:
        self._world.Allreduce(self._mpi.IN_PLACE, _checked(buffer))
        buffer /= self.size

    def broadcast_object(self, value: Any) -> Any:
        return self._world.bcast(value)

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
        sys.stderr.write(f"mindground: rank {comm.rank} of {comm.size} failed; the job ends\n")
        traceback.print_exception(kind, value, trace)
        comm.abort(130 if issubclass(kind, KeyboardInterrupt) else 1)

    def report_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            report(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = report
    threading.excepthook = report_thread
    atexit.register(comm.finalize)


class DeviceComm(Comm):
    """Several ranks on accelerators: HCCL or NCCL through `mindspore.communication`.

    It follows MindSpore's documentation and has not run on such a machine.
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
                "that mpirun is the one MindSpore was built for and that every rank has its own device"
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

    def _gather_bytes(self, values: np.ndarray) -> np.ndarray:
        from mindspore import Tensor, ops

        return ops.AllGather()(Tensor(values)).asnumpy().reshape(self.size, -1)

    def all_gather_object(self, value: Any) -> list[Any]:
        # The bytes come only from the ranks of this job.
        return gather_objects(value, self._gather_bytes)

    def barrier(self) -> None:
        self._gather_bytes(np.zeros(1, np.int32))

    def reducer(self, parameters: Sequence[Parameter]) -> nn.Cell:
        from mindspore import nn

        return nn.DistributedGradReducer(list(parameters), mean=True, degree=self.size)

    def abort(self, code: int = 1) -> NoReturn:
        # Launchers end the other ranks when one exits without leaving the group.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 1)

    def finalize(self) -> None:
        """Leave the group at the end of the process."""
        from mindspore import communication

        communication.release()


def gather_objects(value: Any, gather: Callable[[np.ndarray], np.ndarray]) -> list[Any]:
    """Gather any picklable value of every rank with a collective for arrays of equal size.

    Args:
        gather: takes a 1-D array, returns the (size, n) stack of all ranks' arrays.
    """
    data = np.frombuffer(pickle.dumps(value), np.uint8).astype(np.int32)
    lengths = gather(np.asarray([data.size], np.int32))[:, 0]
    rows = gather(np.pad(data, (0, int(lengths.max()) - data.size)))
    return [pickle.loads(row[:n].astype(np.uint8).tobytes()) for row, n in zip(rows, lengths, strict=True)]


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


def agree(comm: Comm, payload: str, what: str = "configuration") -> None:
    """Check that `payload` is equal on all ranks.

    Args:
        payload: text to compare, such as a configuration.
        what: name of the payload in the message.

    Raises:
        DeviceError: on every rank, if `payload` differs between ranks (outdated files, different arguments).
    """
    digests = comm.all_gather_object(hashlib.sha256(payload.encode()).hexdigest())
    others = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise DeviceError(
            f"ranks {others} have another {what} than rank 0; start all of them with the same arguments, files and code"
        )
