"""COCO instance files, COCO result lists and the records of SA-1B."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindground.data.formats.coco import load_coco
from mindground.data.formats.fields import RecordError, integer, listing, mapping, optional_size, require, text
from mindground.data.formats.files import read_json
from mindground.errors import DataError, shown
from mindground.files.atomic import write_json
from mindground.interchange.folders import files_in
from mindground.interchange.images import safe_name
from mindground.interchange.model import (
    Annotations,
    Context,
    ExchangeFormat,
    ImageItems,
    Item,
    Notes,
    make_item,
    polygons_of,
    run_length_of,
)

__all__ = ["FORMATS", "corners"]

_SENTENCES = ("text", "sentence", "expression")


def corners(values: Any, where: str) -> list[float] | None:
    """[x, y, width, height] -> [left, top, right, bottom]; None for nothing. Raises RecordError."""
    if values is None or values == []:
        return None
    if isinstance(values, list) and len(values) == 4 and all(type(n) in (int, float) for n in values):
        left, top, width, height = values
        return [left, top, left + width, top + height]
    raise RecordError(f"{where}: a box is [x, y, width, height] in pixels, not {shown(values)}")


def _sentence(record: Mapping[str, Any]) -> Any:
    return next((record[key] for key in _SENTENCES if record.get(key) is not None), "")


def read_coco_file(path: Path, context: Context, notes: Notes) -> Annotations:
    content = load_coco(path)
    names = {category["id"]: category["name"] for category in content["categories"]}
    images: dict[Any, ImageItems] = {}
    for image in content["images"]:
        size = None if image["height"] is None else (image["height"], image["width"])
        images[image["id"]] = ImageItems(image["file_name"], size)
    for number, record in enumerate(content["annotations"]):
        where = f"{path}: annotation {number}"
        if record.get("iscrowd"):
            notes.add("crowd regions")
            continue
        target = images[record["image_id"]]
        target.items.append(
            make_item(
                where,
                box=corners(record["bbox"], where),
                outline=record["segmentation"],
                size=target.size,
                category=names[record["category_id"]],
                sentence=_sentence(record),
                score=record.get("score"),
            )
        )
    return Annotations(list(images.values()), list(names.values()))


def write_coco_file(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    names = found.names()
    if any(not item.category for image in found.images for item in image.items) or not names:
        names = [*names, "object"]
    numbers = {name: number for number, name in enumerate(names, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(found.images, 1):
        record: dict[str, Any] = {"id": number, "file_name": image.name}
        if image.size is not None:
            record |= {"height": image.size[0], "width": image.size[1]}
        images.append(record)
        for item in image.items:
            made = _result(item, number, numbers[item.category or "object"], image)
            annotations.append({"id": len(annotations) + 1, "iscrowd": 0, **made})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    return [write_json(path, {"images": images, "annotations": annotations, "categories": categories}, indent=None)]


def _result(item: Item, image_id: Any, category: int, image: ImageItems) -> dict[str, Any]:
    left, top, right, bottom = item.box
    made: dict[str, Any] = {"image_id": image_id, "category_id": category}
    made |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    if item.outline is not None:
        made["segmentation"] = item.outline
    if item.score is not None:
        made["score"] = item.score
    if item.sentence:
        made["text"] = item.sentence
    return made


def read_results(path: Path, context: Context, notes: Notes) -> Annotations:
    records = read_json(path)
    if not isinstance(records, list):
        raise DataError(f"{path}: a COCO result file is a list, not {shown(records)}")
    names: dict[Any, str] = {}
    images: dict[Any, ImageItems] = {}
    if context.against is not None:
        known = load_coco(context.against)
        names = {category["id"]: category["name"] for category in known["categories"]}
        for image in known["images"]:
            size = None if image["height"] is None else (image["height"], image["width"])
            images[image["id"]] = ImageItems(image["file_name"], size)
    for number, record in enumerate(records):
        where = f"{path}: result {number}"
        require(record, ("image_id", "category_id"), where)
        key = record["image_id"]
        if type(key) not in (int, str) or (context.against is not None and key not in images):
            raise RecordError(f"{where}: there is no image {shown(key)}; give the COCO file that the results belong to")
        target = images.setdefault(key, ImageItems(text({"name": str(key)}, "name", where, empty=False)))
        category = integer(record, "category_id", where)
        target.items.append(
            make_item(
                where,
                box=corners(record.get("bbox"), where),
                outline=record.get("segmentation"),
                size=target.size,
                category=names.get(category, str(category)),
                sentence=_sentence(record),
                score=record.get("score"),
            )
        )
    return Annotations(list(images.values()), list(names.values()))


def write_results(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    names = {name: number for number, name in enumerate(found.names(), 1)}
    ids: dict[str, Any] = {}
    if context.against is not None:
        known = load_coco(context.against)
        names = {category["name"]: category["id"] for category in known["categories"]}
        ids = {image["file_name"]: image["id"] for image in known["images"]}
    elif all(name.isdecimal() and name == str(int(name)) for name in names):
        names = {name: int(name) for name in names}  # numbers without names, as a result list is read
    records = []
    for image in found.images:
        own = int(image.name) if image.name.isdecimal() and image.name == str(int(image.name)) else image.name
        identity = ids.get(image.name, own)
        for item in image.items:
            if context.against is not None and (image.name not in ids or item.category not in names):
                notes.add("objects whose image or class is not in the COCO file")
                continue
            made = _result(item, identity, names.get(item.category, 0), image)
            if (mask := run_length_of(item.outline, image.size, notes)) is not None:
                made["segmentation"] = mask
            elif item.outline is not None:
                made["segmentation"] = polygons_of(item.outline, image.size, notes)
            records.append({"score": 1.0, **made})
    return [write_json(path, records, indent=None)]


def read_sa1b(path: Path, context: Context, notes: Notes) -> Annotations:
    images: dict[str, ImageItems] = {}
    for file in files_in(path, ".json"):
        content = read_json(file)
        require(content, ("image", "annotations"), str(file))
        image = mapping(content, "image", str(file))
        require(image, ("file_name",), f"{file}: image")
        name = text(image, "file_name", str(file), empty=False)
        size = optional_size(image.get("height"), image.get("width"), str(file))
        items = []
        for number, record in enumerate(listing(content, "annotations", str(file))):
            where = f"{file}: annotation {number}"
            require(record, (), where)
            items.append(
                make_item(
                    where,
                    box=corners(record.get("bbox"), where),
                    outline=record.get("segmentation"),
                    size=size,
                    category=record.get("category", ""),
                    sentence=_sentence(record),
                    score=record.get("predicted_iou"),
                )
            )
        if name in images:
            raise DataError(f"{file}: the image {shown(name)} stands in a file before; name each image once")
        images[name] = ImageItems(name, size, items)
    return Annotations(list(images.values()))


def write_sa1b(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    files = []
    for number, image in enumerate(found.images, 1):
        records: list[dict[str, Any]] = []
        for item in image.items:
            mask = run_length_of(item.outline, image.size, notes)
            if mask is None:
                if item.outline is None:
                    notes.add("objects without a mask (SA-1B has masks alone)")
                continue
            left, top, right, bottom = item.box
            record: dict[str, Any] = {"id": len(records) + 1, "segmentation": mask}
            record |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
            if item.score is not None:
                record["predicted_iou"] = item.score
            record |= {key: value for key, value in (("category", item.category), ("text", item.sentence)) if value}
            records.append(record)
        head: dict[str, Any] = {"image_id": number, "file_name": image.name}
        if image.size is not None:
            head |= {"height": image.size[0], "width": image.size[1]}
        files.append(write_json(path / safe_name(image.name, ".json"), {"image": head, "annotations": records}))
    return files


FORMATS = (
    ExchangeFormat(
        "coco",
        "COCO instances: one JSON file",
        read_coco_file,
        write_coco_file,
        ".json",
        "polygons or run lengths",
        "`score` of an annotation",
        "`text` of an annotation",
    ),
    ExchangeFormat(
        "coco-results",
        "COCO results: a list of detections; `--against` names the instance file of its ids",
        read_results,
        write_results,
        ".json",
        "run lengths",
        "`score`",
        "`text`",
    ),
    ExchangeFormat(
        "sa1b",
        "SA-1B records: a folder with one JSON file an image",
        read_sa1b,
        write_sa1b,
        "",
        "run lengths",
        "`predicted_iou`",
        "`text`",
    ),
)
