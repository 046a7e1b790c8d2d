"""What travels between formats of annotations: images, and in each objects with a class, a sentence, a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.formats.fields import RecordError, four_numbers, plain_text
from mindground.errors import DataError, shown
from mindground.structures import check_outline, decode_segmentation, encode_mask, mask_polygons, outline_box
from mindground.structures.outlines import Parts

__all__ = [
    "Annotations",
    "Context",
    "ExchangeFormat",
    "ImageItems",
    "Item",
    "Notes",
    "make_item",
    "one_polygon",
    "polygons_of",
    "run_length_of",
    "score_of",
]


@dataclass(frozen=True)
class Item:
    """One object.

    Attributes:
        box: left, top, right, bottom in pixels of the image.
        category: name of its class; empty where it has none.
        sentence: a referring expression; empty where there is none.
        score: of a prediction; None for the truth.
        outline: checked polygons or run lengths (`structures.check_outline`), or None.
    """

    box: tuple[float, float, float, float]
    category: str = ""
    sentence: str = ""
    score: float | None = None
    outline: Parts = None


@dataclass
class ImageItems:
    """One image.

    Attributes:
        name: its file, relative to the folder of the images, with `/` between the parts.
        size: (height, width) in pixels, or None where the annotations do not say.
        items: its objects, in the order of the file.
    """

    name: str
    size: tuple[int, int] | None = None
    items: list[Item] = field(default_factory=list)


@dataclass
class Annotations:
    """What one file, or one folder, holds.

    Attributes:
        images: each name once.
        categories: names of classes, in the order of their numbers; classes of items that are not in it follow.
    """

    images: list[ImageItems] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """`categories`, and every class of an item."""
        found = dict.fromkeys(self.categories)
        for image in self.images:
            found.update(dict.fromkeys(item.category for item in image.items if item.category))
        return list(found)


@dataclass
class Notes:
    """What a format cannot say and was left out: sentence -> how often."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, times: int = 1) -> None:
        """`what` is about any number of objects, such as "masks (this format has boxes alone)"."""
        self.counts[what] = self.counts.get(what, 0) + times

    def lines(self) -> list[str]:
        """One line a kind."""
        return [f"left out: {count} {what}" for what, count in self.counts.items()]


@dataclass(frozen=True)
class Context:
    """Files that belong to the annotations.

    Attributes:
        images: folder of the images: for formats with coordinates relative to the image's size, or on earth.
        against: a COCO instance file whose ids a list of results uses.
    """

    images: Path | None = None
    against: Path | None = None


@dataclass(frozen=True)
class ExchangeFormat:
    """One format.

    Attributes:
        name: as `mindground data convert` takes it.
        about: what is read and written, for the table of formats.
        read: (path, context, notes) -> annotations. Raises DataError in one sentence for anything else.
        write: (path, annotations, context, notes) -> files written.
        suffix: of a file; empty where it is a folder.
        masks, scores, sentences: whether it holds them, and where.
    """

    name: str
    about: str
    read: Callable[[Path, Context, Notes], Annotations]
    write: Callable[[Path, Annotations, Context, Notes], list[Path]]
    suffix: str = ""
    masks: str = "polygons"
    scores: str = ""
    sentences: str = ""


def make_item(
    where: str,
    *,
    box: Any = None,
    outline: Any = None,
    size: tuple[int, int] | None = None,
    category: Any = "",
    sentence: Any = "",
    score: Any = None,
) -> Item:
    """An object from values of a file.

    Args:
        where: file and record, for errors.
        box: left, top, right, bottom; None = around the outline.
        outline: anything that `check_outline` understands.
        size: of the image, where it is known.

    Raises:
        RecordError: neither box nor outline, or values of other kinds.
    """
    try:
        checked = check_outline(outline, size).segmentation
    except DataError as error:
        raise RecordError(f"{where}: {error}", "mask_format") from error
    edges = four_numbers(box, "a box is four numbers in pixels", where) if box is not None else outline_box(checked)
    if edges is None:
        raise RecordError(f"{where}: an object has neither a box nor an outline that encloses anything")
    left, top, right, bottom = edges
    return Item(
        (left, top, right, bottom),
        plain_text("" if category is None else category, "the class", where).strip(),
        plain_text("" if sentence is None else sentence, "the sentence", where).strip(),
        score_of(score, where),
        checked,
    )


def score_of(value: Any, where: str) -> float | None:
    """A finite number, or None for nothing. Raises RecordError."""
    if value is None or value == "":
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e9:
        return float(value)
    raise RecordError(f"{where}: a score is a finite number, not {shown(value)}")


def polygons_of(outline: Parts, size: tuple[int, int] | None, notes: Notes) -> list[list[float]] | None:
    """An outline as polygons [x, y, ...]; None where there is none, or where polygons cannot say it (noted)."""
    if outline is None:
        return None
    parts = [outline] if isinstance(outline, Mapping) else list(outline)
    if not any(isinstance(part, Mapping) for part in parts):
        return [[float(value) for value in part] for part in parts if not isinstance(part, Mapping)]
    own = next(part["size"] for part in parts if isinstance(part, Mapping))
    found = mask_polygons(decode_segmentation(outline, size or (own[0], own[1])))
    if found is None:
        notes.add("masks that are empty or too long for polygons")
    return found


def one_polygon(outline: Parts, size: tuple[int, int] | None, notes: Notes) -> list[float] | None:
    """The same as one polygon: several parts are joined by cuts of no width, walked there and back."""
    polygons = polygons_of(outline, size, notes)
    if not polygons:
        return None
    start = polygons[0][:2]
    ring = list(polygons[0]) if len(polygons) == 1 else [*polygons[0], *start]
    for part in polygons[1:]:
        ring += [*part, *part[:2], *start]
    return ring


def run_length_of(outline: Parts, size: tuple[int, int] | None, notes: Notes) -> dict[str, Any] | None:
    """An outline as one compressed COCO RLE; None where there is none, or the image's size is not known (noted)."""
    if outline is None:
        return None
    if isinstance(outline, Mapping) and isinstance(outline["counts"], str):
        return {"size": [int(side) for side in outline["size"]], "counts": outline["counts"]}
    held = [
        part["size"] for part in ([outline] if isinstance(outline, Mapping) else outline) if isinstance(part, Mapping)
    ]
    known = size or ((int(held[0][0]), int(held[0][1])) if held else None)
    if known is None:
        notes.add("masks of images whose size is not known (give --images)")
        return None
    return encode_mask(decode_segmentation(outline, known))


def points_of(polygon: Sequence[float]) -> list[list[float]]:
    """[x, y, x, y, ...] -> [[x, y], ...]."""
    values: list[list[float]] = np.reshape(np.asarray(polygon, np.float64), (-1, 2)).tolist()
    return values
