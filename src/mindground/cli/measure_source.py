"""Measure one source with one checkpoint, as a process that the curriculum starts, under mpirun or without.

    python -m mindground.cli.measure_source --ckpt best.ckpt --data DIR --out reliability.jsonl

DIR holds train.jsonl. Keys of the configuration may follow (`--device.device_target=CPU`). It is no verb of
`mindground`: `mindground curriculum` is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mindground.runtime import device

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, measure, write."""
    device.prepare()
    from mindground.cli.parser import VerbParser
    from mindground.config import DataConfig, parse_command_line
    from mindground.curriculum.reliability import measure, write_measured
    from mindground.data import build_dataset
    from mindground.runtime.distributed import current_comm

    parser = VerbParser(prog, __doc__)
    parser.add_argument("--ckpt", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    line = parse_command_line(argv, parser)
    options = line.options
    dataset = build_dataset(DataConfig(dataset="jsonl", root=options.data), "train")
    measured = measure(options.ckpt, dataset, line.applied_to)
    comm = current_comm()
    if comm is None or comm.rank == 0:
        write_measured(Path(options.out), measured)
    if comm is not None:
        comm.barrier()
    return 0


if __name__ == "__main__":
    from mindground.cli.exit_codes import run_command

    sys.exit(run_command(main))
