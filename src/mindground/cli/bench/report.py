"""What was measured, and on what, for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["machine", "sentence_table", "table"]


def machine() -> dict[str, Any]:
    """CPU model, usable cores, load before the measurement, versions of Python and system."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    versions = {"python": platform.python_version(), "system": platform.platform()}
    return {"cpu": model, "cores": cores, "load": load, **versions}


def _row(name: str, ours: float, theirs: float, unit: str, digits: int) -> str:
    return f"{name:<44}{ours:>12.{digits}f} {unit:<4}{theirs:>12.{digits}f} {unit:<4}{ours / theirs:>8.2f}"


def _heading(measured: Mapping[str, Any], what: str, versions: Mapping[str, str]) -> list[str]:
    where = measured["machine"]
    return [
        f"{measured['family']}, {measured['size']} pixels, {what}, {measured['mode']} mode",
        f"{where['cpu']}, {where['cores']} cores, load {where['load']} at the start, Python {where['python']}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]


def sentence_table(measured: Mapping[str, Any]) -> str:
    """The same for many sentences about one image."""
    found = measured["sentences"]
    count = found["count"]
    lines = [
        *_heading(measured, "one image", found["versions"]),
        f"first box alone and among {count}: {found['pixels']:.1e} pixels apart",
        "",
        f"{'one sentence':<28}{found['one_seconds']:>12.3f} s",
        f"{f'{count} sentences':<28}{found['many_seconds']:>12.3f} s{found['ratio']:>10.2f} times one",
        f"{'peak memory':<28}{found['peak_mib'] / 1024:>12.2f} GiB",
        "",
        "medians of turns taken alternately, from the image in memory to boxes",
    ]
    return "\n".join(lines)


def _kernel_rows(kernels: Mapping[str, Any], task: str, name: str) -> list[str]:
    """What the kernels of a task take by themselves, all together and by their kinds."""
    kinds = [key for key in kernels if key == task or key.endswith(f" {task}")]
    named = {key: key.removesuffix(task).strip() or "all" for key in kinds}
    return [
        _row(f"  bare kernels, {named[key]}, {name}", kernels[key]["ours"], kernels[key]["peer"], "s", 3)
        for key in kinds
    ]


def table(measured: Mapping[str, Any]) -> str:
    """One block of text: machine, agreement, a line per figure with its ratio."""
    names = measured.get("tasks") or {"forward": "forward", "step": "training step"}
    tasks = [task for task in names if task in measured]
    versions: dict[str, str] = {}
    for side in ("ours", "peer"):
        versions |= measured[tasks[0]][side]["versions"]
    lines = [
        *_heading(measured, f"batch {measured['batch']}", versions),
        f"largest relative difference between the sides: {measured['largest_difference']:.1e}",
        "",
        f"{'':<44}{'MindGround':>12}     {'PyTorch':>12}     {'ratio':>8}",
    ]
    for task in tasks:
        ours, theirs = measured[task]["ours"], measured[task]["peer"]
        lines.append(_row(names[task], ours["seconds"], theirs["seconds"], "s", 3))
        lines.append(_row(f"  of processors, {names[task]}", ours["cpu_seconds"], theirs["cpu_seconds"], "s", 3))
        lines += _kernel_rows(measured.get("kernels", {}), task, names[task])
    for task in tasks:
        peaks = [measured[task][side]["peak_mib"] / 1024 for side in ("ours", "peer")]
        lines.append(_row(f"peak memory, {names[task]}", peaks[0], peaks[1], "GiB", 2))
    if "decoding" in measured:
        found = measured["decoding"]
        times = f"{found['cached_seconds']:>12.3f} s   {found['prefix_seconds']:>13.3f} s   {found['faster']:>9.2f}"
        lines.append(f"{'decoder, ' + str(found['steps']) + ' tokens: cache, prefix, faster':<44}{times}")
    idle = [measured["idle_mib"][side] / 1024 for side in ("ours", "peer")]
    lines.append(_row("memory, libraries only", idle[0], idle[1], "GiB", 2))
    lines += ["", "medians of turns taken by both sides alternately; memory of whole processes, libraries included"]
    return "\n".join(lines)
