"""Turn the files of a RefCOCO-family set into one cache that the reader takes in their place.

    mindground data preprocess --data_root data --dataset refcocog --splitBy umd --output data/refcocog

Writes <output>/<dataset>(<splitBy>).json (with outlines and sizes). Placed in <data_root>/<dataset>/ it
replaces refs(<splitBy>).p and instances.json; caches of upstream's tool (.pkl) are read there as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mindground.cli.parser import VerbParser, add_overwrite
from mindground.data.formats.refer import REFER_DATASETS, preprocess
from mindground.files.atomic import write_bytes
from mindground.files.outputs import check_outputs

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, convert, print how many expressions each split has."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument("--output", type=Path, default=None, help="folder (default: <data_root>/<dataset>)")
    parser.add_argument("--data_root", required=True, help="folder that holds <dataset>/")
    parser.add_argument("--dataset", choices=REFER_DATASETS, default="refcocog")
    parser.add_argument("--splitBy", default="umd", help="unc | google | umd | berkeley")
    add_overwrite(parser)
    options = parser.parse_args(argv)
    source = Path(options.data_root) / options.dataset
    path = (options.output or source) / f"{options.dataset}({options.splitBy}).json"
    # An earlier result is no input, though it may lie beside them.
    inputs = [one for one in source.glob("*") if one.name != path.name]
    check_outputs([path], inputs, overwrite=options.overwrite)
    content = preprocess(options.data_root, options.dataset, options.splitBy)
    write_bytes(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())
    counts = ", ".join(f"{split} {len(items)}" for split, items in content["items"].items())
    print(f"{path}: {counts} expressions")
    return 0
