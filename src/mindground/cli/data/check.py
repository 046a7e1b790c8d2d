"""Check a data set: images, sizes, boxes, masks, ids, numbering, and what its splits share.

    mindground data check --dataset jsonl --root data/my_set --splits train,val --out report.json

Exit code 0: no errors (warnings may stand in the report); 1: errors found; 2: it cannot be read at all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mindground.cli.parser import VerbParser, add_overwrite, share
from mindground.config import DataConfig
from mindground.data import DATASETS, eval_splits, inspect_dataset
from mindground.data.check.checks import write_report
from mindground.data.check.inspection import check_inspection, published_lines
from mindground.files.outputs import check_outputs

__all__ = ["main"]

SHOWN = 20
# Of a report as `write_report` writes it.
_REPORT_START = b'{\n  "schema": '


def _inputs(root: str, out: Path) -> list[Path]:
    """The files right inside the folder of the set, without an earlier report, which may lie beside them."""
    if not root or not os.path.isdir(root):
        return []
    earlier = False
    if out.is_file():
        with out.open("rb") as stream:
            earlier = stream.read(len(_REPORT_START)) == _REPORT_START
    return [path for path in Path(root).iterdir() if not (earlier and path.name == out.name)]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, check, print the findings; the exit code says what was found."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument("--dataset", choices=DATASETS, required=True, help="format, as data.dataset")
    parser.add_argument("--root", default="", help="as data.root")
    parser.add_argument("--splitBy", default="", help="as data.splitBy")
    parser.add_argument("--image-root", default="", help="as data.image_root")
    parser.add_argument("--mask-path", default="", help="as data.mask_path")
    parser.add_argument("--splits", default="", help="comma-separated (default: train and the evaluation splits)")
    parser.add_argument("--out", type=Path, help="write the JSON report here")
    parser.add_argument("--no-decode", action="store_true", help="do not read the images whole")
    parser.add_argument("--min-box-iou", type=share, default=0.5, help="least overlap of a box and its mask's box")
    add_overwrite(parser)
    options = parser.parse_args(argv)
    if options.out is not None:
        check_outputs([options.out], _inputs(options.root, options.out), overwrite=options.overwrite)
    config = DataConfig(
        dataset=options.dataset,
        root=options.root,
        splitBy=options.splitBy,
        image_root=options.image_root,
        mask_path=options.mask_path,
    )
    names = [name for name in options.splits.split(",") if name] or ["train", *eval_splits(config)]
    inspection = inspect_dataset(config, list(dict.fromkeys(names)))
    report = check_inspection(inspection, decode_images=not options.no_decode, min_box_iou=options.min_box_iou)
    if options.out is not None:
        write_report(options.out, report)
    for split, counts in report.splits.items():
        said = ", ".join(f"{number} {what}" for what, number in counts.items())
        print(f"{split}: {said}, fingerprint {report.fingerprints[split][:12]}")
    for line in [*inspection.lines, *published_lines(report)]:
        print(line)
    for kind, number in report.kinds().items():
        print(f"{kind}: {number}")
    for finding in report.findings[:SHOWN]:
        print(f"  {finding.level} {finding.kind} [{finding.split}] {finding.subject}: {finding.detail}")
    if len(report.findings) > SHOWN:
        print(f"  ... {len(report.findings) - SHOWN} more; --out FILE writes all")
    return 1 if report.errors else 0
