"""Train what a configuration describes. Without arguments a small VG-LAW learns the synthetic aerial set.

    mindground train
    mpirun -n 8 mindground train --config configs/vglaw/refcoco.yaml --train.batch_size=4
    mindground train --from runs/x/best.ckpt --dataset=jsonl --data.root=mine

Exit codes: 0 done, 2 a mistake that can be mended, 143 / 130 stopped by a signal, 1 a defect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mindground.runtime import device, interrupts

if TYPE_CHECKING:
    from mindground.config import CommandLine, Config

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, then train."""
    interrupts.keep_ctrl_c()
    device.prepare()
    from mindground.cli.parser import VerbParser
    from mindground.config import parse_command_line

    parser = VerbParser(prog, __doc__)
    parser.add_argument(
        "--from",
        dest="start",
        metavar="CKPT",
        help="start from a checkpoint: its configuration, vocabulary and weights, a tenth of its learning rate, no "
        "warm-up, and a run folder of its own (runs/<name>_finetuned); keys that follow change that",
    )
    line = parse_command_line(argv, parser, explains=True)
    start = line.options.start
    if start is None and line.options.explain_config:
        print(line.explained(), end="")
        return 0
    config = line.config() if start is None else _started_from(start, line)
    if line.options.explain_config:
        from mindground.config import to_yaml

        print(to_yaml(config), end="")
        return 0
    from mindground.engine.trainer import train

    train(config)
    return 0


def _started_from(checkpoint: str, line: CommandLine) -> Config:
    from mindground.engine.fine_tune import fine_tuning

    return fine_tuning(checkpoint, line.applied_to)
