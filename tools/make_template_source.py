"""Make a source of pseudo labels from detections or labels: boxes, classes, no text needed.

    python tools/make_template_source.py instances_train.json --images images --out data/template --from-above

Writes <split>.jsonl + dataset.json (data.dataset: jsonl), for tools/curriculum.py --source template=data/template.
docs/curriculum.md has the rules.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

try:
    import mindground  # noqa: F401
except ModuleNotFoundError:  # a clone that was not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mindground.data.make.templates import TemplateRules, make_template_source
from mindground.errors import MindGroundError


def main(argv: list[str] | None = None) -> int:
    """Parse, make, print one JSON line of counts; 2 when the input does not fit."""
    usual = TemplateRules()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("coco", type=Path, metavar="COCO.json", help="instance file: images, categories, labels")
    parser.add_argument("--images", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--detections", type=Path, help="COCO results of a detector, in place of the labels")
    parser.add_argument("--split", default="", help="name of the split (default: from the file's name)")
    parser.add_argument("--seed", type=int, default=0, help="draws the sentences where an image has too many")
    parser.add_argument("--min-score", type=float, default=0.0, help="least confidence of a detection")
    parser.add_argument(
        "--min-share", type=float, default=usual.min_share, help="least share of the image a box has (upstream 1/64)"
    )
    parser.add_argument("--sentences", type=int, default=usual.sentences, help="of one image at most")
    parser.add_argument("--from-above", action="store_true", help="say small and large, not behind and front")
    options = parser.parse_args(argv)
    if options.sentences < 1:
        parser.error("--sentences must be at least 1")
    rules = TemplateRules(min_share=options.min_share, sentences=options.sentences, from_above=options.from_above)
    try:
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
    except MindGroundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report.as_dict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
