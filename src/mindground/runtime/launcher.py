"""Ranks from the environment variables of mpirun and similar launchers, and the path of mpirun; nothing is started."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from mindground.errors import DeviceError

__all__ = [
    "find_mpirun",
    "launched",
    "launched_local_rank",
    "launched_local_size",
    "launched_rank",
    "launched_size",
    "mpirun_environment",
]

# Variables of size, rank and local rank: Open MPI, MPICH and Intel MPI, msrun, rank tables.
_LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"),
    ("MS_WORKER_NUM", "MS_NODE_ID", "DEVICE_ID"),
    ("RANK_SIZE", "RANK_ID", "DEVICE_ID"),
)


def launched() -> tuple[int, int, int]:
    """(size, rank, local rank) from the environment; (1, 0, 0) for a plain process."""
    for size, rank, local in _LAUNCHERS:
        if size in os.environ and rank in os.environ:
            try:
                found = int(os.environ[size]), int(os.environ[rank])
                here = int(os.environ.get(local, os.environ[rank]))
            except ValueError as error:
                raise DeviceError(f"{size}, {rank} or {local} in the environment is not a number: {error}") from error
            if not 0 <= found[1] < found[0]:
                raise DeviceError(f"{rank}={found[1]} does not fit {size}={found[0]}; unset both or start with mpirun")
            return (*found, here)
    return 1, 0, 0


def launched_size() -> int:
    """Number of ranks the launcher started; 1 without a launcher."""
    return launched()[0]


def launched_rank() -> int:
    """The rank of this process according to the launcher; 0 without a launcher."""
    return launched()[1]


def launched_local_rank() -> int:
    """The rank of this process among those of its machine; 0 without a launcher."""
    return launched()[2]


def launched_local_size() -> int:
    """Number of ranks on this machine; all ranks where the launcher does not give it."""
    size = launched_size()
    for name in ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"):
        if os.environ.get(name, "").isdigit():
            return min(size, max(1, int(os.environ[name])))
    return size


def find_mpirun() -> str | None:
    """Path of the mpirun beside this Python, else of the one in PATH; None where there is none."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.is_file() else shutil.which("mpirun")


def mpirun_environment() -> dict[str, str]:
    """The environment, with settings that let mpirun run as root (containers) and start more ranks than cores.

    scripts/environment.sh has the same settings.
    """
    usual = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    if hasattr(os, "getuid") and os.getuid() == 0:
        usual |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return usual | dict(os.environ)
