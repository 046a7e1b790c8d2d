"""Train: `mpirun -n 8 python src/train.py --config configs/vglaw/refcoco.yaml --train.batch_size=4`.

Without arguments a small VG-LAW learns the synthetic aerial set. Exit codes: see mindground/doors.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mindground.runtime import device


def main(argv: Sequence[str]) -> int:
    """Parse, then train."""
    from mindground.config import CommandParser, parse_command_line

    line = parse_command_line(argv, CommandParser(description="train what a configuration describes"), explains=True)
    if line.options.explain_config:
        print(line.explained(), end="")
        return 0
    config = line.config()
    from mindground.engine.trainer import train

    folder = train(config)
    del folder
    return 0


if __name__ == "__main__":
    device.prepare()
    from mindground.cli.exit_codes import run_command

    sys.exit(run_command(main))
