"""One annotation file of DIOR-RSVG: the PASCAL-VOC layout with a sentence beside every box.

Fields are read by their tags; where an object lacks one, by the position that the published readers use (third child
the box, fourth the sentence). Entities and document types are refused before anything is expanded.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from mindground.data.formats.files import Defect, read_file
from mindground.errors import DataError, UnsafeFileError, shown

__all__ = ["MAX_BYTES", "RsvgFile", "RsvgObject", "parse_xml", "read_annotation"]

MAX_BYTES = 1 << 20
"""The published files are a few kilobytes; what is larger than this is none of them."""

_TAGS = ("name", "pose", "bndbox", "description")
_VOC = frozenset({*_TAGS, "truncated", "difficult", "occluded", "part", "actions", "point"})
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DECLARED = re.compile(rb"""\s{0,9}<\?xml\s[^>]{0,200}?encoding\s{0,9}=\s{0,9}["']([A-Za-z0-9_.:\-]{1,40})["']""")
# Declared name -> Python's codec. Files that say GB2312, Shift_JIS or EUC-KR mostly hold the larger sets of Windows.
_EAST_ASIAN = {
    **dict.fromkeys(("gb2312", "gbk", "gb18030", "gb_2312_80", "cp936", "csgb2312", "x_gbk"), "gb18030"),
    **dict.fromkeys(("big5", "cp950", "csbig5"), "cp950"),
    "big5_hkscs": "big5hkscs",
    **dict.fromkeys(("shift_jis", "sjis", "cp932", "windows_31j", "ms932"), "cp932"),
    "euc_jp": "euc_jp",
    **dict.fromkeys(("euc_kr", "cp949", "ks_c_5601_1987"), "cp949"),
}
_NUMBER = re.compile(r"[+-]?\d{1,9}(\.\d{1,9})?")


@dataclass(frozen=True)
class RsvgObject:
    """One `object` element: one box, one sentence.

    Attributes:
        position: place in its file, from 0.
        box: corners (left, top, right, bottom) in pixels; None where they cannot be used.
        category, sentence: text, empty where it is missing.
        defects: (kind, detail) of everything that is wrong with it.
    """

    position: int
    box: tuple[float, float, float, float] | None
    category: str
    sentence: str
    defects: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RsvgFile:
    """What one annotation file says.

    Attributes:
        name: of the annotation file.
        image: file name of the image.
        size: (height, width) in pixels, or None where the file does not say.
        objects: in document order.
        defects: of the file as a whole.
        by_position: how many objects were read by position for want of a tag.
    """

    name: str
    image: str
    size: tuple[int, int] | None = None
    objects: tuple[RsvgObject, ...] = ()
    defects: tuple[Defect, ...] = ()
    by_position: int = 0


class _RefusedError(Exception):
    """The file declares what no annotation needs."""


class _Builder(ElementTree.TreeBuilder):
    """Stops at a document type, whatever the file's encoding: entities can only be declared in one."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise _RefusedError(f"it declares the document type {shown(name)}")


def read_annotation(path: Path) -> RsvgFile:
    """Read one file; what is wrong with it is told in `defects`, not raised.

    Raises:
        UnsafeFileError: it declares a document type or entities; nothing was expanded.
        DataError: it cannot be read, is too large, or is not XML; objects cannot be counted past it.
    """
    root = _parse(path)
    size, found = _size(root, path.name)
    image, wrong = _image(root, path)
    objects: list[RsvgObject] = []
    by_position = 0
    for position, element in enumerate(root.findall("object")):
        item, guessed = _object(element, position, size)
        objects.append(item)
        by_position += guessed
    return RsvgFile(path.name, image, size, tuple(objects), (*found, *wrong), by_position)


def _parse(path: Path) -> ElementTree.Element:
    root = parse_xml(
        path,
        MAX_BYTES,
        "objects are numbered over all files, so none can be left out: get the file again, or save it as UTF-8",
    )
    if root.tag != "annotation":
        raise DataError(
            f"{path}: its outermost element is {shown(root.tag)}, not 'annotation'; it is of another data set"
        )
    return root


def parse_xml(path: Path, most: int, advice: str = "get the file again, or save it as UTF-8") -> ElementTree.Element:
    """The outermost element of an XML file of at most `most` bytes.

    Raises:
        UnsafeFileError: it declares a document type or entities; nothing was expanded.
        DataError: it cannot be read, is too large, or is not XML; the message ends in `advice`.
    """
    raw = read_file(path, most=most)
    try:
        raw, encoding = _in_utf8(raw)
        # The text is searched as the parser will read it: in another encoding the letters would be other bytes.
        if re.search(rb"<!\s*(doctype|entity)", raw, re.IGNORECASE):
            raise _RefusedError("it declares a document type or an entity")
        return ElementTree.fromstring(raw, parser=ElementTree.XMLParser(target=_Builder(), encoding=encoding))
    except _RefusedError as refused:
        raise UnsafeFileError(
            f"{path}: refused, because {refused}, which no annotation needs; nothing was expanded. "
            "Get the file again from a source you trust"
        ) from refused
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: not whole XML ({shown(str(error))}); {advice}") from error


def _in_utf8(raw: bytes) -> tuple[bytes, str | None]:
    """The file's bytes, and the encoding to read them in; files in East Asian encodings become UTF-8.

    The XML parser knows encodings of one byte a letter and Unicode, and none of these.
    """
    found = _DECLARED.match(raw)
    codec = _EAST_ASIAN.get(found[1].decode("ascii").lower().replace("-", "_")) if found else None
    return (raw.decode(codec).encode(), "utf-8") if codec else (raw, None)


def _text(element: ElementTree.Element | None) -> str:
    return "".join(element.itertext()).strip() if element is not None else ""


def _size(root: ElementTree.Element, name: str) -> tuple[tuple[int, int] | None, list[Defect]]:
    element = root.find("size")
    if element is None:
        return None, []
    given = [_text(element.find(tag)) for tag in ("height", "width")]
    if all(re.fullmatch(r"[1-9]\d{0,6}", text) for text in given):
        return (int(given[0]), int(given[1])), []
    return None, [
        Defect("number_format", name, f"height and width are {shown(given[0])} and {shown(given[1])}, no whole numbers")
    ]


def _image(root: ElementTree.Element, path: Path) -> tuple[str, list[Defect]]:
    given = _text(root.find("filename"))
    if not given:
        return f"{path.stem}.jpg", []
    if given in (".", "..") or re.search(r"[\\/:\x00]", given):
        return f"{path.stem}.jpg", [Defect("file_name", path.name, f"filename {shown(given)} is no plain file name")]
    if Path(given).stem != path.stem:
        detail = f"it describes {shown(given)}, an image of another name"
        return given, [Defect("file_name", path.name, detail, serious=False)]
    return given, []


def _object(element: ElementTree.Element, position: int, size: tuple[int, int] | None) -> tuple[RsvgObject, bool]:
    """The object, and whether a field of it was found by position only."""
    found: list[tuple[str, str]] = []
    fields: dict[str, ElementTree.Element | None] = {}
    guessed = False
    children = list(element)
    for place, tag in enumerate(_TAGS):
        same = [child for child in children if child.tag == tag]
        if len(same) > 1:
            found.append(("repeated_tag", f"{len(same)} elements <{tag}>, where one box has one sentence"))
        fields[tag] = same[0] if same else None
        if not same and tag != "pose":
            # A child that carries another field's tag is that field, wherever it stands.
            other = children[place] if place < len(children) and children[place].tag not in _VOC else None
            fields[tag] = other
            guessed = guessed or other is not None
            if other is None:
                found.append(("missing_tag", f"there is no <{tag}>"))
    box, wrong, counted = _box(fields["bndbox"], size)
    found += wrong
    sentence = _text(fields["description"])
    if fields["description"] is not None and not sentence:
        found.append(("empty_sentence", "the description has no words"))
    category = _text(fields["name"])
    if fields["name"] is not None and not category:
        found.append(("empty_name", "the name of the class is empty"))
    item = RsvgObject(position, box, category, sentence, tuple(found))
    return item, guessed or counted


Corners = tuple[float, float, float, float]


def _box(
    element: ElementTree.Element | None, size: tuple[int, int] | None
) -> tuple[Corners | None, list[tuple[str, str]], bool]:
    """Corners, defects, and whether the corners were told by position."""
    if element is None:
        return None, [], False
    children = list(element)
    by_tag = {tag: element.find(tag) for tag in _CORNERS}
    counted = not any(child.tag in _CORNERS for child in children) and len(children) >= len(_CORNERS)
    if counted:
        by_tag = dict(zip(_CORNERS, children[: len(_CORNERS)], strict=True))
    missing = [tag for tag in _CORNERS if by_tag[tag] is None]
    if missing:
        return None, [("missing_tag", f"the box has no {', '.join(f'<{tag}>' for tag in missing)}")], counted
    texts = {tag: _text(by_tag[tag]) for tag in _CORNERS}
    wrong = {tag: text for tag, text in texts.items() if not _NUMBER.fullmatch(text)}
    if wrong:
        said = ", ".join(f"{tag} {shown(text)}" for tag, text in wrong.items())
        return None, [("number_format", f"{said} cannot be read as a number of pixels")], counted
    left, top, right, bottom = (float(texts[tag]) for tag in _CORNERS)
    return (left, top, right, bottom), _misplaced(left, top, right, bottom, size), counted


def _misplaced(
    left: float, top: float, right: float, bottom: float, size: tuple[int, int] | None
) -> list[tuple[str, str]]:
    shown = f"box ({left:g}, {top:g}, {right:g}, {bottom:g})"
    if left > right or top > bottom:
        return [("swapped_corners", f"{shown} has its corners swapped: xmin < xmax and ymin < ymax is wanted")]
    if left == right or top == bottom:
        return [("empty_box", f"{shown} encloses nothing")]
    if min(left, top) < 0 or (size is not None and (right > size[1] or bottom > size[0])):
        within = f"an image of {size[1]} x {size[0]}" if size is not None else "the image"
        return [("box_outside", f"{shown} leaves {within}")]
    return []
