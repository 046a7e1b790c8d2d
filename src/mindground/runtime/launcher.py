"""Ranks from the environment variables of launchers, and the path of mpirun; nothing is started.

A process may stand in the environments of several launchers at once: msrun that srun started, mpirun in a batch job.
The innermost one is asked: MindSpore's own (`MS_ROLE`) before mpirun, mpirun before srun, srun before a rank table.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mindground.errors import DeviceError, printable

__all__ = [
    "UNKNOWN",
    "Launch",
    "find_launch",
    "find_mpirun",
    "launched",
    "launched_local_rank",
    "launched_local_size",
    "launched_rank",
    "launched_size",
    "mpirun_environment",
]

# The rank before MindSpore has given one: msrun on several nodes without --node_rank.
UNKNOWN = -1
# More ranks than any machine has; a larger number in a variable is a mistake.
_MOST_RANKS = 1 << 20


@dataclass(frozen=True)
class Launch:
    """What started this process.

    Attributes:
        size: ranks of the job; 1 for a plain process.
        rank: of this process, or `UNKNOWN`.
        local_rank: among the ranks of this machine; chooses the device.
        local_size: ranks of this machine; all where the launcher does not say.
        by: none, msrun, mpirun, srun, rank table.
        scheduler: this process only brings the ranks together (msrun starts one); it trains nothing.
    """

    size: int = 1
    rank: int = 0
    local_rank: int = 0
    local_size: int = 1
    by: str = "none"
    scheduler: bool = False


def find_launch() -> Launch:
    """What the environment says.

    Raises:
        DeviceError: variables that are no numbers, or that contradict each other.
    """
    for find in (_by_mindspore, _by_mpirun, _by_srun, _by_rank_table):
        found = find()
        if found is not None:
            return found
    return Launch()


def launched() -> tuple[int, int, int]:
    """(size, rank, local rank); (1, 0, 0) for a plain process."""
    found = find_launch()
    return found.size, found.rank, found.local_rank


def launched_size() -> int:
    """Number of ranks the launcher started; 1 without a launcher."""
    return find_launch().size


def launched_rank() -> int:
    """The rank of this process according to the launcher; 0 without a launcher, `UNKNOWN` before MindSpore gives it."""
    return find_launch().rank


def launched_local_rank() -> int:
    """The rank of this process among those of its machine; 0 without a launcher."""
    return find_launch().local_rank


def launched_local_size() -> int:
    """Number of ranks on this machine; all ranks where the launcher does not give it."""
    return find_launch().local_size


def _by_mindspore() -> Launch | None:
    """Processes of msrun, or of a cluster that sets the same variables (the Ascend operator of Kubernetes)."""
    role = os.environ.get("MS_ROLE", "")
    if role not in ("MS_WORKER", "MS_SCHED"):
        return None
    size = _number("MS_WORKER_NUM")
    if role == "MS_SCHED":
        # msrun gives it RANK_ID 0, which is that of a worker, too.
        return Launch(size, UNKNOWN, 0, 0, "msrun", True)
    # RANK_ID is no help where MS_NODE_ID is missing: the workers beside a scheduler inherit its 0.
    rank = _number("MS_NODE_ID") if "MS_NODE_ID" in os.environ else (0 if size == 1 else UNKNOWN)
    local = _number("DEVICE_ID") if "DEVICE_ID" in os.environ else max(rank, 0)
    here = _number("MS_LOCAL_WORKER") if "MS_LOCAL_WORKER" in os.environ else size
    return _checked(Launch(size, rank, local, min(here, size), "msrun"), "MS_NODE_ID", "MS_WORKER_NUM")


def _by_mpirun() -> Launch | None:
    """Open MPI; MPICH and Intel MPI, whose variables srun sets as well."""
    if "OMPI_COMM_WORLD_SIZE" in os.environ and "OMPI_COMM_WORLD_RANK" in os.environ:
        return _from("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
                     "OMPI_COMM_WORLD_LOCAL_SIZE", "mpirun")  # fmt: skip
    if "PMI_SIZE" in os.environ and "PMI_RANK" in os.environ and not _is_srun_task():
        return _from("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "mpirun")
    return None


def _by_srun() -> Launch | None:
    """Tasks of a job step, whatever `--mpi` is.

    A batch script has SLURM_NTASKS and SLURM_PROCID, too, and is one process. Only srun sets the variables of a step.
    """
    if not _is_srun_task():
        return None
    found = _from("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "", "srun")
    return Launch(found.size, found.rank, found.local_rank, _tasks_of_this_node(found.size), "srun")


def _is_srun_task() -> bool:
    names = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")
    if not all(name in os.environ for name in names) or _number("SLURM_STEP_NUM_TASKS") < 2:
        return False
    # Under mpirun of MPICH, srun starts one helper a node, and its place is not that of the rank.
    place = os.environ.get("PMI_RANK", os.environ["SLURM_PROCID"])
    size = os.environ.get("PMI_SIZE", os.environ["SLURM_STEP_NUM_TASKS"])
    return (size, place) == (os.environ["SLURM_STEP_NUM_TASKS"], os.environ["SLURM_PROCID"])


def _tasks_of_this_node(size: int) -> int:
    """Tasks of this node from the short form `4(x2),3`, in the order of the nodes; all where it is not given."""
    counts: list[int] = []
    for part in os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        match = re.fullmatch(r"(\d{1,6})(?:\(x(\d{1,6})\))?", part.strip())
        if match is None:
            return size
        counts += [int(match[1])] * int(match[2] or 1)
    node = os.environ.get("SLURM_NODEID", "0")
    return min(size, counts[int(node)]) if node.isdecimal() and int(node) < len(counts) else size


def _by_rank_table() -> Launch | None:
    """Processes that a script starts one by one, with a rank table of the cards."""
    if "RANK_ID" not in os.environ or "RANK_SIZE" not in os.environ:
        if "RANK_TABLE_FILE" in os.environ and "RANK_ID" in os.environ:
            raise DeviceError("RANK_TABLE_FILE and RANK_ID are set, RANK_SIZE is not; export the number of ranks in it")
        return None
    return _from("RANK_SIZE", "RANK_ID", "DEVICE_ID", "", "rank table")


def _from(size: str, rank: str, local: str, local_size: str, by: str) -> Launch:
    ranks, place = _number(size), _number(rank)
    here = _number(local) if local in os.environ else place
    count = os.environ.get(local_size, "")
    beside = min(ranks, max(1, int(count))) if count.isdecimal() else ranks
    return _checked(Launch(ranks, place, here, beside, by), rank, size)


def _checked(found: Launch, rank: str, size: str) -> Launch:
    if found.size < 1 or not (found.rank == UNKNOWN or 0 <= found.rank < found.size):
        raise DeviceError(f"{rank}={found.rank} does not fit {size}={found.size}; unset both or start with mpirun")
    return found


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not re.fullmatch(r"\d{1,9}", text) or int(text) > _MOST_RANKS:
        raise DeviceError(
            f"{name}={printable(text, 40)!r} in the environment is not a number of ranks; unset it, or start with "
            "mpirun or msrun"
        )
    return int(text)


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
