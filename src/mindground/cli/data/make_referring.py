"""Make unambiguous referring expressions from a COCO instance set.

    mindground data make-referring instances_train.json --images images --out data/my_set

Writes <split>.jsonl + dataset.json (data.dataset: jsonl) and refs(<splitBy>).p + instances.json
(data.dataset: refcoco with the same --splitBy). docs/data.md describes both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mindground.cli.parser import VerbParser, at_least
from mindground.data.make.referring import make_referring

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, make, print one JSON line of counts a file."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument("coco", type=Path, nargs="+", metavar="COCO.json", help="instance files, one a split")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--split", default="", help="name of the split of a single file (default: from its name)")
    parser.add_argument(
        "--splitBy", default="unc", help="name in refs(<splitBy>).p; every reader of the refer family takes unc"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="draws the phrasings")
    parser.add_argument("--per-object", type=at_least(1), default=4, help="sentences of one object at most")
    parser.add_argument("--min-side", type=float, default=8.0, help="smallest box side that is asked for, in pixels")
    options = parser.parse_args(argv)
    if options.split and len(options.coco) > 1:
        parser.error("--split names the split of one file; give one file at a time")
    if not 0 <= options.min_side < float("inf"):
        parser.error(f"--min-side {options.min_side} must be a number of pixels, 0 or more")
    for path in options.coco:
        report = make_referring(
            path,
            options.images,
            options.out,
            split=options.split,
            split_by=options.splitBy,
            seed=options.seed,
            per_object=options.per_object,
            min_side=options.min_side,
        )
        print(json.dumps(report.as_dict()))
    return 0
