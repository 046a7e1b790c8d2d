"""Self-paced training on pseudo labels: measure, choose, train; one command that can be stopped and continued.

    mindground curriculum --source template=data/template --source caption=data/caption.jsonl \\
        --config configs/vglaw/refcoco.yaml --out runs/curriculum --ranks 2 --train.max_epochs=5

Without --source the training split of the configuration is the only source. The data section of the configuration names
the split that judges. Leaves <out>/subset (data.dataset: jsonl), <out>/best.ckpt, report.md. See docs/curriculum.md.
Exit codes: 0 done, 2 a mistake that can be mended, 143 / 130 stopped; the same command continues.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, then run or continue. Whatever computes is a process of its own, so MindSpore is not imported here."""
    from mindground.cli.parser import VerbParser, at_least, share
    from mindground.config import parse_command_line
    from mindground.curriculum.run import CurriculumSettings, run_curriculum
    from mindground.curriculum.subsets import read_source, source_of

    parser = VerbParser(prog, __doc__)
    parser.add_argument(
        "--source", action="append", default=[], metavar="NAME=PATH", help="JSON-lines set or YAML file; repeat it"
    )
    parser.add_argument("--out", type=Path, required=True, help="work folder; the same one continues")
    parser.add_argument("--start-threshold", type=share, default=0.5, help="where every search begins")
    parser.add_argument("--order", default="", help="sources from simple to complex, comma-separated")
    parser.add_argument("--ranks", type=at_least(1), default=1, help="processes of every training (mpirun -n)")
    line = parse_command_line(argv, parser)
    options, config = line.options, line.config()
    sources = [read_source(text) for text in options.source] or [source_of("train", config.data)]
    order = tuple(name for name in options.order.split(",") if name)
    settings = CurriculumSettings(config, options.out, options.start_threshold, order, options.ranks)
    run_curriculum(settings, sources)
    return 0
