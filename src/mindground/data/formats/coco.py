"""COCO instance files: one sample per image with every object, no expression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.fields import (
    Reading,
    RecordError,
    clean_segmentation,
    corners,
    guarded,
    identity,
    integer,
    listing,
    optional_size,
    require,
    text,
)
from mindground.data.formats.files import read_json
from mindground.data.formats.image_names import ImageNames
from mindground.data.formats.registry import DatasetFormat
from mindground.errors import DatasetNotFoundError, shown
from mindground.structures import IgnoredRegion, Sample

__all__ = ["FORMATS", "coco_samples", "load_coco", "read_coco"]

CANDIDATES = (
    "annotations/instances_{}.json",
    "annotations/{}.json",
    "instances_{}.json",
    "{}.json",
    "{}/_annotations.coco.json",  # Roboflow: a folder a split, with its images
)
IMAGE_FOLDERS = ("images/{}", "{}", "images", ".")
# What exporters call the split of that name.
OTHER_NAMES = {"val": ("valid", "validation"), "valid": ("val",), "validation": ("val",)}


@guarded
def read_coco(root: str, split: str, image_root: str = "", *, problems: list[str] | None = None) -> Dataset:
    """Read one split of a COCO set.

    Args:
        root: folder with `annotations/instances_<split>.json` and `images/` (or `<split>/`), or with
            `<split>/_annotations.coco.json` beside the images (where `val` may be called `valid`), or one JSON file.
        split: part of the file name; years may follow it (`instances_val2017.json` is `val`).
        image_root: folder of the images; empty = the usual places below `root`.
        problems: gets one line a record that cannot be used, which is then left out; None = it raises DataError.

    Raises:
        DatasetNotFoundError, DataError: naming the file and the record.
    """
    path = _find(root, split)
    top = Path(root) if Path(root).is_dir() else path.parent
    stem = path.stem.removeprefix("instances_")
    folders = [base / folder.format(stem) for base in (top, top.parent) for folder in IMAGE_FOLDERS]
    places = [Path(image_root)] if image_root else list(dict.fromkeys([*folders, path.parent]))
    reading = Reading(problems)
    content = load_coco(path, reading=reading)
    first = next((str(image["file_name"]) for image in content["images"]), "")
    # A folder is the right one when the first image lies in it: `images/` may exist beside `val2017/`.
    names = ImageNames.find(places, first, reading, f"{path}: the first image") if first else None
    if names is None:
        raise DatasetNotFoundError(
            f"the images of {path} are missing: {shown(first)} is in none of {', '.join(map(str, places))}. "
            f"Put the images into {places[0]}, or set data.image_root"
        )
    categories = {item["id"]: item["name"] for item in content["categories"]}
    samples = coco_samples(content, names, split, str(path), reading)
    reading.tell(str(path))
    name = Path(root).resolve().name if Path(root).is_dir() else path.parent.parent.name
    return Dataset(samples, categories, name, split, kind="instances")


@guarded
def load_coco(path: Path, *, problems: list[str] | None = None, reading: Reading | None = None) -> Mapping[str, Any]:
    """Read a COCO file, check its records and that they point to each other.

    Args:
        path: the file.
        problems: gets one line a record that cannot be used, which is then left out; None = it raises DataError.
        reading: in place of `problems`, where the caller goes on reading.

    Returns:
        The file's content. `images`: `file_name` with `/` between its parts, `height` and `width` both whole numbers
        or both None (the image file knows). `annotations`: `id` unique, `category_id` a whole number, `bbox` four
        floats (around the outline where the file has none), `segmentation` what can be drawn or None.

    Raises:
        DatasetNotFoundError, DataError.
    """
    if not path.is_file():
        raise DatasetNotFoundError(f"{path} does not exist; name a COCO instance file")
    content = read_json(path)
    require(content, ("images", "annotations", "categories"), str(path))
    reading, tell = reading or Reading(problems), reading is None
    images = _images(listing(content, "images", str(path)), path, reading)
    categories = _categories(listing(content, "categories", str(path)), path, reading)
    annotations = listing(content, "annotations", str(path))
    kept = _annotations(annotations, images, categories, path, reading)
    if tell:
        reading.tell(str(path))
    return {
        **content,
        "images": list(images.values()),
        "annotations": kept,
        "categories": list(categories.values()),
    }


def _images(records: Sequence[Any], path: Path, reading: Reading) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for position, image in enumerate(records):
        where = f"{path}: image {position}"
        with reading.record(where):
            require(image, ("id", "file_name"), where)
            number = identity(image, "id", where)
            if number in found:
                raise RecordError(f"{where}: the id {shown(number)} stands at an image before; ids must be unique")
            size = optional_size(image.get("height"), image.get("width"), where)
            height, width = size or (None, None)
            name = text(image, "file_name", where, empty=False).replace("\\", "/")
            found[number] = {**image, "id": number, "file_name": name, "height": height, "width": width}
    return found


def _categories(records: Sequence[Any], path: Path, reading: Reading) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for position, category in enumerate(records):
        where = f"{path}: category {position}"
        with reading.record(where):
            require(category, ("id", "name"), where)
            number = integer(category, "id", where)
            if number in found:
                raise RecordError(f"{where}: the id {number} stands at a category before; ids must be unique")
            found[number] = {**category, "id": number, "name": text(category, "name", where)}
    return found


def _annotations(
    records: Sequence[Any], images: Mapping[Any, Any], categories: Mapping[int, Any], path: Path, reading: Reading
) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    seen: set[Any] = set()
    for position, item in enumerate(records):
        where = f"{path}: annotation {position}"
        with reading.record(where):
            require(item, ("id", "image_id", "category_id"), where)
            number = identity(item, "id", where)
            named = f"{where} (id {shown(number)})"
            image, category = identity(item, "image_id", where), integer(item, "category_id", where)
            if image not in images or category not in categories:
                raise RecordError(
                    f"{named} belongs to image {shown(image)} and category {category}, "
                    "and the file lacks one of them; export it again"
                )
            size = images[image]["height"], images[image]["width"]
            outline = clean_segmentation(item.get("segmentation"), named, None if size[0] is None else size, reading)
            box = corners(item.get("bbox"), outline, named)
            if box is None:
                raise RecordError(f"{named} has neither bbox nor segmentation")
            box = [box[0], box[1], box[2] - box[0], box[3] - box[1]] if not item.get("bbox") else item["bbox"]
            seen.add(number)
            # The record is this reader's own, fresh from the file: a copy of each would cost as much as its check.
            item.update(
                {"id": number, "image_id": image, "category_id": category, "bbox": box, "segmentation": outline}
            )
            kept.append(item)
    if len(seen) < len(kept):
        said = "annotation ids stand at more than one annotation; objects are numbered by their place in the file"
        reading.note(said, f"id {shown(_repeated(kept))}", "duplicate_id")
        for position, item in enumerate(kept, 1):
            item["id"] = position
    return kept


def _repeated(kept: Sequence[Mapping[str, Any]]) -> Any:
    """The first id that stands at more than one annotation."""
    counts = Counter(item["id"] for item in kept)
    return next(number for number, count in counts.items() if count > 1)


def coco_samples(
    content: Mapping[str, Any], images: Path | ImageNames, split: str, where: str, reading: Reading | None = None
) -> list[Sample]:
    """One sample per image, in file order; crowd regions are no instances: they become `Sample.ignored`.

    Args:
        content: what `load_coco` gives.
        images: their folder.
        split: the samples' split.
        where: the file, for errors.
        reading: where errors go; None = they are raised.
    """
    reading = reading or Reading()
    names = images if isinstance(images, ImageNames) else ImageNames(images, reading)
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    crowds: dict[Any, list[Mapping[str, Any]]] = {}
    for item in content["annotations"]:
        (crowds if item.get("iscrowd") else by_image).setdefault(item["image_id"], []).append(item)
    samples = []
    for image in content["images"]:
        items = by_image.get(image["id"], [])
        with reading.record(f"{where}: image {shown(image['id'])}"):
            samples.append(
                Sample(
                    image_path=names.path(image["file_name"], f"{where}: image {shown(image['id'])}"),
                    sample_id=str(image["id"]),
                    image_id=str(image["id"]),
                    boxes_xyxy=np.asarray([_corners(item) for item in items]),
                    segmentations=tuple(item["segmentation"] for item in items),
                    labels=np.asarray([item["category_id"] for item in items], np.int64),
                    size=None if image["height"] is None else (image["height"], image["width"]),
                    object_ids=tuple(str(item["id"]) for item in items),
                    split=split,
                    ignored=tuple(
                        IgnoredRegion(np.asarray(_corners(item)), item["segmentation"], item["category_id"])
                        for item in crowds.get(image["id"], [])
                    ),
                )
            )
    return samples


def _corners(item: Mapping[str, Any]) -> list[float]:
    left, top, width, height = item["bbox"]
    return [left, top, left + width, top + height]


def _find(root: str, split: str) -> Path:
    place = Path(root)
    if root and place.is_file():
        return place
    for name in (split, *OTHER_NAMES.get(split, ())) if root else ():
        for pattern in CANDIDATES:
            if (place / pattern.format(name)).is_file():
                return place / pattern.format(name)
            # instances_val2017.json: the split followed by digits, the newest year first.
            dated = [path for path in place.glob(pattern.format(f"{name}*")) if _is_dated(path, name)]
            if dated:
                return max(dated)
    known = (
        sorted(str(path.relative_to(place)) for path in place.glob("**/*.json"))[:12] if root and place.is_dir() else []
    )
    has = f"; it holds {', '.join(known)}" if known else ""
    raise DatasetNotFoundError(
        f"data.root is {root!r}, and there is no annotations/instances_{split}.json (nor "
        f"{split}/_annotations.coco.json) in it{has}. Put the COCO instance file of this split there"
    )


def _is_dated(path: Path, split: str) -> bool:
    rest = path.stem.removeprefix("instances_").removeprefix(split)
    return rest.isdigit()


FORMATS = (DatasetFormat("coco", read_coco, kinds=("instances",)),)
