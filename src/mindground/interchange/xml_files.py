"""Pascal VOC and CVAT: annotations in XML. A document type or entities are refused before anything is expanded."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.formats.fields import RecordError, optional_size, plain_text
from mindground.data.formats.rsvg_xml import parse_xml
from mindground.errors import DataError, shown
from mindground.files.atomic import write_bytes
from mindground.interchange.folders import files_in
from mindground.interchange.images import safe_name, sized
from mindground.interchange.model import Annotations, Context, ExchangeFormat, ImageItems, Item, Notes, make_item
from mindground.interchange.model import one_polygon as joined
from mindground.structures import check_size, encode_mask

__all__ = ["FORMATS", "element_number", "xml_bytes"]

MOST_BYTES = 64 << 20
_NUMBER = re.compile(r"[+-]?(\d{1,12}(\.\d{0,17})?|\.\d{1,17})([eE][+-]?\d{1,3})?")
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element_number(text: str | None, where: str) -> float:
    """A number in decimal digits. Raises RecordError."""
    if text is None or not _NUMBER.fullmatch(text.strip()):
        raise RecordError(f"{where}: {shown(text)} is no number")
    return float(text)


def xml_bytes(root: ElementTree.Element) -> bytes:
    """A tree as indented UTF-8."""
    ElementTree.indent(root)
    made: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return made + b"\n"


def add(parent: ElementTree.Element, tag: str, value: Any = None, **attributes: str) -> ElementTree.Element:
    """A child element with a text; raises DataError for characters that XML cannot hold."""
    made = ElementTree.SubElement(parent, tag, {name: _held(text) for name, text in attributes.items()})
    if value is not None:
        made.text = _held(str(value))
    return made


def _held(text: str) -> str:
    if _NO_XML.search(text):
        raise DataError(f"{shown(text)} holds a character that XML has not; take it out, or choose a JSON format")
    return text


def _text(element: ElementTree.Element | None) -> str:
    return "".join(element.itertext()).strip() if element is not None else ""


def number_text(value: float) -> str:
    """A number as short as it can be read back."""
    return repr(int(value)) if float(value).is_integer() else repr(float(value))


def read_voc(path: Path, context: Context, notes: Notes) -> Annotations:
    images: dict[str, ImageItems] = {}
    for file in files_in(path, ".xml"):
        root = parse_xml(file, MOST_BYTES)
        if root.tag != "annotation":
            raise DataError(f"{file}: its outermost element is {shown(root.tag)}, not 'annotation'; it is no VOC file")
        name = plain_text(_text(root.find("filename")) or f"{file.stem}.jpg", "the file name", str(file))
        sides = [_text(root.find(f"size/{tag}")) for tag in ("height", "width")]
        size = None
        if all(re.fullmatch(r"[1-9]\d{0,6}", side) for side in sides):
            size = optional_size(int(sides[0]), int(sides[1]), str(file))
        items = []
        for number, element in enumerate(root.findall("object")):
            where = f"{file}: object {number}"
            box = element.find("bndbox")
            if box is None:
                raise RecordError(f"{where} has no <bndbox>")
            edges = [element_number(box.findtext(tag), where) for tag in ("xmin", "ymin", "xmax", "ymax")]
            score = element.findtext("score")
            items.append(
                make_item(
                    where,
                    box=edges,
                    category=_text(element.find("name")),
                    sentence=_text(element.find("description")),
                    score=element_number(score, where) if score else None,
                )
            )
        if name in images:
            raise DataError(f"{file}: the image {shown(name)} stands in a file before; name each image once")
        images[name] = ImageItems(name, size, items)
    return Annotations(list(images.values()))


def write_voc(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    files = []
    for image in found.images:
        root = ElementTree.Element("annotation")
        add(root, "folder", "images")
        add(root, "filename", image.name)
        if image.size is not None:
            size = add(root, "size")
            for tag, value in (("width", image.size[1]), ("height", image.size[0]), ("depth", 3)):
                add(size, tag, value)
        for item in image.items:
            made = add(root, "object")
            add(made, "name", item.category or "object")
            add(made, "pose", "Unspecified")
            add(made, "truncated", 0)
            add(made, "difficult", 0)
            box = add(made, "bndbox")
            for tag, edge in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True):
                add(box, tag, number_text(edge))
            if item.sentence:
                add(made, "description", item.sentence)
            if item.score is not None:
                add(made, "score", number_text(item.score))
            if item.outline is not None:
                notes.add("masks (Pascal VOC has boxes alone)")
        files.append(write_bytes(path / safe_name(image.name, ".xml"), xml_bytes(root)))
    return files


def read_cvat(path: Path, context: Context, notes: Notes) -> Annotations:
    images: dict[str, ImageItems] = {}
    labels: dict[str, None] = {}
    for file in files_in(path, ".xml"):
        root = parse_xml(file, MOST_BYTES)
        if root.tag != "annotations":
            raise DataError(
                f"{file}: its outermost element is {shown(root.tag)}, not 'annotations'; it is no CVAT file"
            )
        if root.find("track") is not None:
            raise DataError(f"{file}: tracks of a video; export it as 'CVAT for images'")
        labels.update(dict.fromkeys(_text(name) for name in root.findall("meta//label/name")))
        for element in root.findall("image"):
            where = f"{file}: image {shown(element.get('id', ''))}"
            name = plain_text(element.get("name"), "the image's name", where, empty=False)
            sides = [element.get("height", ""), element.get("width", "")]
            size = None
            if all(re.fullmatch(r"[1-9]\d{0,6}", side) for side in sides):
                size = optional_size(int(sides[0]), int(sides[1]), where)
            if name in images:
                raise DataError(f"{where}: {shown(name)} stands there before; name each image once")
            images[name] = ImageItems(name, size)
            for number, shape in enumerate(element):
                item = _cvat_shape(shape, f"{where}, shape {number}", size, notes)
                if item is not None:
                    images[name].items.append(item)
    return Annotations(list(images.values()), list(labels))


def _cvat_shape(shape: ElementTree.Element, where: str, size: tuple[int, int] | None, notes: Notes) -> Item | None:
    attributes = {item.get("name", "").lower(): _text(item) for item in shape.findall("attribute")}
    sentence = next((attributes[key] for key in ("sentence", "text", "expression") if key in attributes), "")
    score = attributes.get("score")
    words: dict[str, Any] = {"category": shape.get("label", ""), "sentence": sentence}
    words["score"] = element_number(score, where) if score else None
    if shape.tag == "box":
        if shape.get("rotation") not in (None, "0", "0.0", "0.00"):
            notes.add("rotations of boxes (the box is taken upright)")
        edges = [element_number(shape.get(name), where) for name in ("xtl", "ytl", "xbr", "ybr")]
        return make_item(where, box=edges, size=size, **words)
    if shape.tag == "polygon":
        pairs = [point.split(",") for point in shape.get("points", "").split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise RecordError(f"{where}: points are x,y;x,y;..., not {shown(shape.get('points'))}")
        return make_item(
            where, outline=[[element_number(v, where) for pair in pairs for v in pair]], size=size, **words
        )
    if shape.tag == "mask":
        return make_item(where, outline=_cvat_mask(shape, where, size), size=size, **words)
    if shape.tag != "tag":
        notes.add(f"shapes of the kind {shown(shape.tag)}")
    return None


def _cvat_mask(shape: ElementTree.Element, where: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """CVAT's own runs along the lines of a window, as COCO's runs of the whole image."""
    if size is None:
        raise RecordError(f"{where}: a mask, of an image without a size")
    left, top, width, height = (int(element_number(shape.get(n), where)) for n in ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(width, height) < 1 or left + width > size[1] or top + height > size[0]:
        raise RecordError(f"{where}: the mask's window leaves the image")
    check_size([height, width], "a mask")
    runs = [int(element_number(part, where)) for part in shape.get("rle", "").split(",")]
    if min(runs) < 0 or sum(runs) != width * height:
        raise RecordError(f"{where}: the runs of a mask add up to {sum(runs)} pixels, not {width} x {height}")
    values = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(height, width)
    mask = np.zeros(size, np.uint8)
    mask[top : top + height, left : left + width] = values
    return encode_mask(mask)


def write_cvat(path: Path, found: Annotations, context: Context, notes: Notes) -> list[Path]:
    root = ElementTree.Element("annotations")
    add(root, "version", "1.1")
    labels = add(add(add(root, "meta"), "task"), "labels")
    scored = any(item.score is not None for image in found.images for item in image.items)
    for name in found.names() or ["object"]:
        label = add(labels, "label")
        add(label, "name", name)
        for attribute in ("sentence", *(["score"] if scored else [])):
            made = add(add(label, "attributes"), "attribute")
            for tag, value in (("name", attribute), ("mutable", "False"), ("input_type", "text"), ("values", "")):
                add(made, tag, value)
    for number, image in enumerate(found.images):
        height, width = sized(image.name, image.size, context.images, image.name)
        parent = add(root, "image", id=str(number), name=image.name, width=str(width), height=str(height))
        for item in image.items:
            words = {"label": item.category or "object", "occluded": "0", "source": "manual", "z_order": "0"}
            ring = joined(item.outline, image.size, notes)
            if ring is None:
                edges = zip(("xtl", "ytl", "xbr", "ybr"), item.box, strict=True)
                shape = add(parent, "box", **words, **{name: number_text(edge) for name, edge in edges})
            else:
                points = ";".join(
                    f"{number_text(x)},{number_text(y)}" for x, y in zip(ring[0::2], ring[1::2], strict=True)
                )
                shape = add(parent, "polygon", **words, points=points)
            if item.sentence:
                add(shape, "attribute", item.sentence, name="sentence")
            if item.score is not None:
                add(shape, "attribute", number_text(item.score), name="score")
    target = path if path.suffix.lower() == ".xml" else path / "annotations.xml"
    return [write_bytes(target, xml_bytes(root))]


FORMATS = (
    ExchangeFormat(
        "voc",
        "Pascal VOC: a folder with one XML file an image",
        read_voc,
        write_voc,
        "",
        "",
        "`<score>`",
        "`<description>`, as DIOR-RSVG has it",
    ),
    ExchangeFormat(
        "cvat",
        "CVAT for images 1.1: one XML file; boxes, polygons and masks",
        read_cvat,
        write_cvat,
        ".xml",
        "one polygon",
        "the attribute `score`",
        "the attribute `sentence`",
    ),
)
