"""Write splits of any data set as JSON lines (data.dataset: jsonl), so that nothing but text has to be read later.

    python tools/export_jsonl.py --dataset unc --root split_root --image-root data_root --splits train --out data/unc

The pictures stay where they are; dataset.json names their folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

try:
    import mindground  # noqa: F401
except ModuleNotFoundError:  # a clone that was not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mindground.config import DataConfig
from mindground.data import DATASETS, build_dataset, eval_splits
from mindground.data.formats.jsonl import write_dataset
from mindground.errors import MindGroundError


def main(argv: list[str] | None = None) -> int:
    """Parse, convert, print how many samples each split has; 2 when files are missing or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=DATASETS, required=True, help="format, as data.dataset")
    parser.add_argument("--root", default="", help="as data.root")
    parser.add_argument("--splitBy", default="", help="as data.splitBy")
    parser.add_argument("--image-root", default="", help="as data.image_root")
    parser.add_argument("--splits", default="", help="comma-separated (default: train and the evaluation splits)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args(argv)
    config = DataConfig(
        dataset=options.dataset, root=options.root, splitBy=options.splitBy, image_root=options.image_root
    )
    names = [name for name in options.splits.split(",") if name] or ["train", *eval_splits(config)]
    try:
        datasets = [build_dataset(config, name) for name in dict.fromkeys(names)]
        write_dataset(options.out, datasets)
    except MindGroundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: " + ", ".join(f"{dataset.split} {len(dataset)}" for dataset in datasets) + " samples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
