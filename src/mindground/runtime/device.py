"""Backend, mode, precision, seeds, and settings of the environment.

`prepare()` runs before MindSpore is imported, `apply()` after the configuration is known. docs/performance.md
has the reasons and timings of both. Only this module and `distributed.py` name devices.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindground.errors import DeviceError, one_line
from mindground.runtime.collectives import check_launch, serve_as_scheduler, start_collectives
from mindground.runtime.launcher import Launch, find_launch, launched_local_rank, launched_local_size, launched_size

__all__ = [
    "DeviceInfo",
    "applied",
    "apply",
    "describe",
    "fast_cpu_kernels",
    "prepare",
    "seed_everything",
    "selected_target",
]

logger = logging.getLogger("mindground")

# Fallback order of device_target=auto.
_PREFERENCE = ("Ascend", "GPU", "CPU")
# What each backend computes in hardware. On CPUs operators emulate or lack half types.
_PRECISIONS = {"Ascend": ("float32", "float16", "bfloat16"), "GPU": ("float32", "float16"), "CPU": ("float32",)}
_ENVIRONMENT = {
    # MindSpore 2.9 and later pick AVX-512 kernels that are up to 100 times slower; ignored by 2.7.
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # Errors only: otherwise MindSpore's C++ log hides ours.
    "GLOG_v": "3",
    # A rank that waits yields its core to the others.
    "OMPI_MCA_mpi_yield_when_idle": "1",
}
# Set to 1 by users who pin processes themselves.
KEEP_AFFINITY = "MINDGROUND_KEEP_AFFINITY"
_LAUNCHERS = {"prterun", "prted", "orted", "mpirun", "mpiexec", "hydra_pmi_proxy", "orterun"}


@dataclass(frozen=True)
class DeviceInfo:
    """What `apply` selected."""

    target: str
    mode: str
    precision: str
    device_id: int = 0


_applied: DeviceInfo | None = None
_prepared = False


def _launcher_cpus() -> set[int]:
    """CPUs of the process that launched this rank: those of the whole job, before ranks were bound to cores.

    Empty where no ancestor is a launcher (the process tree of a container, another operating system).
    """
    pid = os.getppid()
    for _ in range(8):
        if pid <= 1:
            break
        try:
            name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            if name in _LAUNCHERS:
                return set(os.sched_getaffinity(pid))
            # Fields after the parenthesised name: state, parent.
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
            pid = int(stat.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return set()


def _widen_affinity() -> None:
    """Undo mpirun's binding of a rank to one core, within the CPUs of the job.

    Bound to one core, convolutions are 7 times slower on MindSpore 2.7. The operating system limits the new set to the
    cgroup. The launcher inherits a pinning by taskset or a batch system, so that it is kept. Without a launcher nothing
    is changed.
    """
    if not hasattr(os, "sched_setaffinity") or os.environ.get(KEEP_AFFINITY) == "1" or launched_size() < 2:
        return
    mine, allowed = set(os.sched_getaffinity(0)), _launcher_cpus()
    if mine < allowed:
        try:
            os.sched_setaffinity(0, allowed)
        except OSError as error:
            logger.warning("this rank stays bound to CPUs %s: %s", sorted(mine), error)


def prepare() -> None:
    """Set the environment variables and CPUs that MindSpore reads once, when it is imported.

    After that import it only logs a warning. Further calls do nothing.
    """
    global _prepared
    if _prepared:
        return
    _prepared = True
    if "mindspore" in sys.modules:
        logger.warning(
            "mindspore was imported before mindground.runtime.device.prepare(): its start-up settings are not changed"
        )
        return
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _widen_affinity()


def _available(target: str) -> bool:
    from mindspore import hal

    return bool(hal.is_available(target))


def _select(asked: str) -> str:
    if asked == "auto":
        return next(target for target in _PREFERENCE if _available(target))
    if asked not in _PREFERENCE:
        raise DeviceError(f"device_target={asked!r} is unknown; choose one of auto, {', '.join(_PREFERENCE)}")
    if not _available(asked):
        present = [target for target in _PREFERENCE if _available(target)]
        raise DeviceError(
            f"device_target={asked} was asked for, but MindSpore finds only {', '.join(present)} here; use "
            f"--device_target {present[0]}, or install what the README names for {asked} (driver, toolkit on the path)"
        )
    return asked


def _check_precision(target: str, precision: str) -> None:
    offered = _PRECISIONS[target]
    if precision not in offered:
        why = {
            "CPU": "its kernels emulate half precision, or lack it, and are slower than float32",
            "GPU": "MindSpore's CUDA kernels have no bfloat16",
        }.get(target, "the backend lacks it")
        raise DeviceError(f"precision={precision} is not offered on {target}: {why}; use {' or '.join(offered)}")


def _set_cpu() -> None:
    """Select the CPU. MindSpore refuses that after the first computation, which is no error if that used the CPU."""
    import mindspore as ms

    try:
        ms.set_device("CPU")
    except RuntimeError:
        if ms.get_context("device_target") != "CPU":
            raise


def _activate(target: str, device_id: int, launch: Launch | None = None) -> None:
    """Select `target`, start the collectives of a launch on it, then check it with the first computation.

    MindSpore may stay on the CPU without an error.
    """
    import mindspore as ms

    try:
        if target == "CPU":
            _set_cpu()
        else:
            count = ms.hal.device_count(target)
            if device_id >= count:
                raise DeviceError(
                    f"local rank {device_id} has no {target} device: there are {count} on this machine; start at most "
                    f"{count} ranks here"
                )
            ms.set_device(target, device_id)
            if launch is not None and launch.size > 1:
                start_collectives(launch)
        current = ms.get_context("device_target")
        total = float((ms.Tensor([1.0, 2.0], ms.float32) * 2.0).sum().asnumpy())
    except (RuntimeError, ValueError) as error:
        raise DeviceError(f"{target} cannot be used: {one_line(error)}; see the README's notes on {target}") from error
    if current != target or total != 6.0:
        raise DeviceError(f"asked for {target}, but MindSpore computes on {current} (2 + 4 gave {total})")


def _by_core(cpu: int) -> tuple[int, ...]:
    """Sort key by socket, then by core."""
    place = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        return (*(int((place / name).read_text()) for name in ("physical_package_id", "core_id")), cpu)
    except (OSError, ValueError):
        return (0, 0, cpu)


def _share_cpus(target: str) -> int:
    """Give every rank of this machine its own CPUs; returns their number, 0 where this is the only rank.

    MindSpore's threads spin while they wait: ranks that share CPUs slow each other down. Nothing is changed
    where there are fewer CPUs than ranks, or where the user has pinned the processes (`KEEP_AFFINITY`).
    """
    ranks = launched_local_size()
    if target != "CPU" or ranks < 2:
        return 0
    if not hasattr(os, "sched_setaffinity"):
        return max(1, (os.cpu_count() or 1) // ranks)
    cpus = sorted(os.sched_getaffinity(0), key=_by_core)
    share = len(cpus) // ranks
    if share and os.environ.get(KEEP_AFFINITY) != "1":
        first = launched_local_rank() % ranks * share
        _bind(cpus[first : first + share])
    return max(1, share)


def _bind(cpus: list[int]) -> None:
    """Bind this process, with the threads that MindSpore has started so far, to `cpus`."""
    threads = Path("/proc/self/task")
    for thread in [int(path.name) for path in threads.iterdir()] if threads.is_dir() else [0]:
        try:
            os.sched_setaffinity(thread, cpus)
        except ProcessLookupError:  # the thread has ended
            continue
        except OSError as error:
            logger.warning("this rank cannot be bound to CPUs %s (%s): ranks may slow each other down", cpus, error)
            return


def _joined(asked: str, launch: Launch) -> str:
    """The device on which this rank can meet the others; ends the process where it is msrun's scheduler."""
    # The scheduler's own machine may have no card; msrun starts it beside ranks that have one (it sets RANK_ID).
    target = asked if launch.scheduler and "RANK_ID" not in os.environ else _select(asked)
    check_launch(target, launch)
    if launch.scheduler:
        serve_as_scheduler(launch)
    return target


def apply(
    device_target: str = "auto",
    *,
    mode_name: str = "GRAPH",
    precision: str = "float32",
    threads: int = 0,
    run_distribute: bool = True,
    joins: bool = True,
) -> DeviceInfo:
    """Select device, mode, precision and threads, and on accelerators start the collectives of several ranks.

    Call it before any tensor is made. `auto` takes the first of Ascend, GPU, CPU that is available. On accelerators
    every rank takes the device of its local rank; a single process takes DEVICE_ID, by default the first.

    Args:
        device_target: auto, Ascend, GPU or CPU.
        mode_name: GRAPH or PYNATIVE.
        precision: number type in which networks compute.
        threads: number of threads of MindSpore's CPU kernels; 0 = MindSpore decides, or for several ranks on one
            machine their part of its CPUs.
        run_distribute: False refuses several ranks.
        joins: False for a process that works by itself whatever started it; it takes no part in collectives.

    Raises:
        DeviceError: an absent device, a precision the backend lacks, more local ranks than devices, a launcher that
            cannot start ranks on it, or a second choice in a process that has already computed on another device.
        SystemExit: this process was msrun's scheduler, and the job has ended.
    """
    global _applied
    prepare()
    import mindspore as ms

    if mode_name not in ("GRAPH", "PYNATIVE"):
        raise DeviceError(f"mode_name={mode_name!r} is unknown; choose GRAPH or PYNATIVE")
    launch = find_launch()
    if not run_distribute and launch.size > 1:
        raise DeviceError(
            f"run_distribute is false, but the launcher started {launch.size} ranks: they would overwrite each "
            "other's files; start one process (python src/train.py), or leave run_distribute true"
        )
    target = _joined(device_target, launch) if joins else _select(device_target)
    if _applied and _applied.target != target:
        raise DeviceError(f"this process already computes on {_applied.target}; start a new one for {target}")
    _check_precision(target, precision)
    single = launch.size == 1
    device_id = 0 if target == "CPU" else int(os.environ.get("DEVICE_ID", "0")) if single else launch.local_rank
    share = 0
    if not _applied:
        _activate(target, device_id, launch if joins else None)
        share = _share_cpus(target)
    threads = threads or share
    if threads:
        ms.set_context(runtime_num_threads=threads)
    # The update of a few hundred parameters is one compiled loop; MindSpore counts every iteration as a call.
    ms.set_recursion_limit(100_000)
    ms.set_context(mode=ms.GRAPH_MODE if mode_name == "GRAPH" else ms.PYNATIVE_MODE)
    _applied = DeviceInfo(target, mode_name, precision, device_id)
    return _applied


def applied() -> DeviceInfo | None:
    """What `apply` selected, or None before that."""
    return _applied


def selected_target() -> str:
    """The device that `apply` selected; before that, MindSpore's own default."""
    if _applied:
        return _applied.target
    import mindspore as ms

    return str(ms.get_context("device_target"))


def fast_cpu_kernels() -> bool:
    """Whether building blocks use the forms that are fast on the CPU backend.

    Accelerators get MindSpore's native kernels. Read when a Cell is built or compiled, never while it runs.
    """
    return selected_target() == "CPU"


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and MindSpore. Use one seed on all ranks, so that their initial weights are equal."""
    import mindspore as ms
    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)
    ms.set_seed(seed)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def describe() -> dict[str, Any]:
    """Versions, device and CPUs of this machine for problem reports; plain values, for logs and JSON."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    packages = ("mindspore", "mindformers", "numpy", "mpi4py", "opencv-python-headless")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        **{name: _version(name) for name in packages},
        "cpus": cpus,
        "ranks": launched_size(),
        "device": _applied.target if _applied else "not selected",
        "mode": _applied.mode if _applied else "not selected",
        "precision": _applied.precision if _applied else "not selected",
        "environment": {name: os.environ.get(name, "") for name in _ENVIRONMENT},
    }
