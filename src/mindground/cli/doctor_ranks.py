"""`mindground doctor --distributed`: what all ranks of a job have, whether it fits, and how fast they exchange."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mindground.runtime import device
from mindground.runtime.agreement import code_version
from mindground.runtime.launcher import find_launch
from mindground.runtime.versions import judge, toolkits, version_of

if TYPE_CHECKING:
    from mindground.runtime.distributed import Comm

__all__ = ["look_at_ranks"]

# Clocks further apart make times in logs and the ages of files useless; training does not read them.
_CLOCK_S = 5.0
# An all-reduce below this, in GB/s, on accelerators: a network between cards that was meant to be faster.
_SLOW = 1.0


def look_at_ranks(target: str, megabytes: int = 100) -> tuple[list[tuple[str, str, str]], list[dict[str, Any]]]:
    """Compare the ranks and time an all-reduce; all ranks call it and get the same.

    Args:
        target: as `device.apply` takes it.
        megabytes: of the all-reduce.

    Returns:
        (part, state, sentence) with states ok, note and missing; and what every rank said of itself.

    Raises:
        DeviceError: the ranks cannot be brought together.
    """
    info = device.apply(target)
    from mindground.runtime import distributed

    comm = distributed.get_comm()
    launch = find_launch()
    if comm.size == 1:
        advice = "one process; start it as you start the training: mpirun -n 8 mindground doctor --distributed"
        return [("ranks", "missing", advice)], []
    comm.barrier()
    own = {
        "rank": comm.rank,
        "host": platform.node(),
        "device": f"{info.target} {info.device_id}" if info.target != "CPU" else "CPU",
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("mindspore", "mindformers", "numpy")},
        **(toolkits() if info.target != "CPU" else {}),
        "MPI": _mpi(),
        "code": code_version(),
        "clock": time.time(),
    }
    everybody = comm.all_gather_object(own)
    findings = [("ranks", "ok", f"{comm.size} by {launch.by} on {len({one['host'] for one in everybody})} machine(s)")]
    findings += _devices(everybody, info.target)
    findings += _alike(everybody)
    findings += judge({name: str(value) for name, value in everybody[0].items()}, info.target)
    findings.append(_bandwidth(comm, megabytes, info.target))
    return findings, everybody


def _mpi() -> str:
    """The MPI library that this process has loaded, without loading one."""
    import sys

    if "mpi4py.MPI" not in sys.modules:
        return "none"
    return str(sys.modules["mpi4py.MPI"].Get_library_version()).split(",")[0].strip()[:80]


def _devices(everybody: Sequence[dict[str, Any]], target: str) -> list[tuple[str, str, str]]:
    if target == "CPU":
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return [("devices", "ok", f"CPUs, {cpus} for the first rank")]
    kinds = {one["device"].split()[0] for one in everybody}
    if len(kinds) > 1:
        return [("devices", "missing", f"ranks compute on {' and '.join(sorted(kinds))}; set --device_target")]
    places = Counter((one["host"], one["device"]) for one in everybody)
    shared = [f"{card} of {host}" for (host, card), count in places.items() if count > 1]
    if shared:
        return [("devices", "missing", f"several ranks use {', '.join(shared[:4])}: every rank needs its own card")]
    counts = sorted(Counter(one["host"] for one in everybody).items())
    return [("devices", "ok", f"{target}: " + ", ".join(f"{count} cards of {host}" for host, count in counts[:16]))]


def _alike(everybody: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """What must be equal everywhere, and the clocks."""
    found = []
    first = everybody[0]
    for name in ("python", "mindspore", "mindformers", "numpy", "CANN", "CUDA", "MPI", "code"):
        others = [one for one in everybody if one.get(name) != first.get(name)]
        if others:
            said = "; ".join(f"rank {one['rank']} on {one['host']}: {one.get(name)}" for one in others[:4])
            # Another patch level of Python computes the same; another library may not.
            state = "note" if name == "python" else "missing"
            found.append(
                (name, state, f"not the same everywhere: rank 0 on {first['host']}: {first.get(name)}; {said}")
            )
    if not found:
        found.append(("versions", "ok", "the same on all ranks"))
    apart = max(one["clock"] for one in everybody) - min(one["clock"] for one in everybody)
    state = "ok" if apart < _CLOCK_S else "note"
    found.append(("clocks", state, f"{apart:.1f} s apart" + ("" if state == "ok" else "; set them by NTP")))
    return found


def _bandwidth(comm: Comm, megabytes: int, target: str) -> tuple[str, str, str]:
    """Time all-reduces the way a training step makes them, and check their result."""
    import numpy as np

    count = max(1, megabytes * 1_000_000 // 4)
    expected = (comm.size + 1) / 2
    if comm.reduces_on_device:
        import mindspore as ms

        values = ms.Tensor(np.full(count, comm.rank + 1, np.float32))
        expected *= comm.size
    times, right = [], True
    for _ in range(4):
        buffer = np.full(count, comm.rank + 1, np.float32)
        comm.barrier()
        started = time.monotonic()
        if comm.reduces_on_device:
            total = comm.all_reduce_sum(values)
            ends = np.asarray([float(total[0].asnumpy()), float(total[count - 1].asnumpy())])
        else:
            comm.all_reduce_mean_(buffer)
            ends = buffer[[0, -1]]
        times.append(time.monotonic() - started)
        right = right and bool(np.allclose(ends, expected, rtol=1e-6))
    # The first one builds the connections. The slowest rank is what a step waits for.
    seconds = max(comm.all_gather_object(sorted(times[1:])[1]))
    if not all(comm.all_gather_object(right)):
        return "all-reduce", "missing", "its result is wrong on a rank: do not train; check network and cards"
    rate = count * 4 / 1e9 / max(seconds, 1e-9)
    told = f"{megabytes} MB in {seconds * 1000:.0f} ms ({rate:.2f} GB/s of gradients)"
    if target != "CPU" and rate < _SLOW:
        return (
            "all-reduce",
            "note",
            f"{told}: slow for cards; is the fast network used (HCCL_SOCKET_IFNAME, NCCL_IB_HCA)?",
        )
    return "all-reduce", "ok", told
