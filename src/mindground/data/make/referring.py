"""From any COCO instance set to a referring set: our JSON lines, and refs + instances.

The images stay where they are; the written files name their folder. What is written passes the data check: boxes and
outlines are cut at the borders of the image, and an object that the check would refuse is not asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.check.checks import ERROR, check_object
from mindground.data.make.clipping import clip_box, clip_outline
from mindground.data.make.expressions import SceneItem, describe
from mindground.data.make.labels import SENTENCE_KEYS, LabelledImage, LabelledObject, Labels, read_labels
from mindground.data.make.refer_files import Target, write_target
from mindground.data.make.splits import check_name, split_of
from mindground.errors import DataError, DatasetNotFoundError
from mindground.structures import Sample

__all__ = ["ReferringReport", "make_referring"]


@dataclass
class ReferringReport:
    """What was made of one COCO file.

    Attributes:
        typed: objects whose sentences a person typed into the file.
        undescribed: objects that are set apart by nothing that can be said.
        too_small: objects with a side below `min_side`.
        refused: objects whose box or outline the data check would refuse.
        refusal: the first of them.
        clipped: objects cut at the border of the image.
        without_mask: objects asked for that have no outline.
        renamed, renumbered, repeated, sized: see `labels.Labels`.
    """

    split: str
    images: int = 0
    objects: int = 0
    expressions: int = 0
    typed: int = 0
    undescribed: int = 0
    too_small: int = 0
    refused: int = 0
    clipped: int = 0
    without_mask: int = 0
    crowds: int = 0
    renamed: int = 0
    renumbered: int = 0
    repeated: int = 0
    sized: int = 0
    refusal: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; without `refusal` where there is none."""
        return {key: value for key, value in asdict(self).items() if key != "refusal" or value}


@dataclass(frozen=True)
class _Rules:
    split: str
    seed: int
    per_object: int
    min_side: float
    made: bool


def make_referring(
    coco_file: Path,
    images: Path | None,
    out: Path,
    *,
    split: str = "",
    split_by: str = "unc",
    seed: int = 0,
    per_object: int = 4,
    min_side: float = 8.0,
    sentence_keys: Sequence[str] = SENTENCE_KEYS,
    only_typed: bool = False,
    image_root: Path | None = None,
    overwrite: bool = False,
) -> ReferringReport:
    """Write `<split>.jsonl`, `dataset.json`, `instances.json` and `refs(<split_by>).p` below `out`.

    A second call with another split adds to the refs and instances; the same split from the same file is replaced.

    Args:
        coco_file: COCO instances, as a labelling program exports them (`labels.read_labels`).
        images: their images; None = the folder of `coco_file`.
        split: name of the split; empty = from the name of the file or its folder.
        seed: draws phrasings; the same seed gives the same files.
        per_object: at most so many made sentences of one object.
        min_side: objects with a smaller box side (pixels) are not asked for, but still count as rivals; one with a
            typed sentence is asked for.
        sentence_keys: keys of an annotation, or of its `attributes`, that hold typed sentences; these are taken in
            place of made ones.
        only_typed: make no sentence.
        image_root: folder that dataset.json names; None = the one it names already, else `images`.
        overwrite: replace a split that was made from another file.

    Raises:
        ConfigError, DatasetNotFoundError, DataError: file and record are named, and nothing was written.
    """
    folder = coco_file.parent if images is None else images
    if not folder.is_dir():
        raise DatasetNotFoundError(f"--images {folder} is not a folder; name the one that holds the images")
    split = check_name(split or split_of(coco_file), "--split")
    target = Target(out, coco_file, split, check_name(split_by, "--splitBy"), image_root or folder, overwrite)
    target.check_free()
    labels = read_labels(coco_file, folder, sentence_keys)
    report = ReferringReport(split, renamed=labels.renamed, renumbered=labels.renumbered)
    report.repeated, report.sized = labels.repeated, labels.sized
    rules = _Rules(split, seed, per_object, min_side, not only_typed)
    records = [record for image in labels.images for record in _records(image, labels, report, rules, target)]
    if not records:
        first = f" (the data check refuses {report.refused} objects: {report.refusal})" if report.refused else ""
        raise DataError(
            f"{coco_file}: nothing that can be said sets any object apart{first}; check its boxes and categories"
        )
    write_target(target, labels, records)
    return report


def _records(
    image: LabelledImage, labels: Labels, report: ReferringReport, rules: _Rules, target: Target
) -> list[dict[str, Any]]:
    report.images += 1
    report.crowds += sum(item.crowd for item in image.objects)
    # The file name seeds the draw, so that adding an image does not change the sentences of the others.
    rng = np.random.default_rng([rules.seed, zlib.crc32(image.name.encode("utf-8", "surrogatepass"))])
    scene = [_scene_item(item, labels) for item in image.objects]
    made = describe(scene, image.size, rng, rules.per_object) if rules.made else [[] for _ in scene]
    records: list[dict[str, Any]] = []
    for item, sentences in zip(image.objects, made, strict=True):
        if item.crowd:
            continue
        report.objects += 1
        small = min(item.box[2] - item.box[0], item.box[3] - item.box[1]) < rules.min_side
        if small and not item.typed:
            report.too_small += 1
        elif not (item.typed or sentences):
            report.undescribed += 1
        else:
            record = _record(item, item.typed or tuple(sentences), image, labels, report, rules.split)
            records += [] if record is None else [{**record, "image": target.name_of(image.path)}]
    return records


def _scene_item(item: LabelledObject, labels: Labels) -> SceneItem:
    # A crowd hides an unknown number of its class at unknown places; an empty box says so to `facts`,
    # which then says nothing about that class.
    box = (0.0, 0.0, 0.0, 0.0) if item.crowd else item.box
    return SceneItem(item.key, labels.categories[item.category], box)


def _record(
    item: LabelledObject,
    sentences: Sequence[str],
    image: LabelledImage,
    labels: Labels,
    report: ReferringReport,
    split: str,
) -> dict[str, Any] | None:
    """A line of the set; None for an object that the data check would refuse."""
    box, outline = clip_box(item.box, image.size), clip_outline(item.outline, image.size)
    sample = Sample(
        str(image.path), item.key, image.key, boxes_xyxy=np.asarray([box]), segmentations=(outline,), size=image.size
    )
    problems = [
        finding for finding in check_object(sample, 0, f"object {item.key}", image.size) if finding.level == ERROR
    ]
    if problems:
        report.refused += 1
        report.refusal = report.refusal or f"object {item.key} of {image.name}: {problems[0].detail}"
        return None
    report.clipped += box != item.box or outline != item.outline
    report.typed += bool(item.typed)
    report.without_mask += outline is None
    report.expressions += len(sentences)
    record = {
        "id": f"{split}-{item.key}",
        "image": image.name,
        "image_id": image.key,
        "size": list(image.size),
        "sentences": list(sentences),
        "box": [float(value) for value in box],
        "category": labels.categories[item.category],
        "object_id": item.key,
        "split": split,
    }
    return record if outline is None else {**record, "mask": outline}
