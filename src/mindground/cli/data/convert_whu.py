"""Convert the WHU building set to COCO instances: every connected part of a label is a building.

    mindground data convert-whu data/WHU --split train --split val --split test

Reads <root>/imgs/<split>/image and label, writes <root>/annotations/WHU_building_<split>.json (data.dataset: whu).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mindground.cli.parser import VerbParser, add_overwrite
from mindground.data.make.whu import convert_whu
from mindground.files.outputs import guarded

__all__ = ["main"]

_SPLITS = ("train", "val", "test")


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, convert, print one JSON line of counts a split."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument("root", type=Path, help="folder of the set")
    parser.add_argument(
        "--split", action="append", choices=_SPLITS, help="split to convert; may be repeated (default: all three)"
    )
    parser.add_argument("--out", type=Path, help="file to write, for one split (default: below the root)")
    add_overwrite(parser)
    options = parser.parse_args(argv)
    splits = options.split or _SPLITS
    if options.out and len(splits) > 1:
        parser.error("--out names the file of one split; give one --split")
    with guarded([], overwrite=options.overwrite):
        for split in splits:
            print(json.dumps(convert_whu(options.root, split, options.out or "").as_dict()))
    return 0
