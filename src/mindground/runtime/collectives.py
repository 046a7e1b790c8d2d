"""Start of MindSpore's collectives: between the selection of the device and the first computation on it.

MindSpore's documentation wants `set_device`, then `communication.init`, then the first tensor or operator; on Ascend a
later `init` may have no effect. Nothing of this has run on such a machine.
"""

from __future__ import annotations

import logging
import os
from typing import NoReturn

from mindground.errors import DeviceError, one_line
from mindground.runtime.launcher import Launch

__all__ = ["TIMEOUTS", "check_launch", "serve_as_scheduler", "start_collectives", "started_rank"]

logger = logging.getLogger("mindground")

# Seconds after which a rank that waits for others gives up, where the user sets nothing. The file of `runtime.watch`
# ends a job within a minute of a failure; these are for what it cannot see, so they are longer than an evaluation or a
# compilation of one rank for which the others wait.
TIMEOUTS = {
    # HCCL: to build a connection, and to wait inside a collective (CANN's own values: 120 and 1836).
    "HCCL_CONNECT_TIMEOUT": "600",
    "HCCL_EXEC_TIMEOUT": "1800",
    # MindSpore's cluster, until all ranks have registered (msrun sets it by --cluster_time_out).
    "MS_TOPO_TIMEOUT": "600",
}
_SRUN = (
    "srun --ntasks-per-node=1 msrun --worker_num=16 --local_worker_num=8 --node_rank=$SLURM_NODEID "
    "--master_addr=HOST src/train.py (scripts/launch/slurm.sbatch)"
)

_rank: tuple[int, int] | None = None


def check_launch(target: str, launch: Launch) -> None:
    """Refuse launchers that cannot bring the ranks together on this kind of device.

    Raises:
        DeviceError: msrun on CPUs, srun tasks on accelerators.
    """
    if launch.size == 1:
        return
    if target == "CPU" and launch.by == "msrun":
        raise DeviceError(
            f"msrun cannot train on CPUs, whose ranks meet through MPI; start them with: mpirun -n {launch.size} "
            "python src/train.py"
        )
    if target != "CPU" and launch.by == "srun":
        raise DeviceError(
            f"srun started {launch.size} tasks, but on {target} MindSpore brings ranks together only with msrun, "
            f"mpirun or a rank table; start one msrun on every node: {_SRUN}"
        )


def serve_as_scheduler(launch: Launch) -> NoReturn:
    """Bring the ranks of msrun together until they have ended, then end this process; it trains nothing."""
    if launch.size > 1:
        _set_timeouts()
        from mindspore import communication

        # It waits for the end of the job in there, and usually ends the process itself.
        communication.init()
    raise SystemExit(0)


def start_collectives(launch: Launch) -> tuple[int, int]:
    """Start HCCL or NCCL for the device that was selected; returns (rank, size). Further calls return the same.

    Raises:
        DeviceError: the library cannot start, or it and the launcher say different things.
    """
    global _rank
    if _rank is not None:
        return _rank
    _set_timeouts()
    from mindspore import communication

    try:
        communication.init()
        rank, size = communication.get_rank(), communication.get_group_size()
    except (RuntimeError, ValueError, TypeError) as error:
        raise DeviceError(
            f"the collective library cannot start on {_called(launch)}: {one_line(error)}; check that {launch.by} is "
            "one that MindSpore knows and that every rank has its own device (mindground doctor --distributed)"
        ) from error
    if size != launch.size or launch.rank not in (-1, rank):
        raise DeviceError(
            f"{launch.by} started {_called(launch)}, MindSpore sees rank {rank} of {size}; start with one launcher "
            "only, in a clean environment"
        )
    _rank = (int(rank), int(size))
    return _rank


def started_rank() -> tuple[int, int] | None:
    """(rank, size) of the collectives; None before they have started."""
    return _rank


def _called(launch: Launch) -> str:
    return f"a rank of {launch.size}" if launch.rank < 0 else f"rank {launch.rank} of {launch.size}"


def _set_timeouts() -> None:
    for name, value in TIMEOUTS.items():
        os.environ.setdefault(name, value)
