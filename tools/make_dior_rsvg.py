"""Make a folder of DIOR-RSVG's shape from a referring set, or from COCO files and their pictures.

    python tools/make_dior_rsvg.py data/my_set --out data/my_rsvg
    python tools/make_dior_rsvg.py instances_train.json instances_val.json --images images --out data/my_rsvg

A referring set is a folder with <split>.jsonl, as tools/make_referring.py writes it; from COCO files the sentences are
made first. The result is read as data.dataset: dior_rsvg. docs/data.md describes it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

try:
    import mindground  # noqa: F401
except ModuleNotFoundError:  # a clone that was not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from mindground.data import Dataset
from mindground.data.formats.jsonl import read_jsonl
from mindground.data.make.dior_rsvg import write_dior_rsvg
from mindground.data.make.referring import make_referring
from mindground.errors import DataError, MindGroundError

USUAL = ("train", "val", "test")


def main(argv: list[str] | None = None) -> int:
    """Parse, convert, print one JSON line of counts; 2 when the input does not fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="+", help="one folder of <split>.jsonl, or COCO files, one a split")
    parser.add_argument("--images", type=Path, help="folder of the pictures; a must for COCO files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--division",
        choices=("expression", "image", "keep"),
        default="expression",
        help="draw train, val and test by sentence (as DIOR-RSVG) or by picture, or keep the splits of the source",
    )
    parser.add_argument(
        "--pictures", choices=("copy", "hardlink", "symlink"), default="copy", help="how they get there"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the division, and the phrasings from COCO files")
    options = parser.parse_args(argv)
    try:
        report = write_dior_rsvg(
            options.out,
            _read(options.source, options.images, options.seed),
            division=options.division,
            placement=options.pictures,
            seed=options.seed,
        )
    except MindGroundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
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


if __name__ == "__main__":
    sys.exit(main())
