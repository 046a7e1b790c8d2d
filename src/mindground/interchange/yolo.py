"""YOLO and YOLO-seg: a text file an image, with numbers of classes and coordinates relative to the image's size."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mindground.config.resolve import parse_yaml
from mindground.data.formats.fields import RecordError, optional_size, plain_text
from mindground.data.formats.files import read_file, read_json
from mindground.errors import ConfigError, DataError, shown
from mindground.files.atomic import write_json, write_text
from mindground.files.text import split_lines
from mindground.interchange.folders import files_in
from mindground.interchange.images import image_of, safe_name, sized
from mindground.interchange.model import Annotations, Context, ExchangeFormat, ImageItems, Item, Notes, make_item
from mindground.interchange.model import one_polygon as joined

__all__ = ["FORMATS"]

_SENTENCES = "sentences.json"
_MOST_LABELS, _MOST_NAMES = 64 << 20, 4 << 20
_NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?")
_NOT_LABELS = frozenset({"classes.txt", "train.txt", "val.txt", "test.txt", "readme.txt", "autosplit_train.txt"})


def _read(path: Path, context: Context, notes: Notes, outlines: bool) -> Annotations:
    top = path if os.path.isdir(path) else path.parent
    labels = top / "labels" if os.path.isdir(top / "labels") and os.path.isdir(path) else path
    names = _names(top, labels)
    said = _sentences(top)
    images_root = context.images or (top / "images" if os.path.isdir(top / "images") else top)
    found: list[ImageItems] = []
    for file in files_in(labels, ".txt"):
        if file.name.lower() in _NOT_LABELS:
            continue
        relative = file.relative_to(labels).with_suffix("").as_posix() if file != labels else file.stem
        image = image_of(relative, images_root, str(file))
        entry = said.get(f"{relative}.txt", {})
        name = entry.get("image") or (image.relative_to(images_root).as_posix() if image else f"{relative}.jpg")
        size = sized(name, entry.get("size"), images_root, str(file))
        found.append(ImageItems(name, size, _lines(file, size, names, entry.get("sentences", ()), outlines)))
    listed = [names[number] for number in sorted(names)]
    return Annotations(found, listed)


def _lines(
    file: Path, size: tuple[int, int], names: Mapping[int, str], said: Sequence[str], outlines: bool
) -> list[Item]:
    try:
        text = read_file(file, most=_MOST_LABELS).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is no text; name the folder of the labels") from error
    items: list[Item] = []
    height, width = size
    for number, line in enumerate(split_lines(text), 1):
        where = f"{file}, line {number}"
        parts = line.split()
        if not parts:
            continue
        if not all(_NUMBER.fullmatch(part) for part in parts):
            raise RecordError(f"{where}: a line is a class and coordinates, all numbers, not {shown(line)}")
        values = [float(part) for part in parts]
        category = _category(parts[0], names, where)
        sentence = said[len(items)] if len(items) < len(said) else ""
        if len(values) in (5, 6):
            x, y, w, h = (value * side for value, side in zip(values[1:5], (width, height, width, height), strict=True))
            box: Any = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            score = values[5] if len(values) == 6 else None
            items.append(make_item(where, box=box, category=category, sentence=sentence, score=score))
            continue
        if not outlines or len(values) < 7:
            wanted = "a class and x, y, x, y, ... of three points or more" if outlines else "class x y width height"
            raise RecordError(f"{where}: a line is {wanted}, and this one has {len(values)} numbers")
        score = values.pop() if len(values) % 2 == 0 else None
        polygon = [value * (width, height)[place % 2] for place, value in enumerate(values[1:])]
        items.append(make_item(where, outline=[polygon], category=category, sentence=sentence, score=score))
    return items


def _category(text: str, names: Mapping[int, str], where: str) -> str:
    if not text.isdecimal() or not text.isascii() or len(text) > 9:
        raise RecordError(f"{where}: a line begins with the number of a class, not {shown(text)}")
    return names.get(int(text), text)


def _names(top: Path, labels: Path) -> dict[int, str]:
    """Number -> name of the classes, of `data.yaml` (or another YAML file with `names`) or `classes.txt`."""
    for folder in dict.fromkeys((top, labels if os.path.isdir(labels) else top, top.parent)):
        for name in ("data.yaml", "dataset.yaml", "data.yml"):
            if os.path.isfile(file := folder / name):
                return _of_yaml(file)
        if os.path.isfile(file := folder / "classes.txt"):
            try:
                lines = split_lines(read_file(file, most=_MOST_NAMES).decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                raise DataError(f"{file}: is no UTF-8 text; save it as UTF-8") from error
            return dict(enumerate(line.strip() for line in lines))
    return {}


def _of_yaml(file: Path) -> dict[int, str]:
    try:
        content = parse_yaml(read_file(file, most=_MOST_NAMES))
    except ConfigError as error:
        raise DataError(f"{file}: {error}") from error
    names = content.get("names", {}) if isinstance(content, dict) else {}
    if isinstance(names, list):
        names = dict(enumerate(names))
    plain = isinstance(names, dict) and all(type(name) in (str, int, float, bool) for name in names.values())
    if not plain or not all(type(number) is int for number in names):
        raise DataError(f"{file}: 'names' is a list of names, or numbers with names, not {shown(names)}")
    return {number: plain_text(str(name), "a name", str(file)) for number, name in names.items()}


def _sentences(top: Path) -> dict[str, dict[str, Any]]:
    """Label file -> `image`, `size` and `sentences`, as `_write` leaves them beside the labels."""
    file = top / _SENTENCES
    if not os.path.isfile(file):
        return {}
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: an object with an entry a label file is wanted, not {shown(content)}")
    found: dict[str, dict[str, Any]] = {}
    for name, entry in content.items():
        where = f"{file}: {shown(name)}"
        if not isinstance(entry, dict) or not isinstance(entry.get("sentences", []), list):
            raise RecordError(f"{where} has 'image' and 'sentences', a list; not {shown(entry)}")
        found[name] = {"sentences": [plain_text(text, "a sentence", where) for text in entry.get("sentences", [])]}
        if entry.get("size") is not None:
            sides = entry["size"]
            if not isinstance(sides, list) or len(sides) != 2:
                raise RecordError(f"{where}: 'size' is [height, width] in pixels, not {shown(sides)}")
            found[name]["size"] = optional_size(sides[0], sides[1], where)
        if entry.get("image"):
            found[name]["image"] = plain_text(entry["image"], "'image'", where)
    return found


def _write(path: Path, found: Annotations, context: Context, notes: Notes, outlines: bool) -> list[Path]:
    names = found.names()
    if any(not item.category for image in found.images for item in image.items) or not names:
        names = [*names, "object"]
    numbers = {name: number for number, name in enumerate(names)}
    files: list[Path] = []
    said: dict[str, Any] = {}
    for image in found.images:
        relative = safe_name(image.name, ".txt")
        if relative in said:
            raise DataError(f"two images would share the label file {shown(relative)}; rename one of them")
        height, width = sized(image.name, image.size, context.images, image.name)
        lines = []
        for item in image.items:
            values = _outline(item, image, notes) if outlines else None
            if values is None:
                left, top, right, bottom = item.box
                values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
                if item.outline is not None and not outlines:
                    notes.add("masks (YOLO has boxes alone; take yolo-seg)")
            relative_values = [value / (width, height)[place % 2] for place, value in enumerate(values)]
            numbers_of_line = [*relative_values, *([item.score] if item.score is not None else [])]
            shown_values = " ".join(f"{value:.10f}".rstrip("0").rstrip(".") for value in numbers_of_line)
            lines.append(f"{numbers[item.category or 'object']} {shown_values}\n")
        files.append(write_text(path / "labels" / relative, "".join(lines)))
        said[relative] = {
            "image": image.name,
            "size": [height, width],
            "sentences": [item.sentence for item in image.items],
        }
    files.append(write_text(path / "classes.txt", "".join(f"{name}\n" for name in names)))
    content = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(names))}
    files.append(write_text(path / "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False)))
    files.append(write_json(path / _SENTENCES, said))
    return files


def _outline(item: Item, image: ImageItems, notes: Notes) -> list[float] | None:
    ring = joined(item.outline, image.size, notes)
    if ring is None:
        notes.add("outlines of objects that have a box alone (their line has the box)")
    return ring


FORMATS = (
    ExchangeFormat(
        "yolo",
        "a folder: `labels/<image>.txt` with `class x y width height`, `classes.txt` or `data.yaml`, `images/`",
        lambda path, context, notes: _read(path, context, notes, False),
        lambda path, found, context, notes: _write(path, found, context, notes, False),
        "",
        "",
        "a sixth number",
        "`sentences.json` beside the labels",
    ),
    ExchangeFormat(
        "yolo-seg",
        "the same with `class x y x y ...`",
        lambda path, context, notes: _read(path, context, notes, True),
        lambda path, found, context, notes: _write(path, found, context, notes, True),
        "",
        "one polygon",
        "a last number",
        "`sentences.json` beside the labels",
    ),
)
