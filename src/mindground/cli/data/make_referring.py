"""Make unambiguous referring expressions from a COCO instance set, or take the sentences that were typed into it.

    mindground data make-referring instances_train.json --images images --out data/my_set
    mindground data make-referring set/train/_annotations.coco.json set/valid/_annotations.coco.json --out data/my_set

Writes <split>.jsonl + dataset.json (data.dataset: jsonl) and refs(<splitBy>).p + instances.json
(data.dataset: refcoco with the same --splitBy). docs/data.md describes both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from mindground.cli.parser import VerbParser, at_least
from mindground.data.make.labels import SENTENCE_KEYS
from mindground.data.make.referring import make_referring
from mindground.data.make.splits import splits_of

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, make, print one JSON line of counts a file."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument("coco", type=Path, nargs="+", metavar="COCO.json", help="instance files, one a split")
    parser.add_argument("--images", type=Path, help="folder of the images (default: the folder of each file)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--split", default="", help="split of a single file (default: from its name or folder)")
    parser.add_argument(
        "--splitBy", default="unc", help="name in refs(<splitBy>).p; every reader of the refer family takes unc"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="draws the phrasings")
    parser.add_argument("--per-object", type=at_least(1), default=4, help="made sentences of one object at most")
    parser.add_argument("--min-side", type=float, default=8.0, help="smallest box side that is asked for, in pixels")
    parser.add_argument(
        "--sentence-key",
        action="append",
        metavar="KEY",
        help="key of an annotation or of its attributes that holds typed sentences, beside "
        f"{', '.join(SENTENCE_KEYS)}; may be repeated",
    )
    parser.add_argument("--only-typed", action="store_true", help="take typed sentences, make none")
    parser.add_argument("--overwrite", action="store_true", help="replace a split that was made from another file")
    options = parser.parse_args(argv)
    if options.split and len(options.coco) > 1:
        parser.error("--split names the split of one file; give one file at a time")
    if not 0 <= options.min_side < float("inf"):
        parser.error(f"--min-side {options.min_side} must be a number of pixels, 0 or more")
    # All names are known before the first file is written.
    splits = [options.split] if options.split else splits_of(options.coco)
    for path, split in zip(options.coco, splits, strict=True):
        report = make_referring(
            path,
            options.images,
            options.out,
            split=split,
            split_by=options.splitBy,
            seed=options.seed,
            per_object=options.per_object,
            min_side=options.min_side,
            sentence_keys=(*SENTENCE_KEYS, *(options.sentence_key or ())),
            only_typed=options.only_typed,
            image_root=options.images or _common_folder(options.coco),
            overwrite=options.overwrite,
        )
        print(json.dumps(report.as_dict()))
    return 0


def _common_folder(paths: Sequence[Path]) -> Path:
    """The folder that holds the folders of all files, for images that lie beside their annotations."""
    try:
        return Path(os.path.commonpath([path.resolve().parent for path in paths]))
    except ValueError:  # another drive on Windows
        return paths[0].resolve().parent
