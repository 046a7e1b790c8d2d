"""A child process: builds one side for one task, then runs it once for every line it is sent.

Only numbers travel over the pipe; arrays go through files in the shared folder.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mindground.files.atomic import atomic_file

__all__ = ["Side", "main", "peak_mib"]


class Side(Protocol):
    """What is timed. Both methods return when their numbers are on the host."""

    def forward(self) -> dict[str, np.ndarray]:
        """Outputs of the network without gradients."""
        ...

    def step(self) -> dict[str, float]:
        """Loss and gradient norm (before clipping) of one training step that has updated the parameters."""
        ...


def peak_mib() -> float:
    """Largest resident memory of this process so far.

    getrusage counts the parent's memory at the fork as well, so /proc is asked first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


# Tasks that answer with numbers; all others give arrays, which go through a file.
_FIGURES = ("step", "sentences", "kernels", "decoding")


def _build(side: str, task: str, family: str, folder: Path) -> Any:
    from mindground.cli.bench import recipe_modules
    from mindground.config import from_dict

    modules = recipe_modules(family)
    if modules is None:
        raise ValueError(f"family {family} has nothing to be compared with")
    ours, peer = modules
    config = from_dict(json.loads((folder / "config.json").read_text()))
    if side == "ours":
        from mindground.cli.bench.ours import OurSide, idle, write_start

        module = importlib.import_module(ours)
        if task == "prepare":
            write_start(module, config, folder)
            return None
        if task == "sentences":
            from mindground.cli.bench.sentences import SentenceSide

            return SentenceSide(module, config, folder)
        if task == "kernels":
            from mindground.cli.bench.kernels import OurKernels, read_kernels

            idle(config)
            return OurKernels(read_kernels(folder))
        if task == "decoding":
            from mindground.cli.bench.decoding import DecodingSide

            idle(config)
            return DecodingSide(config)
        if task in getattr(module, "TASKS", ()):
            return module.side(config, folder)
        return idle(config) if task == "idle" else OurSide(module, config, folder, training=task == "step")
    if task == "kernels":
        from mindground.cli.bench.kernels import read_kernels
        from mindground.cli.bench.peer_kernels import PeerKernels

        return PeerKernels(read_kernels(folder))
    module = importlib.import_module(peer)
    if task == "idle":
        return None
    arrays = dict(np.load(folder / "arrays.npz"))
    built = module.build(config, folder / "weights.safetensors", arrays, task in ("step", "record"))
    if task == "record":
        from mindground.cli.bench.kernels import write_kernels
        from mindground.cli.bench.peer_kernels import record

        write_kernels(folder, record(lambda: built.network(*built.inputs)))
    return built


def _once(run: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, float]]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


def _versions(side: str) -> dict[str, str]:
    if side == "ours":
        import mindspore

        return {"mindspore": mindspore.__version__}
    import torch
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "torch threads": str(torch.get_num_threads()),
    }


def main(arguments: list[str]) -> None:
    """SIDE TASK FAMILY FOLDER; answers one JSON line per line of standard input."""
    side, task, family, place = arguments
    folder = Path(place)
    # Libraries print to standard output too; the answers get a stream of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    built = _build(side, task, family, folder)
    answer(ready=True, versions=_versions(side))
    for line in sys.stdin:
        command = line.strip()
        if command == "end":
            break
        result, times = _once(getattr(built, task))
        numbers = {}
        if task not in _FIGURES:
            with atomic_file(folder / f"{side}_outputs.npz") as stream:
                np.savez(stream, **result)
        else:
            numbers = result
        answer(**times, numbers=numbers)
    answer(peak_mib=peak_mib())


if __name__ == "__main__":
    if sys.argv[1] == "ours":
        # Never for the peer: the settings include an instruction set that would slow PyTorch down.
        from mindground.runtime import device

        device.prepare()
    main(sys.argv[1:])
