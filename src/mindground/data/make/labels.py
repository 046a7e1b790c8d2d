"""A COCO file as labelling programs export it -> images, objects and typed sentences, checked once.

What only differs in the way of writing is taken as it is meant: names of images (`image_names`), ids that are text or
start again in every image, sizes that are missing, outlines without boxes. What cannot be meant ends in one sentence
with file and record.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindground.data.formats.coco import load_coco
from mindground.data.formats.fields import plain_text
from mindground.data.make.image_finder import ImageFinder
from mindground.errors import DataError, shown
from mindground.structures import Segmentation

__all__ = ["SENTENCE_KEYS", "LabelledImage", "LabelledObject", "Labels", "read_labels"]

_LOG = logging.getLogger("mindground")

SENTENCE_KEYS = (
    *("sentences", "sentence", "expressions", "expression", "referring_expression"),
    *("captions", "caption", "phrases", "phrase", "description"),
)
"""Keys of an annotation, or of its `attributes`, whose text is a sentence that a person typed for the object."""


@dataclass(frozen=True)
class LabelledObject:
    """One annotation.

    Attributes:
        number: whole number, unique in the file: the annotation's id, or a new one where ids repeat or are text.
        key: the annotation's own id as text; where ids repeat, the new one.
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
    problems: list[str] = []
    content = load_coco(coco_file, problems=problems)
    _refuse(problems)
    labels = Labels(categories={item["id"]: item["name"] for item in content["categories"]})
    for number, name in labels.categories.items():
        if not name.strip():
            raise DataError(f"{coco_file}: category {number} has no name; name it, sentences need the word")
    by_image = _by_image(content, labels)
    objects = _Objects(labels, content["annotations"], sentence_keys, str(coco_file))
    objects.new_ids(any(getattr(line, "kind", "") == "duplicate_id" for line in problems))
    finder = ImageFinder(folder, coco_file.parent, str(coco_file))
    whole = all(isinstance(image["id"], int) for image in content["images"])
    taken: dict[Path, Any] = {}
    for position, image in enumerate(content["images"]):
        name = image["file_name"]
        path = finder.find(name)
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), image["id"])
        if other != image["id"]:
            raise DataError(
                f"{coco_file}: the images {shown(other)} and {shown(image['id'])} are one file, {path}; give every "
                "file one image record, so that its objects are known together"
            )
        labels.renamed += path not in [place / name for place in finder.places]
        number = image["id"] if whole else position + 1
        size = _size(image, path, labels, str(coco_file))
        found = tuple(map(objects.make, by_image.get(image["id"], [])))
        labels.images.append(LabelledImage(number, str(image["id"]), name, path, size, found))
    finder.require_all()
    return labels


def _refuse(problems: Sequence[str]) -> None:
    """Raises DataError for the first record that cannot be used; what was read in part is told."""
    serious = [line for line in problems if getattr(line, "serious", True)]
    if serious:
        more = f" (and {len(serious) - 1} more; tools/data_check.py lists them)" if len(serious) > 1 else ""
        raise DataError(f"{serious[0]}{more}")
    for line in problems:
        _LOG.warning("%s", line)


def _by_image(content: Mapping[str, Any], labels: Labels) -> dict[Any, list[Mapping[str, Any]]]:
    """Annotations of every image, in file order; what stands twice in the file, once."""
    by_image: dict[Any, list[Mapping[str, Any]]] = {}
    known: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for item in content["annotations"]:
        alike = known.setdefault((item["image_id"], item["category_id"], *item["bbox"]), [])
        if any({**item, "id": 0} == {**other, "id": 0} for other in alike[:9]):
            labels.repeated += 1
        else:
            alike.append(item)
            by_image.setdefault(item["image_id"], []).append(item)
    return by_image


class _Objects:
    """Makes the objects of one file, numbered as `LabelledObject` says."""

    def __init__(
        self, labels: Labels, annotations: Sequence[Mapping[str, Any]], keys: Sequence[str], where: str
    ) -> None:
        self.labels, self.count = labels, len(annotations)
        self.whole = all(isinstance(item["id"], int) for item in annotations)
        self.keys, self.where, self.next = keys, where, 0

    def new_ids(self, by_reader: bool) -> None:
        """Counts what is renumbered: by the reader, which did so where ids repeat, or here, where they are text."""
        self.labels.renumbered = self.count if by_reader or not self.whole else 0

    def make(self, item: Mapping[str, Any]) -> LabelledObject:
        self.next += 1
        left, top, width, height = (float(value) for value in item["bbox"])
        return LabelledObject(
            number=item["id"] if self.whole else self.next,
            key=str(item["id"]),
            category=item["category_id"],
            box=(left, top, left + width, top + height),
            outline=item["segmentation"],
            crowd=bool(item.get("iscrowd")),
            typed=_typed(item, self.keys, f"{self.where}: annotation {shown(item['id'])}"),
            raw=item,
        )


def _typed(item: Mapping[str, Any], keys: Sequence[str], where: str) -> tuple[str, ...]:
    found: list[str] = []
    attributes = item.get("attributes")
    for source in (item, attributes if isinstance(attributes, Mapping) else {}):
        for key in keys:
            given = source.get(key)
            for text in given if isinstance(given, list) else [given]:
                if text is None:
                    continue
                if not isinstance(text, str):
                    raise DataError(f"{where}: {key!r} is {shown(given)}; a sentence is text")
                found += [" ".join(plain_text(text, repr(key), where).split())] if text.strip() else []
    return tuple(dict.fromkeys(found))


def _size(image: Mapping[str, Any], path: Path, labels: Labels, where: str) -> tuple[int, int]:
    """(height, width) as annotated, or the image's own where the file says none or is wrong by a few pixels.

    Raises:
        DataError: the annotation is about an image of another size.
    """
    from mindground.data.orientation import same_but_for_rounding
    from mindground.files.images import read_image

    if image["height"] is None:
        labels.sized += 1
        height, width = read_image(path).shape[:2]
        return int(height), int(width)
    said, stored = (image["height"], image["width"]), _stored_size(path)
    if stored is None or said in (stored, stored[::-1]):
        return said
    if not same_but_for_rounding(stored, said):
        raise DataError(
            f"{where}: the image {shown(image['id'])} is annotated as {said[0]} x {said[1]}, and {path} is "
            f"{stored[0]} x {stored[1]} (height x width); name the images that were annotated"
        )
    labels.sized += 1  # by a few pixels: boxes are kept, as training keeps them
    return stored


def _stored_size(path: Path) -> tuple[int, int] | None:
    """(height, width) from the header of an image file; None where only decoding tells it."""
    from PIL import Image

    try:
        with Image.open(path, formats=("JPEG", "PNG", "BMP", "WEBP")) as image:
            return image.height, image.width
    except Exception:  # noqa: BLE001 - plugins raise what they like; the data check says what is wrong with the file
        return None
