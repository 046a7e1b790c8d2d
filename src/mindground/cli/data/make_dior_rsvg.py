"""Make a folder of DIOR-RSVG's shape from a referring set, or from COCO files and their images.

    mindground data make-dior-rsvg data/my_set --out data/my_rsvg
    mindground data make-dior-rsvg instances_train.json instances_val.json --images images --out data/my_rsvg

A referring set is a folder with <split>.jsonl, as `mindground data make-referring` writes it; from COCO files the
sentences are made first. The result is read as data.dataset: dior_rsvg. docs/data.md describes it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mindground.cli.parser import VerbParser, add_overwrite, at_least
from mindground.data import Dataset
from mindground.data.formats.jsonl import read_jsonl
from mindground.data.make.dior_rsvg import write_dior_rsvg
from mindground.data.make.referring import make_referring
from mindground.errors import DataError
from mindground.files.outputs import guarded

__all__ = ["main"]

USUAL = ("train", "val", "test")


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, convert, print one JSON line of counts."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument("source", type=Path, nargs="+", help="one folder of <split>.jsonl, or COCO files, one a split")
    parser.add_argument("--images", type=Path, help="folder of the images; a must for COCO files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--division",
        choices=("expression", "image", "keep"),
        default="expression",
        help="draw train, val and test by sentence (as DIOR-RSVG) or by image, or keep the splits of the source",
    )
    parser.add_argument(
        "--pictures", choices=("copy", "hardlink", "symlink"), default="copy", help="how they get there"
    )
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="draws the division, and the phrasings from COCO files"
    )
    add_overwrite(parser)
    options = parser.parse_args(argv)
    datasets = _read(options.source, options.images, options.seed)
    with guarded(options.source, overwrite=options.overwrite):
        report = write_dior_rsvg(
            options.out, datasets, division=options.division, placement=options.pictures, seed=options.seed
        )
    print(json.dumps(report.as_dict()))
    return 0


def _read(sources: list[Path], images: Path | None, seed: int) -> list[Dataset]:
    if len(sources) == 1 and sources[0].is_dir():
        return _splits(sources[0], str(images or ""))
    if images is None:
        raise DataError(f"{sources[0]} is no folder of <split>.jsonl; for COCO files name --images, too")
    with tempfile.TemporaryDirectory() as place:
        for path in sources:
            make_referring(path, images, Path(place), seed=seed)
        return _splits(Path(place), str(images))


def _splits(folder: Path, images: str) -> list[Dataset]:
    stems = {path.stem for path in folder.glob("*.jsonl")} - {"all"} or set(USUAL)
    order = [name for name in USUAL if name in stems] + sorted(stems - set(USUAL))
    return [read_jsonl(str(folder), split, images) for split in order]
