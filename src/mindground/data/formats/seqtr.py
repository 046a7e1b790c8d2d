"""`instances.json` of SeqTR and MSAM: one file with all splits, records with one box and several expressions.

    {"train": [{"bbox": [...], "image_id": 17, "height": 480, "width": 640, "expressions": ["a car"], "mask": ...}]}

SeqTR writes boxes as x, y, width, height, MSAM as corners, and neither file says which: here the set, the file or the
configuration does. Images of `mixed` lie in one folder for each source, which a record names in `data_source`.
Layouts: github.com/seanzhuh/SeqTR, github.com/waynamigo/MSAM.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.fields import (
    Reading,
    RecordError,
    clean_segmentation,
    four_numbers,
    guarded,
    integer,
    listing,
    optional_size,
    plain_text,
    require,
    text,
)
from mindground.data.formats.files import read_json, require_images
from mindground.data.formats.image_names import ImageNames
from mindground.data.formats.registry import DatasetFormat
from mindground.errors import ConfigError, DataError, DatasetNotFoundError, shown
from mindground.structures import Sample

__all__ = ["FORMATS", "SETS", "read_seqtr"]

NAME = "seqtr"
FROM = "https://github.com/seanzhuh/SeqTR (README: annotations), or of MSAM"
BoxFormat = Literal["", "xywh", "xyxy"]
_FILE = "instances.json"
_SAYS_BOX = "box_format"
# More boxes than this part that the other format explains and the chosen one does not: the format is the wrong one.
_MOST_WRONG, _FEW_WRONG = 0.5, 0.05


@dataclass(frozen=True)
class _Source:
    """Images of one origin: folders below `data.image_root`, and how a number becomes a name, the usual one first."""

    folders: tuple[str, ...]
    names: tuple[str, ...] = ("{}.jpg",)


@dataclass(frozen=True)
class _Set:
    """A published set.

    Attributes:
        splits: to evaluate.
        source: of its images; empty = every record names its own.
        box: format of its boxes.
    """

    splits: tuple[str, ...]
    source: str = "coco"
    box: BoxFormat = "xywh"


_SOURCES: Mapping[str, _Source] = {
    "coco": _Source(("mscoco/train2014", "mscoco/images/train2014", "train2014"), ("COCO_train2014_{:012d}.jpg",)),
    "saiaprtc12": _Source(("saiaprtc12", "saiapr_tc-12")),
    "flickr": _Source(("flickr30k", "flickr30k-images")),
    "vg": _Source(("visual-genome", "vg")),
    # MSAM's code writes the number without zeros; the files of DIOR have five digits.
    "rsvgd": _Source(("rsvgd", "JPEGImages"), ("{:05d}.jpg", "{}.jpg")),
}
_ALIASES = {"visual-genome": "vg", "flickr30k": "flickr", "rsvg": "rsvgd", "dior_rsvg": "rsvgd"}
_THREE, _TWO = ("val", "testA", "testB"), ("val", "test")
_MIXED = ("refcoco_unc", "refcocoplus_unc", "refcocog_umd", "referitgame_berkeley", "flickr30k")
SETS: Mapping[str, _Set] = {
    "refcoco-unc": _Set(_THREE),
    "refcocoplus-unc": _Set(_THREE),
    "refcocog-umd": _Set(_TWO),
    "refcocog-google": _Set(("val",)),
    "referitgame-berkeley": _Set(_TWO, "saiaprtc12"),
    "flickr30k": _Set(_TWO, "flickr"),
    "mixed": _Set(tuple(f"val_{name}" for name in _MIXED), ""),
    "rsvgd": _Set(_TWO, "rsvgd", "xyxy"),
}
"""Folder below annotations/ -> what is known of the set."""


@guarded
def read_seqtr(
    root: str,
    split: str,
    split_by: str = "refcoco-unc",
    image_root: str = "",
    *,
    box: BoxFormat = "",
    image_roots: Mapping[str, str] | None = None,
    problems: list[str] | None = None,
) -> Dataset:
    """Read one split; a sample is one expression, and all expressions of a record are about one object.

    Boxes are cut at the middle of the last pixel of an image, as the published code cuts them.

    Args:
        root: folder with `annotations/<split_by>/instances.json` and `images/`, or the one of instances.json itself.
        split: a key of the file.
        split_by: name of the set, a key of `SETS` or one of your own.
        image_root: folder above those of the sources (or of the one source); empty = `<root>/images`.
        box: xywh (corner, width, height) or xyxy (two corners); empty = as the file says in `box_format`, else as the
            set is known to be written.
        image_roots: source (coco, saiaprtc12, flickr, vg, rsvgd) -> its folder, in place of the usual one.
        problems: gets one line a record that cannot be used, which is then left out; None = it raises DataError.

    Raises:
        ConfigError: the format of the boxes is not known, or the file says another one.
        DatasetNotFoundError: what is missing, where to get it, where it goes.
        DataError: the file is no such file, a record is damaged, or the boxes are not written as said.
    """
    path = _find(root, split_by)
    content = read_json(path)
    require(content, (), str(path))
    if split not in content or split == _SAYS_BOX:
        known = ", ".join(shown(name)[1:-1] for name in list(content)[:12] if name != _SAYS_BOX)
        raise DatasetNotFoundError(f"{path} has no split {split!r}; it has {known or 'none'}")
    said = _box_format(content, path, split_by, box)
    records = listing(content, split, str(path))
    reading = Reading(problems)
    known_set = SETS.get(split_by)
    images = _Images(path, root, image_root, image_roots or {}, known_set.source if known_set else "", reading)
    _check_format(records, said, path, split)
    samples: list[Sample] = []
    for position, record in enumerate(records):
        where = f"{path} {split} record {position}"
        with reading.record(where):
            samples += _samples(record, position, split, said, images, where, reading)
    reading.tell(str(path))
    require_images(samples, images.base, f"{NAME} {split_by}", "the images of its sources")
    return Dataset(samples, {}, NAME, split)


def _find(root: str, split_by: str) -> Path:
    tried = [Path(root) / folder / _FILE for folder in (f"annotations/{split_by}", split_by, "")] if root else []
    for path in tried:
        if path.is_file():
            return path
    raise DatasetNotFoundError(
        f"data.root is {root!r}, and there is no {' nor '.join(map(str, tried)) or _FILE}. Get it from {FROM} and put "
        f"it there; data.splitBy names its folder ({', '.join(SETS)})"
    )


def _box_format(content: Mapping[str, Any], path: Path, split_by: str, asked: BoxFormat) -> str:
    """xywh or xyxy."""
    written = content.get(_SAYS_BOX, "")
    if written not in ("", "xywh", "xyxy"):
        raise DataError(f"{path}: {_SAYS_BOX!r} is xywh or xyxy, not {shown(written)}")
    if asked and written and asked != written:
        raise ConfigError(f"data.seqtr.box={asked}, and {path} says {written}; leave data.seqtr.box out")
    known_set = SETS.get(split_by)
    found = asked or written or (known_set.box if known_set else "")
    if not found:
        raise ConfigError(
            f"{path} does not say how its boxes are written, and data.splitBy={split_by!r} is no published set: set "
            "data.seqtr.box to xywh (corner, width, height: SeqTR) or xyxy (two corners: MSAM)"
        )
    return found


def _check_format(records: Sequence[Any], said: str, path: Path, split: str) -> None:
    """Raises DataError where the other format explains the boxes of a split and the chosen one does not."""
    wrong = {"xywh": 0, "xyxy": 0}
    seen = 0
    for record in records:
        if not isinstance(record, Mapping):
            continue
        numbers: list[Any] = [record.get("width"), record.get("height")]
        given = record.get("bbox")
        numbers += given if isinstance(given, list) else []
        if len(numbers) != 6 or not all(type(n) in (int, float) and abs(n) < 1e9 for n in numbers):
            continue
        width, height, left, top, third, fourth = numbers
        seen += 1
        wrong["xywh"] += left + third > width + 1 or top + fourth > height + 1
        wrong["xyxy"] += third <= left or fourth <= top or third > width + 1 or fourth > height + 1
    other = "xyxy" if said == "xywh" else "xywh"
    if wrong[said] > _MOST_WRONG * seen and wrong[other] <= _FEW_WRONG * seen:
        raise DataError(
            f"{path}: {wrong[said]} of {seen} boxes of {split} lie outside their image or are empty as {said}, and "
            f"{wrong[other]} as {other}; set data.seqtr.box={other}"
        )


class _Images:
    """Where the images of the records are.

    Attributes:
        base: the folder that messages name.
    """

    def __init__(
        self, file: Path, root: str, image_root: str, given: Mapping[str, str], source: str, reading: Reading
    ) -> None:
        unknown = next((name for name in given if _plain(name) not in _SOURCES), None)
        if unknown is not None:
            raise ConfigError(f"data.seqtr.image_roots.{unknown}: the sources are {', '.join(_SOURCES)}")
        usual = Path(root) / "images"
        self.base = Path(image_root) if image_root else usual if usual.is_dir() else file.parent
        self.source = source
        self._given = {_plain(name): Path(folder) for name, folder in given.items()}
        self._reading = reading
        self._places: dict[str, ImageNames] = {}
        self._own = ImageNames(self.base, reading)

    def named(self, name: object, where: str) -> tuple[str, str]:
        """(path, image id) of an image that a record names itself."""
        return self._own.path(name, where), plain_text(name, "the image's name", where)

    def numbered(self, record: Mapping[str, Any], where: str) -> tuple[str, str]:
        """(path, image id) of the image with a number; the source is the set's, or the record's own."""
        number = integer(record, "image_id", where)
        source = self.source
        if not source:
            require(record, ("data_source",), where)
            written = text(record, "data_source", where)
            source = "coco" if "coco" in written else _plain(written)
            if source not in _SOURCES:
                raise RecordError(f"{where}: 'data_source' is one of {', '.join(_SOURCES)}, not {shown(written)}")
        if number < 0:
            raise RecordError(f"{where}: 'image_id' is the number of an image, not {number}")
        place = self._place(source)
        paths = [place.path(name.format(number), where) for name in _SOURCES[source].names]
        path = next((path for path in paths if os.path.isfile(path)), paths[0])
        return path, str(number) if self.source else f"{source}:{number}"

    def _place(self, source: str) -> ImageNames:
        if source not in self._places:
            folders = [self.base / folder for folder in _SOURCES[source].folders]
            usual = self.base if self.source else folders[0]
            folder = self._given.get(source) or next((place for place in folders if place.is_dir()), usual)
            if not folder.is_dir():
                raise DatasetNotFoundError(
                    f"the images of {source} are missing: none of {', '.join(map(str, folders))} is a folder. Put them "
                    f"there, or set data.seqtr.image_roots.{source}"
                )
            self._places[source] = ImageNames(folder, self._reading)
        return self._places[source]


def _plain(source: str) -> str:
    return _ALIASES.get(source, source)


def _samples(
    record: Any, position: int, split: str, said: str, images: _Images, where: str, reading: Reading
) -> list[Sample]:
    """One sample an expression of one record."""
    require(record, ("bbox", "expressions"), where)
    size = optional_size(record.get("height"), record.get("width"), where)
    what = "'bbox' is [x, y, width, height]" if said == "xywh" else "'bbox' is [left, top, right, bottom]"
    left, top, third, fourth = four_numbers(record["bbox"], f"{what} in pixels", where)
    corners = np.asarray([left, top, third, fourth] if said == "xyxy" else [left, top, left + third, top + fourth])
    whole = corners
    if size is not None:
        corners = np.clip(corners, 0, np.asarray([size[1] - 1, size[0] - 1] * 2))
    if corners[2] <= corners[0] or corners[3] <= corners[1]:
        raise RecordError(
            f"{where}: the box {shown(record['bbox'])} ({said}) has no area inside the image; correct or remove it",
            "box_empty",
        )
    if np.abs(whole - corners).max() > 2:
        reading.note("boxes reach beyond their image and are cut at its border", where, "box_clipped")
    if record.get("image") is not None:
        path, image = images.named(record["image"], where)
    else:
        require(record, ("image_id",), where)
        path, image = images.numbered(record, where)
    expressions = listing(record, "expressions", where)
    if not expressions:
        raise RecordError(f"{where}: 'expressions' is a list of at least one text, and empty")
    outline = clean_segmentation(record.get("mask"), where, size, reading)
    label = integer(record, "category_id", where) if record.get("category_id") is not None else 0
    return [
        Sample(
            image_path=path,
            sample_id=f"{position}-{number}" if len(expressions) > 1 else str(position),
            image_id=image,
            expression=plain_text(expression, "an expression", where),
            boxes_xyxy=corners[None].astype(np.float32),
            segmentations=(outline,),
            labels=np.asarray([label], np.int64),
            size=size,
            object_ids=(f"{split}:{position}",),
            split=split,
        )
        for number, expression in enumerate(expressions)
    ]


FORMATS = (
    DatasetFormat(
        NAME,
        read_seqtr,
        splits={name: known.splits for name, known in SETS.items()},
        takes=("split_by", "image_root"),
        section="seqtr",
        # RefCOCOg as Google divides it: by object.
        shared={"refcocog-google": ("images",)},
    ),
)
