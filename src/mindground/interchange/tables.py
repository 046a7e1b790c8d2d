"""CSV, and our own JSON lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindground.data.formats.fields import RecordError, optional_size, plain_text
from mindground.data.formats.files import parse_json, read_file
from mindground.data.formats.jsonl import read_jsonl, write_jsonl
from mindground.errors import DataError, shown
from mindground.files.atomic import write_text
from mindground.interchange.folders import files_in
from mindground.interchange.model import Annotations, Context, ExchangeFormat, ImageItems, Item, Notes, make_item

__all__ = ["FORMATS"]

_COLUMNS = ("image", "width", "height", "left", "top", "right", "bottom", "category", "sentence", "score", "mask")
_NEEDED = ("image", "left", "top", "right", "bottom")
_OTHER_NAMES = {
    **{"filename": "image", "file_name": "image", "image_path": "image", "path": "image"},
    **{"xmin": "left", "ymin": "top", "xmax": "right", "ymax": "bottom"},
    **{"x1": "left", "y1": "top", "x2": "right", "y2": "bottom"},
    **{"class": "category", "label": "category", "text": "sentence", "expression": "sentence", "confidence": "score"},
}
_MOST = 512 << 20
_NUMBER = re.compile(r"[+-]?(\d{1,12}(\.\d{0,17})?|\.\d{1,17})([eE][+-]?\d{1,3})?")


def read_csv(path: Path, context: Context, notes: Notes) -> Annotations:
    try:
        text = read_file(path, most=_MOST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no UTF-8 text (byte {error.start}); save it as UTF-8") from error
    images: dict[str, ImageItems] = {}
    lines = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [_OTHER_NAMES.get(name.strip().lower(), name.strip().lower()) for name in next(lines, [])]
        if missing := [name for name in _NEEDED if name not in header]:
            raise DataError(f"{path}: lacks the column {missing[0]!r}; it has {shown(header)}")
        for cells in lines:
            if cells:
                _line(dict(zip(header, cells, strict=False)), f"{path}, line {lines.line_num}", images)
    except csv.Error as error:
        raise DataError(f"{path}, line {lines.line_num}: no CSV ({shown(str(error))}); save it again") from error
    return Annotations(list(images.values()))


def _line(record: Mapping[str, str], where: str, images: dict[str, ImageItems]) -> None:
    name = plain_text(record.get("image", ""), "the image", where, empty=False)
    sides = [record.get(key, "").strip() for key in ("height", "width")]
    size = None
    if any(sides):
        size = optional_size(_number(sides[0], where), _number(sides[1], where), where)
    image = images.setdefault(name, ImageItems(name, size))
    image.size = image.size or size
    edges = [record.get(key, "").strip() for key in ("left", "top", "right", "bottom")]
    if not any(edges) and not record.get("mask"):
        return  # an image without objects
    image.items.append(
        make_item(
            where,
            box=[_number(edge, where) for edge in edges] if any(edges) else None,
            outline=parse_json(record["mask"].encode(), f"{where}: the mask") if record.get("mask") else None,
            size=image.size,
            category=record.get("category", ""),
            sentence=record.get("sentence", ""),
            score=_number(record["score"], where) if record.get("score", "").strip() else None,
        )
    )


def _number(text: str, where: str) -> float:
    if not _NUMBER.fullmatch(text.strip()):
        raise RecordError(f"{where}: {shown(text)} is no number")
    return float(text)


def write_csv(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(_COLUMNS)
    for image in found.images:
        sides = ["", ""] if image.size is None else [image.size[1], image.size[0]]
        if not image.items:
            table.writerow([image.name, *sides, *[""] * 8])
        for item in image.items:
            mask = "" if item.outline is None else json.dumps(item.outline, separators=(",", ":"))
            score = "" if item.score is None else repr(item.score)
            table.writerow([image.name, *sides, *map(repr, item.box), item.category, item.sentence, score, mask])
    return [write_text(path, stream.getvalue())]


def read_lines(path: Path, context: Context, notes: Notes) -> Annotations:
    found = Annotations()
    images: dict[str, ImageItems] = {}
    for file in files_in(path, ".jsonl"):
        folder = context.images or file.parent
        data = read_jsonl(str(file), file.stem, str(folder))
        names = dict(data.categories)
        found.categories += [name for name in names.values() if name not in found.categories]
        for sample in data:
            place = Path(sample.image_path)
            name = place.relative_to(folder).as_posix() if place.is_relative_to(folder) else place.as_posix()
            image = images.setdefault(name, ImageItems(name, sample.size))
            if sample.ignored:
                notes.add("regions that are not counted (crowds)", len(sample.ignored))
            for index, box in enumerate(sample.boxes_xyxy.tolist()):
                category = names.get(int(sample.labels[index]), "")
                outline = sample.segmentations[index]
                words = {"category": category, "sentence": sample.expression or ""}
                image.items.append(make_item(str(file), box=box, outline=outline, size=sample.size, **words))
    found.images = list(images.values())
    return found


def write_lines(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    """One record an object where all have a sentence, otherwise one an image with all its objects."""
    items = [item for image in found.images for item in image.items]
    asking = bool(items) and all(item.sentence for item in items)
    if not asking:
        notes.add("sentences (a set has them for all objects or for none)", sum(bool(item.sentence) for item in items))
        notes.counts = {what: count for what, count in notes.counts.items() if count}
    records: list[dict[str, Any]] = []
    for image in found.images:
        head: dict[str, Any] = {"image": image.name}
        if image.size is not None:
            head["size"] = list(image.size)
        if asking:
            records += [{**head, "sentence": item.sentence, **_object(item)} for item in image.items]
        else:
            records.append({**head, "objects": [_object(item) for item in image.items]})
    if any(item.score is not None for item in items):
        notes.add("scores (JSON lines hold the truth)")
    target = path if path.suffix.lower() == ".jsonl" else path / "train.jsonl"
    write_jsonl(target, [{"id": str(number), **record} for number, record in enumerate(records, 1)])
    return [target]


def _object(item: Item) -> dict[str, Any]:
    made: dict[str, Any] = {"box": list(item.box)}
    if item.outline is not None:
        made["mask"] = item.outline
    if item.category:
        made["category"] = item.category
    return made


FORMATS = (
    ExchangeFormat(
        "jsonl",
        "our open format: a JSON-lines file, or a folder of them",
        read_lines,
        write_lines,
        ".jsonl",
        "polygons or run lengths",
        "",
        "`sentence`, for all objects or none",
    ),
    ExchangeFormat(
        "csv",
        "a table: image, width, height, left, top, right, bottom, category, sentence, score, mask",
        read_csv,
        write_csv,
        ".csv",
        "JSON in the column `mask`",
        "the column `score`",
        "the column `sentence`",
    ),
)
