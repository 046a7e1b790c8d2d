"""A pseudo-label set whose errors are known: some boxes of a configured data set are made wrong on purpose.

    mindground data plant-wrong-boxes --out runs/planted --share 0.25                   (the embedded synthetic set)
    mindground data plant-wrong-boxes --out runs/planted --check runs/curriculum/subset/train.jsonl

The first writes train.jsonl (sentences with one box, no masks; a share of the boxes is another object's, or moved, so
that it overlaps the true one by less than 0.1), val.jsonl as it is, and planted.json with the ids of the wrong ones.
The second says how many of them a subset is rid of, and how many of the right ones it has kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mindground.cli.parser import VerbParser, add_overwrite, at_least
from mindground.config import Config, parse_command_line
from mindground.curriculum.subsets import Source, SubsetWriter
from mindground.data import Dataset, build_dataset, eval_splits
from mindground.data.formats.files import read_json
from mindground.data.formats.jsonl import read_jsonl
from mindground.errors import ConfigError, DataError
from mindground.files.atomic import write_bytes
from mindground.files.images import read_image
from mindground.files.outputs import guarded
from mindground.structures import Sample, box_iou
from mindground.structures.truth import referent_box

__all__ = ["check", "main", "plant"]

WRONG_BELOW = 0.1
TRIES = 500


def plant(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, list[str]]:
    """The set with boxes alone, round(share * N) of them wrong, and the ids of these.

    Half of the wrong ones are another object's of the same image where there is one; the others keep about their size
    and lie elsewhere in the image.
    """
    if not 0 < share < 1:
        raise ConfigError(f"--share {share} must lie between 0 and 1")
    rng = np.random.default_rng(seed)
    objects: dict[str, list[np.ndarray]] = {}
    for sample in dataset:
        objects.setdefault(sample.image_id, []).append(referent_box(sample))
    wrong = set(rng.choice(len(dataset), round(share * len(dataset)), replace=False).tolist())
    samples: list[Sample] = []
    for index, sample in enumerate(dataset):
        truth = referent_box(sample)
        box = _wrong_box(sample, truth, objects[sample.image_id], rng) if index in wrong else truth
        made = replace(sample, boxes_xyxy=box[None], segmentations=(), labels=sample.labels[:1], object_ids=())
        samples.append(made)
    return replace(dataset, samples=samples), [dataset[index].sample_id for index in sorted(wrong)]


def _wrong_box(sample: Sample, truth: np.ndarray, others: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    rivals = [box for box in others if box_iou(box, truth) < WRONG_BELOW]
    if rivals and rng.random() < 0.5:
        return rivals[int(rng.integers(len(rivals)))]
    height, width = sample.size or read_image(sample.image_path).shape[:2]
    extent = np.asarray([width, height], np.float64)
    for _ in range(TRIES):
        side = np.minimum((truth[2:] - truth[:2]) * rng.uniform(0.7, 1.4, 2), extent)
        corner = rng.random(2) * (extent - side)
        box = np.concatenate([corner, corner + side]).astype(np.float32)
        if box_iou(box, truth) < WRONG_BELOW:
            return box
    raise DataError(f"sample {sample.sample_id!r}: its box leaves no room for a wrong one; take smaller objects")


def check(planted: dict[str, Any], subset: Path) -> dict[str, Any]:
    """How a subset treats the wrong and the right samples; a share of none is None."""
    kept = {sample.sample_id for sample in read_jsonl(str(subset), "train")}
    wrong = set(planted["wrong"])
    right = planted["samples"] - len(wrong)
    removed = len(wrong - kept)
    return {
        "samples": planted["samples"],
        "kept": len(kept),
        "wrong": len(wrong),
        "wrong_removed": removed,
        "wrong_removed_share": _share(removed, len(wrong)),
        "right_kept": len(kept - wrong),
        "right_kept_share": _share(len(kept - wrong), right),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _make(config: Config, out: Path, share: float, seed: int) -> dict[str, Any]:
    dataset, wrong = plant(build_dataset(config.data, config.data.train_split), share, seed)
    evaluation = build_dataset(config.data, eval_splits(config.data)[0])
    subsets = SubsetWriter([Source("planted", dataset, 0.0)], evaluation)
    subsets.write_training(out, subsets.records(0))
    planted = {"samples": len(dataset), "share": share, "seed": seed, "wrong": wrong}
    write_bytes(out / "planted.json", (json.dumps(planted, indent=1) + "\n").encode())
    return {"samples": len(dataset), "wrong": len(wrong), "val": len(evaluation), "folder": str(out)}


def main(argv: Sequence[str], prog: str | None = None) -> int:
    """Parse, then make or check; prints one JSON line."""
    parser = VerbParser(prog, __doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the set")
    parser.add_argument("--share", type=float, default=0.25, help="of the boxes that are made wrong")
    parser.add_argument("--plant-seed", type=at_least(0), default=0, help="draws which, and how")
    parser.add_argument("--check", type=Path, metavar="SUBSET.jsonl", help="judge a subset of the set in --out")
    add_overwrite(parser)
    line = parse_command_line(argv, parser)
    options = line.options
    if options.check is not None:
        print(json.dumps(check(read_json(options.out / "planted.json"), options.check)))
    else:
        with guarded(overwrite=options.overwrite):
            print(json.dumps(_make(line.config(), options.out, options.share, options.plant_seed)))
    return 0
