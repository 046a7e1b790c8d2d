"""COCO instance files: one sample per image with every object, no expression."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.files import clean_segmentation, read_json, require, segmentation_box
from mindground.errors import DataError, DatasetNotFoundError
from mindground.structures import IgnoredRegion, Sample

__all__ = ["coco_samples", "load_coco", "read_coco"]

CANDIDATES = ("annotations/instances_{}.json", "annotations/{}.json", "instances_{}.json", "{}.json")
IMAGE_FOLDERS = ("images/{}", "{}", "images", ".")


def read_coco(root: str, split: str, image_root: str = "") -> Dataset:
    """Read one split of a COCO set.

    Args:
        root: folder with `annotations/instances_<split>.json` and `images/` (or `<split>/`), or one such JSON file.
        split: part of the file name; years may follow it (`instances_val2017.json` is `val`).
        image_root: folder of the images; empty = the usual places below `root`.

    Raises:
        DatasetNotFoundError, DataError: naming the file and the record.
    """
    path = _find(root, split)
    top = Path(root) if Path(root).is_dir() else path.parent
    stem = path.stem.removeprefix("instances_")
    places = (
        [Path(image_root)]
        if image_root
        else [base / folder.format(stem) for base in (top, top.parent) for folder in IMAGE_FOLDERS]
    )
    content = load_coco(path)
    first = next((str(image["file_name"]) for image in content["images"]), "")
    # A folder is the right one when the first image lies in it: `images/` may exist beside `val2017/`.
    images = next((place for place in places if first and (place / first).is_file()), None)
    if images is None:
        raise DatasetNotFoundError(
            f"the images of {path} are missing: {first!r} is in none of {', '.join(map(str, places))}. "
            f"Put the images into {places[0]}, or set data.image_root"
        )
    categories = {int(item["id"]): str(item["name"]) for item in content["categories"]}
    return Dataset(coco_samples(content, images, split, str(path)), categories, path.parent.parent.name, split)


def load_coco(path: Path) -> Mapping[str, Any]:
    """Read a COCO file and check that its records point to each other.

    Raises:
        DatasetNotFoundError, DataError.
    """
    if not path.is_file():
        raise DatasetNotFoundError(f"{path} does not exist; name a COCO instance file")
    content = read_json(path)
    require(content, ("images", "annotations", "categories"), str(path))
    for position, image in enumerate(content["images"]):
        require(image, ("id", "file_name", "height", "width"), f"{path}: image {position}")
    for position, category in enumerate(content["categories"]):
        require(category, ("id", "name"), f"{path}: category {position}")
    images = {image["id"] for image in content["images"]}
    known = {category["id"] for category in content["categories"]}
    for position, item in enumerate(content["annotations"]):
        where = f"{path}: annotation {position}"
        require(item, ("id", "image_id", "category_id"), where)
        if item["image_id"] not in images or item["category_id"] not in known:
            raise DataError(
                f"{where} (id {item['id']}) belongs to image {item['image_id']} and category {item['category_id']}, "
                "and the file lacks one of them; export it again"
            )
    return content


def coco_samples(content: Mapping[str, Any], images: Path, split: str, where: str) -> list[Sample]:
    """One sample per image, in file order; crowd regions are no instances: they become `Sample.ignored`."""
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    crowds: dict[Any, list[Mapping[str, Any]]] = {}
    for item in content["annotations"]:
        (crowds if item.get("iscrowd") else by_image).setdefault(item["image_id"], []).append(item)
    samples = []
    for image in content["images"]:
        items = by_image.get(image["id"], [])
        outlines = [clean_segmentation(item.get("segmentation"), f"{where}: annotation {item['id']}") for item in items]
        samples.append(
            Sample(
                image_path=str(images / str(image["file_name"]).replace("\\", "/")),
                sample_id=str(image["id"]),
                image_id=str(image["id"]),
                boxes_xyxy=np.asarray([_box(item, out, where) for item, out in zip(items, outlines, strict=True)]),
                segmentations=tuple(outlines),
                labels=np.asarray([item["category_id"] for item in items], np.int64),
                size=(int(image["height"]), int(image["width"])),
                object_ids=tuple(str(item["id"]) for item in items),
                split=split,
                ignored=tuple(_ignored(item, where) for item in crowds.get(image["id"], [])),
            )
        )
    return samples


def _ignored(item: Mapping[str, Any], where: str) -> IgnoredRegion:
    outline = clean_segmentation(item.get("segmentation"), f"{where}: annotation {item['id']}")
    return IgnoredRegion(np.asarray(_box(item, outline, where), np.float32), outline, int(item["category_id"]))


def _box(item: Mapping[str, Any], outline: Any, where: str) -> list[float]:
    box = item.get("bbox")
    if box is None:
        around = segmentation_box(outline)
        if around is None:
            raise DataError(f"{where}: annotation {item['id']} has neither bbox nor segmentation")
        return around
    if not isinstance(box, list) or len(box) != 4:
        raise DataError(f"{where}: annotation {item['id']} has the bbox {json.dumps(box)}; it is [x, y, width, height]")
    left, top, width, height = (float(value) for value in box)
    return [left, top, left + width, top + height]


def _find(root: str, split: str) -> Path:
    place = Path(root)
    if root and place.is_file():
        return place
    for pattern in CANDIDATES if root else ():
        if (place / pattern.format(split)).is_file():
            return place / pattern.format(split)
        # instances_val2017.json: the split followed by digits, the newest year first.
        dated = [path for path in place.glob(pattern.format(f"{split}*")) if _is_dated(path, split)]
        if dated:
            return max(dated)
    known = sorted(path.name for path in place.glob("**/*.json"))[:12] if root and place.is_dir() else []
    raise DatasetNotFoundError(
        f"data.root is {root!r}, and there is no annotations/instances_{split}.json in it"
        f"{'; it holds ' + ', '.join(known) if known else ''}. Put the COCO instance file of this split there"
    )


def _is_dated(path: Path, split: str) -> bool:
    rest = path.stem.removeprefix("instances_").removeprefix(split)
    return rest.isdigit()
