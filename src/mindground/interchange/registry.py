"""The formats by name, and how one is recognised by the content of its files."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindground.data.formats.fields import guarded
from mindground.data.formats.files import read_file, read_json
from mindground.data.formats.rsvg_xml import parse_xml
from mindground.errors import ConfigError, DataError, DatasetNotFoundError
from mindground.files.text import split_lines
from mindground.interchange import coco_files, labelling, maps, tables, xml_files, yolo
from mindground.interchange.folders import files_in
from mindground.interchange.model import Annotations, Context, ExchangeFormat, Notes

__all__ = ["FORMATS", "Converted", "convert", "find", "read", "recognise", "write"]

FORMATS: Mapping[str, ExchangeFormat] = {
    made.name: made
    for made in (
        *coco_files.FORMATS,
        *yolo.FORMATS,
        *xml_files.FORMATS,
        *labelling.FORMATS,
        *maps.FORMATS,
        *tables.FORMATS,
    )
}
"""Every format by its name."""

_BY_END = {".jsonl": "jsonl", ".csv": "csv", ".gpkg": "gpkg", ".kml": "kml", ".geojson": "geojson"}
_MOST_XML = 64 << 20
_MOST_LABELS = 1 << 20


@dataclass
class Converted:
    """What a conversion did.

    Attributes:
        source, target: names of the formats.
        files: that were written.
        images, objects: how many were read.
        notes: what could not be said, one line a kind.
    """

    source: str
    target: str
    files: list[Path] = field(default_factory=list)
    images: int = 0
    objects: int = 0
    notes: list[str] = field(default_factory=list)


def find(name: str) -> ExchangeFormat:
    """The format of a name. Raises ConfigError; the message names the nearest."""
    if name in FORMATS:
        return FORMATS[name]
    near = difflib.get_close_matches(name, FORMATS, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(f"there is no format {name!r}; {hint}choose one of {', '.join(FORMATS)}")


def read(
    path: str | Path, format_name: str = "", context: Context | None = None, notes: Notes | None = None
) -> Annotations:
    """Read a file or a folder of annotations.

    Args:
        format_name: see `FORMATS`; empty = recognised by its content.
        notes: is told of what is left out.

    Raises:
        DataError, DatasetNotFoundError: in one sentence, with file and record. ConfigError: no such format.
    """
    path = Path(path)
    made = find(format_name or recognise(path))
    return _guarded(path, made, context or Context(), notes if notes is not None else Notes())


@guarded
def _guarded(path: Path, made: ExchangeFormat, context: Context, notes: Notes) -> Annotations:
    if not os.path.exists(path):
        raise DatasetNotFoundError(f"{path} does not exist; name a file or a folder of annotations")
    if os.path.isdir(path) and made.suffix and made.name not in ("cvat", "jsonl", "label-studio"):
        raise DataError(f"{path} is a folder, and {made.name} is a file ({made.suffix}); name the file")
    return made.read(path, context, notes)


def write(
    path: str | Path,
    found: Annotations,
    format_name: str,
    context: Context | None = None,
    notes: Notes | None = None,
) -> list[Path]:
    """Write annotations and return the files.

    Raises:
        DataError: they hold what the format cannot say at all, or lack what it needs. WriteError.
    """
    made = find(format_name)
    return made.write(Path(path), found, context or Context(), notes if notes is not None else Notes())


def convert(
    source: str | Path, target: str | Path, read_as: str = "", write_as: str = "", context: Context | None = None
) -> Converted:
    """Read annotations in one format and write them in another.

    Args:
        read_as: empty = recognised by content.
        write_as: empty = by the ending of `target`.

    Raises:
        ConfigError: no such format, or an ending that says none. Otherwise as `read` and `write`.
    """
    source, target = Path(source), Path(target)
    into = write_as or _BY_END.get(target.suffix.lower(), "")
    if not into:
        raise ConfigError(f"{target} does not say its format; give --to with one of {', '.join(FORMATS)}")
    find(into)
    notes = Notes()
    origin = read_as or recognise(source)
    found = read(source, origin, context, notes)
    files = write(target, found, into, context, notes)
    objects = sum(len(image.items) for image in found.images)
    return Converted(origin, into, files, len(found.images), objects, notes.lines())


def recognise(path: str | Path) -> str:
    """The name of the format of a file or a folder, by its content.

    Raises:
        DataError: none is recognised, or the file is damaged. DatasetNotFoundError: it is not there.
    """
    path = Path(path)
    if os.path.isdir(path):
        return _of_folder(path)
    if not os.path.isfile(path):
        raise DatasetNotFoundError(f"{path} does not exist; name a file or a folder of annotations")
    end = path.suffix.lower()
    if end in _BY_END:
        return _BY_END[end]
    if end == ".xml":
        root = parse_xml(path, _MOST_XML)
        found = {"annotation": "voc", "annotations": "cvat"}.get(root.tag, "")
    elif end == ".txt":
        found = _of_labels(path)
    else:
        found = _of_json(read_json(path)) if end == ".json" else ""
    if not found:
        raise DataError(f"{path} is of no format that is recognised; name it with --from: {', '.join(FORMATS)}")
    return found


def _of_folder(path: Path) -> str:
    if os.path.isdir(path / "labels") or os.path.isfile(path / "classes.txt"):
        labels = path / "labels" if os.path.isdir(path / "labels") else path
        files = [file for file in files_in(labels, ".txt") if file.name != "classes.txt"]
        return "yolo-seg" if any(_of_labels(file) == "yolo-seg" for file in files[:200]) else "yolo"
    for end in (".jsonl", ".json", ".xml", ".txt"):
        try:
            files = files_in(path, end)
        except DatasetNotFoundError:
            continue
        if end == ".json" and (coco := [f for f in files if f.name.endswith("coco.json") or "instances" in f.name]):
            raise DataError(f"{path} holds COCO files; name one of them, such as {coco[0]}")
        return recognise(files[0])
    raise DataError(f"{path} holds no annotations of a format that is recognised: {', '.join(FORMATS)}")


def _of_labels(path: Path) -> str:
    lines = split_lines(read_file(path)[:_MOST_LABELS].decode("utf-8", "replace"))
    return "yolo-seg" if any(len(line.split()) > 6 for line in lines) else "yolo"


def _of_json(content: Any) -> str:
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, dict):
            return "label-studio" if "data" in first else "coco-results" if "image_id" in first else ""
        return "coco-results" if content == [] else ""
    if not isinstance(content, dict):
        return ""
    if content.get("type") == "FeatureCollection":
        return "geojson"
    if "shapes" in content:
        return "labelme"
    if isinstance(content.get("image"), dict) and "annotations" in content:
        return "sa1b"
    if "images" in content and "annotations" in content:
        return "coco"
    return "label-studio" if "data" in content else ""
