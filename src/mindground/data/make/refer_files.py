"""The files of a made set: JSON lines of one split, and refs + instances of all splits of the folder."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindground.data.formats.files import read_json
from mindground.data.formats.jsonl import relative_to, write_description, write_jsonl
from mindground.data.make.labels import LabelledObject, Labels
from mindground.errors import DataError, shown
from mindground.files.atomic import write_bytes

__all__ = ["Target", "write_target"]

_SOURCES = "sources"  # in `info` of instances.json: split -> the file that it was made from


@dataclass
class Target:
    """Where a split is written.

    Attributes:
        out: the folder of the set.
        source: the COCO file.
        split, split_by: names in the files.
        image_root: folder that dataset.json names, unless `out` has one of an earlier split, which is kept.
        overwrite: replace a split that was made from another file.
    """

    out: Path
    source: Path
    split: str
    split_by: str
    image_root: Path
    overwrite: bool = False

    def __post_init__(self) -> None:
        self.old = _old(self.out)
        described = self.out / "dataset.json"
        if self.old is not None and described.is_file():
            said = read_json(described)
            if isinstance(said, Mapping) and isinstance(said.get("image_root"), str):
                # All splits of a folder share one root: the lines of earlier ones stay as they are.
                self.image_root = (self.out / said["image_root"]).resolve()

    def name_of(self, image: Path) -> str:
        """An image as the lines of this set name it."""
        if image.is_relative_to(self.image_root):
            return image.relative_to(self.image_root).as_posix()
        # A link to an image keeps its own name and place.
        root, image = self.image_root.resolve(), image.parent.resolve() / image.name
        try:
            return Path(os.path.relpath(image, root)).as_posix()
        except ValueError:  # another drive on Windows
            return image.as_posix()

    @property
    def sources(self) -> dict[str, str]:
        """Split -> file that it was made from, as seen from `out`."""
        info = (self.old or {}).get("info")
        found = info.get(_SOURCES) if isinstance(info, Mapping) else None
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}

    def check_free(self) -> None:
        """Raises DataError where a file would be replaced that is not an earlier result of the same call."""
        mine = [self.out / name for name in (f"{self.split}.jsonl", "dataset.json", f"refs({self.split_by}).p")]
        foreign = [path for path in mine if path.exists()] if self.old is None else []
        if foreign:
            raise DataError(
                f"{foreign[0]} was not made by this tool; choose another --out so that nothing is overwritten"
            )
        if self.source.resolve() == (self.out / "instances.json").resolve():
            raise DataError(f"{self.source} would be replaced by what is made of it; choose another --out")
        before = self.sources.get(self.split)
        if before is not None and before != relative_to(self.source, self.out) and not self.overwrite:
            raise DataError(
                f"{self.out} holds a split {self.split!r} made from {shown(before)}; name this one with --split, "
                "choose another --out, or replace it with --overwrite"
            )


def _old(out: Path) -> Mapping[str, Any] | None:
    """instances.json of earlier splits; None for none."""
    path = out / "instances.json"
    if not path.is_file():
        return None
    old = read_json(path)
    lists = isinstance(old, Mapping) and all(
        isinstance(old.get(key), list) and all(isinstance(entry, Mapping) and "id" in entry for entry in old[key])
        for key in ("images", "annotations", "categories")
    )
    if not lists or not old["images"] or any("split" not in image for image in old["images"]):
        raise DataError(f"{path} was not made by this tool; choose another --out so that nothing is overwritten")
    return dict(old)


def write_target(target: Target, labels: Labels, records: Sequence[Mapping[str, Any]]) -> None:
    """Write `<split>.jsonl`, dataset.json, instances.json and refs(<split_by>).p.

    Args:
        target: where; what it holds of other splits is kept.
        labels: the whole file.
        records: lines of the split.

    Raises:
        DataError: the new file numbers its categories otherwise than the splits that are there.
        WriteError: the disk is full.
    """
    # The old refs are read before anything is written: a set that does not fit leaves everything as it was.
    refs, instances, records = _merged(target, labels, records)
    categories = {int(item["id"]): str(item["name"]) for item in instances["categories"]}
    out = target.out
    write_jsonl(out / f"{target.split}.jsonl", records)
    write_description(out, out.resolve().name, categories, relative_to(target.image_root, out))
    write_bytes(out / "instances.json", json.dumps(instances, separators=(",", ":"), allow_nan=False).encode())
    write_bytes(out / f"refs({target.split_by}).p", pickle.dumps(refs, protocol=2))


def _merged(
    target: Target, labels: Labels, records: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
    """Refs and instances of this split added to what the folder holds of the others; lines with the same image ids."""
    kept, refs = _kept(target)
    categories = {item["id"]: dict(item) for item in kept["categories"]}
    for number, name in labels.categories.items():
        if categories.setdefault(number, {"id": number, "name": name})["name"] != name:
            raise DataError(
                f"{target.out / 'instances.json'} calls category {number} {categories[number]['name']!r}, "
                f"the new file {name!r}; give every set its own --out"
            )
    image_shift = _shift(kept["images"], [image.number for image in labels.images])
    object_shift = _shift(kept["annotations"], [item.number for image in labels.images for item in image.objects])
    recorded = {record["object_id"]: record for record in records}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    owner: dict[str, tuple[LabelledObject, int]] = {}
    for image in labels.images:
        number, (height, width) = image.number + image_shift, image.size
        file_name = target.name_of(image.path)
        images.append({"id": number, "file_name": file_name, "height": height, "width": width, "split": target.split})
        for item in image.objects:
            annotations.append(_annotation(item, item.number + object_shift, number, recorded.get(item.key)))
            owner[item.key] = (item, number)
    next_ref = max((ref["ref_id"] for ref in refs), default=-1) + 1
    next_sentence = max((number for ref in refs for number in ref["sent_ids"]), default=-1) + 1
    for record in records:
        item, image_number = owner[record["object_id"]]
        numbers = list(range(next_sentence, next_sentence + len(record["sentences"])))
        refs.append(
            {
                "ref_id": next_ref,
                "ann_id": item.number + object_shift,
                "image_id": image_number,
                "category_id": item.category,
                "file_name": record["image"],
                "split": target.split,
                "sent_ids": numbers,
                "sentences": [
                    {"sent_id": number, "sent": text, "raw": text, "tokens": text.split()}
                    for number, text in zip(numbers, record["sentences"], strict=True)
                ],
            }
        )
        next_ref, next_sentence = next_ref + 1, next_sentence + len(numbers)
    instances = {
        "info": {_SOURCES: {**target.sources, target.split: relative_to(target.source, target.out)}},
        "images": [*kept["images"], *images],
        "annotations": [*kept["annotations"], *annotations],
        "categories": list(categories.values()),
    }
    # Ids that restart in every file would name other images of the set: the lines take the new numbers, too.
    moved = {image.key: str(image.number + image_shift) for image in labels.images if image.key.isdecimal()}
    lines = [{**record, "image_id": moved.get(record["image_id"], record["image_id"])} for record in records]
    return refs, instances, lines


def _annotation(item: LabelledObject, number: int, image: int, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """One entry of instances.json; an object that is asked for has box and outline of its line."""
    box, outline = (item.box, item.outline) if record is None else (record["box"], record.get("mask"))
    left, top, right, bottom = (float(value) for value in box)
    entry: dict[str, Any] = {
        "id": number,
        "image_id": image,
        "category_id": item.category,
        "bbox": [left, top, right - left, bottom - top],
        "area": max(0.0, right - left) * max(0.0, bottom - top),
        "iscrowd": int(item.crowd),
    }
    if outline is not None:
        entry["segmentation"] = outline
    # What the labelling program calls it, where that could not stay.
    return entry if str(item.raw["id"]) == str(number) else {**entry, "source_id": str(item.raw["id"])}


def _kept(target: Target) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    from mindground.files.pickles import read_plain_pickle

    if target.old is None:
        return {"images": [], "annotations": [], "categories": []}, []
    images = [image for image in target.old["images"] if image["split"] != target.split]
    remaining = {image["id"] for image in images}
    kept = {
        "images": images,
        "annotations": [item for item in target.old["annotations"] if item.get("image_id") in remaining],
        "categories": list(target.old["categories"]) if images else [],
    }
    refs_path = target.out / f"refs({target.split_by}).p"
    refs = read_plain_pickle(refs_path) if refs_path.is_file() else []
    return kept, [dict(ref) for ref in refs if ref["split"] != target.split]


def _shift(old: Sequence[Mapping[str, Any]], new: Sequence[int]) -> int:
    """0 when the ids do not meet, else enough to move the new ones beyond the old ones."""
    taken = {item["id"] for item in old}
    if not new or not taken.intersection(new):
        return 0
    if not all(isinstance(number, int) for number in taken):
        raise DataError("the splits that are there have ids that are not numbers; write this one to its own --out")
    return int(max(taken)) + 1 - min(new)
