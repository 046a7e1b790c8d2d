"""Metrics of a checkpoint on a split, with the protocol that they belong to.

    mindground eval --ckpt runs/quickstart/best.ckpt --split val --with-shuffled --out metrics.json

Keys of the configuration change the checkpoint's own.
Exit codes: 0 done, 2 a mistake that can be mended, 143 / 130 stopped by a signal, 1 a defect.
"""

from __future__ import annotations

from collections.abc import Sequence

from mindground.runtime import device, interrupts

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, then evaluate."""
    interrupts.keep_ctrl_c()
    device.prepare()
    from mindground.cli.adjust import EVALUATION_KEYS, adjustment
    from mindground.cli.parser import VerbParser, add_overwrite
    from mindground.config import parse_command_line

    parser = VerbParser(prog, __doc__)
    parser.add_argument("--ckpt", default="runs/quickstart/best.ckpt", help="checkpoint (best.ckpt of a run)")
    parser.add_argument("--split", default="", help="split; without it every evaluation split of the data set")
    parser.add_argument("--out", default="", help="write the metrics to this JSON file")
    parser.add_argument(
        "--records", default="", help="write every prediction to this file: JSON lines, or COCO results for instances"
    )
    parser.add_argument(
        "--with-shuffled",
        action="store_true",
        help="also evaluate the control: exchanged sentences, or objects of another image",
    )
    parser.add_argument(
        "--weights",
        choices=("all", "plain", "averaged"),
        default="all",
        help="of a last.ckpt of a run with averages (train.ema_decay): score the weights of the last step, their "
        "averages, or both (default)",
    )
    parser.add_argument("--with-constant", action="store_true", help="also say what the best fixed box reaches")
    add_overwrite(parser)
    line = parse_command_line(argv, parser)
    from mindground.engine.scoring import score
    from mindground.files.outputs import check_outputs
    from mindground.runtime.launcher import launched_rank

    options = line.options
    if launched_rank() == 0:  # which writes, perhaps before the others have come here
        check_outputs(filter(None, (options.out, options.records)), [options.ckpt], overwrite=options.overwrite)
    score(
        options.ckpt,
        adjustment(line, "evaluation", EVALUATION_KEYS, split=options.split),
        splits=[options.split] if options.split else None,
        out=options.out,
        records=options.records,
        with_shuffled=options.with_shuffled,
        with_constant=options.with_constant,
        weights=options.weights,
    )
    return 0
