"""Evaluate: `python src/eval.py --ckpt runs/quickstart/best.ckpt --split val --with-shuffled --out metrics.json`.

Prints the metrics with the protocol that they belong to. Exit codes: see mindground/doors.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mindground.runtime import device


def main(argv: Sequence[str]) -> int:
    """Parse, then evaluate."""
    from mindground.config import CommandParser, parse_command_line

    parser = CommandParser(description="metrics of a checkpoint on a split")
    parser.add_argument("--ckpt", default="runs/quickstart/best.ckpt", help="checkpoint (best.ckpt of a run)")
    parser.add_argument("--split", default="", help="split; without it every evaluation split of the data set")
    parser.add_argument("--out", default="", help="write the metrics to this JSON file")
    parser.add_argument("--records", default="", help="write one JSON line per sample to this file")
    parser.add_argument("--with-shuffled", action="store_true", help="also evaluate with exchanged sentences")
    parser.add_argument("--with-constant", action="store_true", help="also say what the best fixed box reaches")
    line = parse_command_line(argv, parser)
    from mindground.engine.scoring import score

    options = line.options
    score(
        options.ckpt,
        line.applied_to,
        splits=[options.split] if options.split else None,
        out=options.out,
        records=options.records,
        with_shuffled=options.with_shuffled,
        with_constant=options.with_constant,
    )
    return 0


if __name__ == "__main__":
    device.prepare()
    from mindground.cli.exit_codes import run_command

    sys.exit(run_command(main))
