"""A COCO file as labelling programs export it -> images, objects and typed sentences, checked once.

What only differs in the way of writing is taken as it is meant: names of images (`image_names`), ids that are text or
start again in every image, sizes that are missing, outlines without boxes. What cannot be meant ends in one sentence
with file and record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindground.data.formats.files import clean_segmentation, read_json, segmentation_box
from mindground.data.make.image_names import ImageFinder, shown
from mindground.errors import DataError, DatasetNotFoundError
from mindground.structures import Segmentation

__all__ = ["SENTENCE_KEYS", "LabelledImage", "LabelledObject", "Labels", "read_labels"]

SENTENCE_KEYS = (
    *("sentences", "sentence", "expressions", "expression", "referring_expression"),
    *("captions", "caption", "phrases", "phrase", "description"),
)
"""Keys of an annotation, or of its `attributes`, whose text is a sentence that a person typed for the object."""


@dataclass(frozen=True)
class LabelledObject:
    """One annotation.

    Attributes:
        number: whole number, unique in the file: the annotation's id, or a new one where ids are not unique or text.
        key: the annotation's own id where it is unique, else `number`.
        category: id of its class.
        box: (x1, y1, x2, y2) in pixels.
        outline: as annotated, or None.
        crowd: an unknown number of objects.
        typed: sentences that a person wrote for it.
        raw: the record.
    """

    number: int
    key: str
    category: int
    box: tuple[float, float, float, float]
    outline: Segmentation
    crowd: bool
    typed: tuple[str, ...]
    raw: Mapping[str, Any]


@dataclass(frozen=True)
class LabelledImage:
    """One image: `number` and `key` as of an object, its name in the file, its file, (height, width), its objects."""

    number: int
    key: str
    name: str
    path: Path
    size: tuple[int, int]
    objects: tuple[LabelledObject, ...]


@dataclass
class Labels:
    """A checked file.

    Attributes:
        images: in file order.
        categories: id -> name.
        renamed: images that lie under another name than the file says.
        renumbered: annotations that got another id.
        repeated: annotations that stand twice, of which one was left out.
        sized: images whose size was taken from the image.
    """

    images: list[LabelledImage] = field(default_factory=list)
    categories: dict[int, str] = field(default_factory=dict)
    renamed: int = 0
    renumbered: int = 0
    repeated: int = 0
    sized: int = 0


def read_labels(coco_file: Path, folder: Path, sentence_keys: Sequence[str] = SENTENCE_KEYS) -> Labels:
    """Read a COCO instance file and find its images.

    Args:
        coco_file: `{"images": [...], "annotations": [...], "categories": [...]}`.
        folder: of the images; the folder of the file is tried as well.
        sentence_keys: where typed sentences stand.

    Raises:
        DatasetNotFoundError: the file or an image is missing.
        DataError: a record cannot be meant; file and record are named.
    """
    if not coco_file.is_file():
        raise DatasetNotFoundError(f"{coco_file} does not exist; name a COCO instance file")
    content = read_json(coco_file)
    records = {key: _records(content, key, coco_file) for key in ("images", "annotations", "categories")}
    labels = Labels(categories=_categories(records["categories"], str(coco_file)))
    by_image = _by_image(records["annotations"], records["images"], labels, str(coco_file))
    finder = ImageFinder(folder, coco_file.parent)
    whole = all(_whole(image["id"]) for image in records["images"])
    taken: dict[Path, Any] = {}
    number = 0
    objects = _Objects(labels, by_image, sentence_keys, str(coco_file))
    for position, image in enumerate(records["images"]):
        where = f"{coco_file}: image {position} (id {shown(image['id'])})"
        name = image["file_name"]
        path = finder.find(name)
        if path is None:
            continue
        labels.renamed += path not in (folder / name, coco_file.parent / name)
        other = taken.setdefault(path.resolve(), image["id"])
        if other != image["id"]:
            raise DataError(
                f"{where} and image id {shown(other)} are one file, {path}; give every file one image record, so that "
                "its objects are known together"
            )
        number = image["id"] if whole else number + 1
        size = _size(image, path, labels, where)
        labels.images.append(LabelledImage(number, str(image["id"]), name, path, size, objects.of(image["id"])))
    finder.require_all(str(coco_file))
    return labels


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _records(content: Any, key: str, path: Path) -> list[Mapping[str, Any]]:
    if not isinstance(content, Mapping) or not isinstance(content.get(key), list):
        has = shown(content.get(key)) if isinstance(content, Mapping) and key in content else "absent"
        raise DataError(
            f"{path}: {key!r} is {has if isinstance(content, Mapping) else 'absent'}, and a COCO instance file has a "
            "list there; export it again as COCO instances"
        )
    needs = {"images": ("id", "file_name"), "annotations": ("id", "image_id", "category_id"), "categories": ("id",)}
    for position, record in enumerate(content[key]):
        where = f"{path}: {key} entry {position}"
        if not isinstance(record, Mapping):
            raise DataError(f"{where} is {shown(record)}, not an object; export the file again")
        for name in needs[key]:
            value = record.get(name)
            wanted = (str,) if name == "file_name" else (str, int)
            if not isinstance(value, wanted) or isinstance(value, bool) or value == "":
                said = f"is {shown(value)}" if name in record else "is missing"
                raise DataError(f"{where} (id {shown(record.get('id'))}): {name!r} {said}; correct it, or export again")
    return list(content[key])


def _categories(records: Sequence[Mapping[str, Any]], where: str) -> dict[int, str]:
    categories: dict[int, str] = {}
    for record in records:
        number, name = record["id"], record.get("name")
        if not _whole(number) or number in categories:
            problem = "stands twice" if number in categories else "is no whole number"
            raise DataError(f"{where}: the category id {shown(number)} {problem}; number the categories")
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{where}: category {number} has the name {shown(name)}; name it, sentences need the word")
        categories[number] = name
    return categories


def _by_image(
    annotations: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]], labels: Labels, where: str
) -> dict[Any, list[Mapping[str, Any]]]:
    """Annotations of every image, in file order; what stands twice in the file, once."""
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    for image in images:
        if image["id"] in by_image:
            raise DataError(
                f"{where}: the image id {shown(image['id'])} stands twice, so its annotations may belong to either; "
                "give every image an id of its own"
            )
        by_image[image["id"]] = []
    known: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
    for position, item in enumerate(annotations):
        place = f"{where}: annotation {position} (id {shown(item['id'])})"
        if item["image_id"] not in by_image:
            raise DataError(
                f"{place} belongs to the image {shown(item['image_id'])}, which is not listed; export again"
            )
        if item["category_id"] not in labels.categories:
            raise DataError(
                f"{place} is of the category {shown(item['category_id'])}, which is not listed; export again"
            )
        alike = known.setdefault((item["image_id"], item["id"]), [])
        if item in alike:
            labels.repeated += 1
        else:
            alike.append(item)
            by_image[item["image_id"]].append(item)
    return by_image


class _Objects:
    """Makes the objects of one file, numbered as `LabelledObject` says."""

    def __init__(
        self, labels: Labels, by_image: Mapping[Any, list[Mapping[str, Any]]], keys: Sequence[str], where: str
    ) -> None:
        ids = [item["id"] for items in by_image.values() for item in items]
        self.unique = len(set(map(str, ids))) == len(ids)
        self.keeps = self.unique and all(map(_whole, ids))
        labels.renumbered = 0 if self.keeps else len(ids)
        self.by_image, self.keys, self.where, self.count = by_image, keys, where, 0

    def of(self, image: Any) -> tuple[LabelledObject, ...]:
        return tuple(self._object(item) for item in self.by_image[image])

    def _object(self, item: Mapping[str, Any]) -> LabelledObject:
        self.count += 1
        number = item["id"] if self.keeps else self.count
        where = f"{self.where}: annotation id {shown(item['id'])} of image {shown(item['image_id'])}"
        outline = clean_segmentation(item.get("segmentation"), where)
        return LabelledObject(
            number=number,
            key=str(item["id"]) if self.unique else str(number),
            category=item["category_id"],
            box=_box(item.get("bbox"), outline, where),
            outline=outline,
            crowd=bool(item.get("iscrowd")),
            typed=_typed(item, self.keys, where),
            raw=item,
        )


def _box(box: Any, outline: Segmentation, where: str) -> tuple[float, float, float, float]:
    if box is None or box == []:
        around = segmentation_box(outline)
        if around is None:
            raise DataError(f"{where} has neither bbox nor segmentation; draw one of them")
        return around[0], around[1], around[2], around[3]
    numbers = [_number(value) for value in box] if isinstance(box, list) else []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        raise DataError(f"{where} has the bbox {shown(box)}; it is [x, y, width, height], four numbers")
    left, top, width, height = numbers
    return left, top, left + width, top + height


def _number(value: Any) -> float:
    """A number as float; NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _typed(item: Mapping[str, Any], keys: Sequence[str], where: str) -> tuple[str, ...]:
    found: list[str] = []
    attributes = item.get("attributes")
    for source in (item, attributes if isinstance(attributes, Mapping) else {}):
        for key in keys:
            given = source.get(key)
            texts = given if isinstance(given, list) else [given]
            for text in texts:
                if text is None:
                    continue
                if not isinstance(text, str):
                    raise DataError(
                        f"{where}: {key!r} is {shown(given)}; a sentence is text, several are a list of texts"
                    )
                found += [" ".join(text.split())] if text.strip() else []
    return tuple(dict.fromkeys(found))


def _size(image: Mapping[str, Any], path: Path, labels: Labels, where: str) -> tuple[int, int]:
    """(height, width) as annotated, or the image's own where the file says none."""
    from mindground.files.images import read_image

    given = image.get("height"), image.get("width")
    if any(value is None or value == 0 for value in given):
        labels.sized += 1
        height, width = read_image(path).shape[:2]
        return int(height), int(width)
    numbers = [_number(value) for value in given]
    if not all(math.isfinite(value) and value > 0 and value == int(value) for value in numbers):
        raise DataError(f"{where} has the height {shown(given[0])} and the width {shown(given[1])}; both are pixels")
    return int(numbers[0]), int(numbers[1])
