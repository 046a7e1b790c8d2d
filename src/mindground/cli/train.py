"""Train what a configuration describes. Without arguments a small VG-LAW learns the synthetic aerial set.

    mindground train
    mpirun -n 8 mindground train --config configs/vglaw/refcoco.yaml --train.batch_size=4

Exit codes: 0 done, 2 a mistake that can be mended, 143 / 130 stopped by a signal, 1 a defect.
"""

from __future__ import annotations

from collections.abc import Sequence

from mindground.runtime import device, interrupts

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, then train."""
    interrupts.keep_ctrl_c()
    device.prepare()
    from mindground.cli.parser import VerbParser
    from mindground.config import parse_command_line

    line = parse_command_line(argv, VerbParser(prog, __doc__), explains=True)
    if line.options.explain_config:
        print(line.explained(), end="")
        return 0
    config = line.config()
    from mindground.engine.trainer import train

    train(config)
    return 0
