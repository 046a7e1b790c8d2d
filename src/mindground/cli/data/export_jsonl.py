"""Write splits of any data set as JSON lines (data.dataset: jsonl), so that nothing but text has to be read later.

    mindground data export-jsonl --dataset unc --root split_root --image-root data_root --splits train --out data/unc

The images stay where they are; dataset.json names their folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mindground.cli.parser import VerbParser, add_overwrite
from mindground.config import DataConfig
from mindground.data import DATASETS, build_dataset, eval_splits
from mindground.data.formats.jsonl import write_dataset
from mindground.files.outputs import guarded

__all__ = ["main"]


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, convert, print how many samples each split has."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument("--dataset", choices=DATASETS, required=True, help="format, as data.dataset")
    parser.add_argument("--root", default="", help="as data.root")
    parser.add_argument("--splitBy", default="", help="as data.splitBy")
    parser.add_argument("--image-root", default="", help="as data.image_root")
    parser.add_argument("--splits", default="", help="comma-separated (default: train and the evaluation splits)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    add_overwrite(parser)
    options = parser.parse_args(argv)
    config = DataConfig(
        dataset=options.dataset, root=options.root, splitBy=options.splitBy, image_root=options.image_root
    )
    names = [name for name in options.splits.split(",") if name] or ["train", *eval_splits(config)]
    datasets = [build_dataset(config, name) for name in dict.fromkeys(names)]
    with guarded([options.root] if options.root else [], overwrite=options.overwrite):
        write_dataset(options.out, datasets)
    print(f"{options.out}: " + ", ".join(f"{dataset.split} {len(dataset)}" for dataset in datasets) + " samples")
    return 0
