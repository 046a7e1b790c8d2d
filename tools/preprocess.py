"""Turn the files of a RefCOCO-family set into one cache that the reader takes in their place.

    python tools/preprocess.py --data_root data --dataset refcocog --splitBy umd --output data/refcocog

Writes <output>/<dataset>(<splitBy>).json (with outlines and sizes). Placed in <data_root>/<dataset>/ it
replaces refs(<splitBy>).p and instances.json; caches of upstream's tool (.pkl) are read there as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mindground.files.atomic import write_bytes

try:
    import mindground  # noqa: F401
except ModuleNotFoundError:  # a clone that was not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mindground.data.formats.refer import REFER_DATASETS, preprocess
from mindground.errors import MindGroundError


def main(argv: list[str] | None = None) -> int:
    """Parse, convert, print how many expressions each split has; 2 when files are missing or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=None, help="folder (default: <data_root>/<dataset>)")
    parser.add_argument("--data_root", required=True, help="folder that holds <dataset>/")
    parser.add_argument("--dataset", choices=REFER_DATASETS, default="refcocog")
    parser.add_argument("--splitBy", default="umd", help="unc | google | umd | berkeley")
    options = parser.parse_args(argv)
    try:
        content = preprocess(options.data_root, options.dataset, options.splitBy)
        folder = options.output or Path(options.data_root) / options.dataset
        path = folder / f"{options.dataset}({options.splitBy}).json"
        write_bytes(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())
    except MindGroundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    counts = ", ".join(f"{split} {len(items)}" for split, items in content["items"].items())
    print(f"{path}: {counts} expressions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
