"""Make a source of pseudo labels from detections or labels: boxes, classes, no text needed.

    mindground data make-template-source instances_train.json --images images --out data/template --from-above

Writes <split>.jsonl + dataset.json (data.dataset: jsonl), for `mindground curriculum --source template=data/template`.
docs/curriculum.md has the rules.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mindground.cli.parser import VerbParser, add_overwrite, at_least, share
from mindground.data.make.templates import TemplateRules, make_template_source
from mindground.files.outputs import guarded

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, make, print one JSON line of counts."""
    usual = TemplateRules()
    parser = VerbParser(prog, __doc__)
    parser.add_argument("coco", type=Path, metavar="COCO.json", help="instance file: images, categories, labels")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--detections", type=Path, help="COCO results of a detector, in place of the labels")
    parser.add_argument("--split", default="", help="name of the split (default: from the file's name)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="draws the sentences where an image has too many")
    parser.add_argument("--min-score", type=share, default=0.0, help="least confidence of a detection")
    parser.add_argument(
        "--min-share", type=share, default=usual.min_share, help="least share of the image a box has (upstream 1/64)"
    )
    parser.add_argument("--sentences", type=at_least(1), default=usual.sentences, help="of one image at most")
    parser.add_argument("--from-above", action="store_true", help="say small and large, not behind and front")
    add_overwrite(parser)
    options = parser.parse_args(argv)
    rules = TemplateRules(min_share=options.min_share, sentences=options.sentences, from_above=options.from_above)
    inputs = [options.coco, *([options.detections] if options.detections else [])]
    with guarded(inputs, overwrite=options.overwrite):
        report = make_template_source(
            options.coco,
            options.images,
            options.out,
            detections=options.detections,
            split=options.split,
            seed=options.seed,
            min_score=options.min_score,
            rules=rules,
        )
    print(json.dumps(report.as_dict()))
    return 0
