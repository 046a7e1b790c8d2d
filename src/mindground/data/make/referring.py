"""From any COCO instance set to a referring set: our JSON lines, and refs + instances.

The images stay where they are; the written files name their folder.
"""

from __future__ import annotations

import json
import pickle
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.formats.coco import load_coco
from mindground.data.formats.files import clean_segmentation, read_json
from mindground.data.formats.jsonl import relative_to, write_description, write_jsonl
from mindground.data.make.expressions import SceneItem, describe
from mindground.errors import DataError, DatasetNotFoundError
from mindground.files.atomic import write_bytes
from mindground.structures import Segmentation

__all__ = ["ReferringReport", "make_referring", "split_of"]


@dataclass
class ReferringReport:
    """What was made of one COCO file. `undescribed` objects are set apart by nothing that can be said."""

    split: str
    images: int = 0
    objects: int = 0
    expressions: int = 0
    undescribed: int = 0
    too_small: int = 0
    without_mask: int = 0
    crowds: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def split_of(path: Path) -> str:
    """Split that a file name speaks of: `instances_train2017.json` -> `train`."""
    words = path.stem.lower().replace("-", "_").split("_")
    return words[-1].rstrip("0123456789") or path.stem


def make_referring(
    coco_file: Path,
    images: Path,
    out: Path,
    *,
    split: str = "",
    split_by: str = "unc",
    seed: int = 0,
    per_object: int = 4,
    min_side: float = 8.0,
) -> ReferringReport:
    """Write `<split>.jsonl`, `dataset.json`, `instances.json` and `refs(<split_by>).p` below `out`.

    A second call with another split adds to the refs and instances; the same split is replaced.

    Args:
        coco_file: COCO instances.
        images: their images; must exist.
        split: name of the split; empty = from the file's name.
        seed: draws phrasings; the same seed gives the same files.
        per_object: at most so many sentences of one object.
        min_side: objects with a smaller box side (pixels) are not asked for, but still count as rivals.

    Raises:
        DatasetNotFoundError, DataError.
    """
    if not images.is_dir():
        raise DatasetNotFoundError(f"--images {images} is not a folder; name the one that holds the images")
    content = load_coco(coco_file)
    split = split or split_of(coco_file)
    report = ReferringReport(split)
    records = _records(content, report, split, seed, per_object, min_side)
    if not records:
        raise DataError(f"{coco_file}: nothing that can be said sets any object apart; check its boxes and categories")
    categories = {int(item["id"]): str(item["name"]) for item in content["categories"]}
    # The old refs are read before anything is written: a set that does not fit leaves everything as it was.
    refs, instances = _merged(out, content, records, split, split_by)
    write_jsonl(out / f"{split}.jsonl", records)
    write_description(out, out.resolve().name, categories, relative_to(images, out))
    write_bytes(out / "instances.json", json.dumps(instances, separators=(",", ":")).encode())
    write_bytes(out / f"refs({split_by}).p", pickle.dumps(refs, protocol=2))
    return report


def _records(
    content: Mapping[str, Any], report: ReferringReport, split: str, seed: int, per_object: int, min_side: float
) -> list[dict[str, Any]]:
    names = {item["id"]: str(item["name"]) for item in content["categories"]}
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    for item in content["annotations"]:
        by_image.setdefault(item["image_id"], []).append(item)
    records: list[dict[str, Any]] = []
    for image in content["images"]:
        report.images += 1
        annotations = by_image.get(image["id"], [])
        size = (int(image["height"]), int(image["width"]))
        # The file name seeds the draw, so that adding an image does not change the sentences of the others.
        rng = np.random.default_rng([seed, zlib.crc32(str(image["file_name"]).encode())])
        items = [_item(item, names) for item in annotations]
        report.crowds += sum(bool(item.get("iscrowd")) for item in annotations)
        for annotation, item, sentences in zip(annotations, items, describe(items, size, rng, per_object), strict=True):
            if annotation.get("iscrowd"):
                continue
            report.objects += 1
            if min(item.box[2] - item.box[0], item.box[3] - item.box[1]) < min_side:
                report.too_small += 1
                continue
            if not sentences:
                report.undescribed += 1
                continue
            mask = _drawable(annotation, size)
            report.without_mask += mask is None
            report.expressions += len(sentences)
            record = {
                "id": f"{split}-{annotation['id']}",
                "image": str(image["file_name"]),
                "image_id": str(image["id"]),
                "size": list(size),
                "sentences": sentences,
                "box": [float(value) for value in item.box],
                "category": names[annotation["category_id"]],
                "object_id": str(annotation["id"]),
                "split": split,
            }
            records.append(record if mask is None else {**record, "mask": mask})
    return records


def _item(annotation: Mapping[str, Any], names: Mapping[Any, str]) -> SceneItem:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise DataError(f"annotation {annotation['id']} has the bbox {box!r}; it is [x, y, width, height]")
    # A crowd hides an unknown number of its class at unknown places; an empty box says so to `facts`,
    # which then says nothing about that class.
    left, top, width, height = (0.0 if annotation.get("iscrowd") else float(value) for value in box)
    return SceneItem(str(annotation["id"]), names[annotation["category_id"]], (left, top, left + width, top + height))


def _drawable(annotation: Mapping[str, Any], size: tuple[int, int]) -> Segmentation:
    """The outline without parts that enclose nothing; None when none is left or it is of another size."""
    outline = clean_segmentation(annotation.get("segmentation"), f"annotation {annotation['id']}")
    if outline is None or isinstance(outline, Mapping):
        return outline if outline is None or list(outline["size"]) == list(size) else None
    parts = [
        part
        for part in outline
        if (list(part["size"]) == list(size) if isinstance(part, Mapping) else len(part) >= 6 and len(part) % 2 == 0)
    ]
    return parts or None


def _merged(
    out: Path, content: Mapping[str, Any], records: Sequence[Mapping[str, Any]], split: str, split_by: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Refs and instances of this split added to what `out` holds of the others."""
    kept, refs = _kept(out, split, split_by)
    categories = {item["id"]: dict(item) for item in kept["categories"]}
    for item in content["categories"]:
        if categories.setdefault(item["id"], dict(item))["name"] != item["name"]:
            raise DataError(
                f"{out / 'instances.json'} calls category {item['id']} {categories[item['id']]['name']!r}, "
                f"the new file {item['name']!r}; give every set its own --out"
            )
    image_shift = _shift(kept["images"], content["images"])
    object_shift = _shift(kept["annotations"], content["annotations"])
    images = [{**image, "id": image["id"] + image_shift, "split": split} for image in content["images"]]
    annotations = [
        {**item, "id": item["id"] + object_shift, "image_id": item["image_id"] + image_shift}
        for item in content["annotations"]
    ]
    by_id = {str(item["id"]): item for item in content["annotations"]}
    next_ref = max((ref["ref_id"] for ref in refs), default=-1) + 1
    next_sentence = max((number for ref in refs for number in ref["sent_ids"]), default=-1) + 1
    for record in records:
        annotation = by_id[record["object_id"]]
        numbers = list(range(next_sentence, next_sentence + len(record["sentences"])))
        refs.append(
            {
                "ref_id": next_ref,
                "ann_id": annotation["id"] + object_shift,
                "image_id": annotation["image_id"] + image_shift,
                "category_id": annotation["category_id"],
                "file_name": record["image"],
                "split": split,
                "sent_ids": numbers,
                "sentences": [
                    {"sent_id": number, "sent": text, "raw": text, "tokens": text.split()}
                    for number, text in zip(numbers, record["sentences"], strict=True)
                ],
            }
        )
        next_ref, next_sentence = next_ref + 1, next_sentence + len(numbers)
    instances = {
        "images": [*kept["images"], *images],
        "annotations": [*kept["annotations"], *annotations],
        "categories": list(categories.values()),
    }
    return refs, instances


def _kept(out: Path, split: str, split_by: str) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    from mindground.files.pickles import read_plain_pickle

    path = out / "instances.json"
    empty: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    if not path.is_file():
        return empty, []
    old = read_json(path)
    if not isinstance(old, Mapping) or any("split" not in image for image in old.get("images", [{}])):
        raise DataError(f"{path} was not made by this tool; choose another --out so that nothing is overwritten")
    images = [image for image in old["images"] if image["split"] != split]
    remaining = {image["id"] for image in images}
    kept = {
        "images": images,
        "annotations": [item for item in old["annotations"] if item["image_id"] in remaining],
        "categories": list(old["categories"]) if images else [],
    }
    refs_path = out / f"refs({split_by}).p"
    refs = read_plain_pickle(refs_path) if refs_path.is_file() else []
    return kept, [dict(ref) for ref in refs if ref["split"] != split]


def _shift(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> int:
    """0 when the ids do not meet, else enough to move the new ones beyond the old ones."""
    taken = {item["id"] for item in old}
    if not taken & {item["id"] for item in new}:
        return 0
    if not all(isinstance(item["id"], int) for item in (*old, *new)):
        raise DataError("two splits share ids that are not numbers; write each split to its own --out")
    return max(taken) + 1 - min(item["id"] for item in new)
