"""Our open format: JSON lines, one record per object with its sentences (docs/data.md).

A split is `<root>/<split>.jsonl`, or the records of one file whose `split` says so. A file
`dataset.json` beside it may name the categories and the folder of the images.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.fields import (
    Reading,
    RecordError,
    clean_segmentation,
    four_numbers,
    guarded,
    identity,
    integer,
    mapping,
    optional_size,
    plain_text,
    require,
    text,
)
from mindground.data.formats.files import parse_json, read_json
from mindground.data.formats.image_names import ImageNames
from mindground.data.formats.registry import DatasetFormat
from mindground.errors import DataError, DatasetNotFoundError, shown
from mindground.files.atomic import write_bytes
from mindground.structures import IgnoredRegion, Sample, outline_box

__all__ = [
    "FORMATS",
    "read_jsonl",
    "relative_to",
    "samples_to_records",
    "write_dataset",
    "write_description",
    "write_jsonl",
]

OBJECT_KEYS = ("box", "mask", "category", "object_id")
RECORD_KEYS = ("image", "size", "sentence", "sentences", "objects", "image_id", "id", "split", "meta", *OBJECT_KEYS)


@guarded
def read_jsonl(root: str, split: str, image_root: str = "", *, problems: list[str] | None = None) -> Dataset:
    """Read one split of a JSON-lines set.

    Args:
        root: a folder with `<split>.jsonl` (or `all.jsonl` whose records name their split), or one such file.
        split: records that name another split are left out; records that name none belong to the file's.
        image_root: folder that `image` is relative to; empty = the one in `dataset.json`, else the file's folder.
        problems: gets one line a record that cannot be used, which is then left out; None = it raises DataError.

    Raises:
        DatasetNotFoundError, DataError: with file and line number; also where some samples have a sentence and others
            have none.
    """
    path = _find(root, split)
    name, folder, categories = _description(path.parent)
    reading, labels = Reading(problems), _Labels(categories)
    images = ImageNames(Path(image_root) if image_root else (path.parent / folder).resolve(), reading)
    own_split = "" if path.stem == "all" or path == Path(root) else path.stem
    samples: list[Sample] = []
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            where = f"{path} line {line}"
            if not raw.strip():
                continue
            with reading.record(where):
                record = _record(raw, where)
                if record.get("split", own_split or split) == split:
                    samples += _Record(record, where, line, images, labels, reading).samples(split)
    reading.tell(str(path))
    return Dataset(samples, labels.names(), name, split, kind=_kind(samples, path))


def _kind(samples: Sequence[Sample], path: Path) -> str:
    """What all samples of a split ask; of an empty one, `referring`."""
    asking = next((sample for sample in samples if sample.expression is not None), None)
    silent = next((sample for sample in samples if sample.expression is None), None)
    if asking is not None and silent is not None:
        raise DataError(
            f"{path}: sample {asking.sample_id!r} has a sentence and sample {silent.sample_id!r} has none, so one asks "
            "for an object and the other for every instance; put them into splits of their own"
        )
    return "referring" if silent is None else "instances"


def _find(root: str, split: str) -> Path:
    place = Path(root) if root else None
    if place is not None and place.is_file():
        return place
    candidates = [place / f"{split}.jsonl", place / "all.jsonl"] if place is not None else []
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = sorted(found.name for found in place.glob("*.jsonl")) if place is not None and place.is_dir() else []
    has = f"; it holds {', '.join(known)}" if known else ""
    raise DatasetNotFoundError(
        f"data.root is {root!r}, and there is no {split}.jsonl (nor all.jsonl) in it{has}. Put your records there, "
        "one JSON object per line as docs/data.md describes, or make them with tools/make_referring.py"
    )


class _Labels:
    """Numbers of the categories: those of `dataset.json`, then the next free one for every new name."""

    def __init__(self, categories: Mapping[int, str]) -> None:
        self._numbers = {name: number for number, name in categories.items()}
        self._last = max(self._numbers.values(), default=0)

    def number(self, name: str) -> int:
        if name not in self._numbers:
            self._last += 1
            self._numbers[name] = self._last
        return self._numbers[name]

    def names(self) -> dict[int, str]:
        return {number: name for name, number in self._numbers.items()}


def _description(folder: Path) -> tuple[str, str, dict[int, str]]:
    """Name of the set, folder of its images, its categories: what `dataset.json` says, where it is."""
    path = folder / "dataset.json"
    described = read_json(path) if path.is_file() else {}
    require(described, (), str(path))
    where = f"{path}: categories"
    given = mapping(described, "categories", str(path))
    categories = {integer({"an id": key}, "an id", where): plain_text(given[key], "a name", where) for key in given}
    return (
        text(described, "name", str(path)) if "name" in described else folder.name,
        text(described, "image_root", str(path)) if "image_root" in described else ".",
        categories,
    )


def _record(raw: bytes, where: str) -> Mapping[str, Any]:
    record = parse_json(raw, where)
    require(record, ("image",), where)
    for key in record:
        if key not in RECORD_KEYS:
            near = difflib.get_close_matches(key[:40], RECORD_KEYS, 1)
            hint = f"did you mean {near[0]!r}" if near else "put what is only yours under 'meta'"
            raise RecordError(f"{where} has the unknown key {shown(key)}; {hint}")
    return record


class _Record:
    """One line of the file, on its way to samples."""

    def __init__(
        self,
        record: Mapping[str, Any],
        where: str,
        line: int,
        images: ImageNames,
        labels: _Labels,
        reading: Reading,
    ) -> None:
        self.record, self.where, self.line = record, where, line
        self.images, self.labels, self.reading = images, labels, reading
        size = record.get("size")
        if size is not None and (not isinstance(size, list) or len(size) != 2 or None in size):
            raise RecordError(f"{where}: 'size' is [height, width] in pixels, not {shown(size)}")
        self.size = None if size is None else optional_size(size[0], size[1], f"{where}: 'size'")
        self.identity = self._id(record, "id", str(line))

    def samples(self, split: str) -> list[Sample]:
        """One sample a sentence, or one without a sentence."""
        record = self.record
        boxes, outlines, labels, names, ignored = [], [], [], [], []
        for position, item in enumerate(self._objects()):
            where = f"{self.where} object {position}" if "objects" in record else self.where
            require(item, (), where)
            outline = clean_segmentation(item.get("mask"), where, self.size, self.reading)
            box, label = _box(item.get("box"), outline, where), self._label(item, where)
            if _flag(item.get("ignored"), where):
                ignored.append(IgnoredRegion(np.asarray(box, np.float32), outline, label))
                continue
            boxes.append(box)
            outlines.append(outline)
            labels.append(label)
            names.append(self._id(item, "object_id", f"{self.identity}.{position}"))
        image = self.images.path(record["image"], self.where)
        sentences = self._sentences()
        return [
            Sample(
                image_path=image,
                sample_id=self.identity if len(sentences) == 1 else f"{self.identity}_{position}",
                image_id=self._id(record, "image_id", str(record["image"])),
                expression=sentence,
                boxes_xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
                segmentations=tuple(outlines),
                labels=np.asarray(labels, np.int64),
                size=self.size,
                object_ids=tuple(names),
                split=split,
                ignored=tuple(ignored),
            )
            for position, sentence in enumerate(sentences)
        ]

    def _id(self, record: Mapping[str, Any], key: str, otherwise: str) -> str:
        return otherwise if record.get(key) is None else str(identity(record, key, self.where))

    def _objects(self) -> list[Any]:
        objects = self.record.get("objects")
        if objects is None:
            has = any(self.record.get(key) is not None for key in ("box", "mask"))
            return [self.record] if has else []
        if not isinstance(objects, list):
            raise RecordError(f"{self.where}: 'objects' must be a list, not {shown(objects)}")
        return objects

    def _label(self, item: Mapping[str, Any], where: str) -> int:
        category = item.get("category")
        if category is None:
            return 0
        # A number as a name is taken for its digits.
        named = category if isinstance(category, str) else str(identity(item, "category", where))
        return self.labels.number(plain_text(named, "'category'", where))

    def _sentences(self) -> list[str | None]:
        given = self.record.get("sentences", [self.record.get("sentence")])
        if not isinstance(given, list) or not given or not all(item is None or isinstance(item, str) for item in given):
            raise RecordError(
                f"{self.where}: 'sentence' must be text and 'sentences' a list of texts that is not empty, "
                f"not {shown(given)}"
            )
        return [None if item is None else plain_text(item, "the sentence", self.where) for item in given]


def _flag(value: Any, where: str) -> bool:
    if value is None or isinstance(value, (bool, int)):
        return bool(value)
    raise RecordError(f"{where}: 'ignored' is true or false, not {shown(value)}")


def _box(box: Any, outline: Any, where: str) -> list[float]:
    if box is not None:
        return four_numbers(box, "'box' is [left, top, right, bottom] in pixels", where)
    around = outline_box(outline)
    if around is None:
        raise RecordError(
            f"{where}: an object needs a 'box' [left, top, right, bottom] or a 'mask' that encloses pixels"
        )
    return around


def samples_to_records(
    samples: Iterable[Sample], categories: Mapping[int, str], image_root: Path | None = None
) -> list[dict[str, Any]]:
    """Turn samples into records, one per sample. Paths below `image_root` become relative to it."""
    records = []
    for sample in samples:
        image = Path(sample.image_path)
        if image_root is not None and image.is_relative_to(image_root):
            image = image.relative_to(image_root)
        record: dict[str, Any] = {"id": sample.sample_id, "image": image.as_posix(), "image_id": sample.image_id}
        if sample.size is not None:
            record["size"] = [int(n) for n in sample.size]
        if sample.expression is not None:
            record["sentence"] = sample.expression
        items = []
        outlines = sample.outlines()
        for position, box in enumerate(sample.boxes_xyxy):
            item = _item(box, outlines[position], int(sample.labels[position]), categories)
            if position < len(sample.object_ids):
                item["object_id"] = sample.object_ids[position]
            items.append(item)
        items += [
            {**_item(region.box_xyxy, region.segmentation, region.label, categories), "ignored": True}
            for region in sample.ignored
        ]
        if sample.expression is not None and len(items) == 1 and not sample.ignored:
            record.update(items[0])
        else:
            record["objects"] = items
        if sample.split:
            record["split"] = sample.split
        records.append(record)
    return records


def _item(box: np.ndarray, outline: Any, label: int, categories: Mapping[int, str]) -> dict[str, Any]:
    # A float32 has at most nine significant digits; fewer would not read back as the same box.
    item: dict[str, Any] = {"box": [float(f"{value:.9g}") for value in box]}
    if outline is not None:
        item["mask"] = outline
    if label in categories:
        item["category"] = categories[label]
    return item


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records atomically, one per line, keys in the order given."""
    lines = [json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False) for record in records]
    write_bytes(path, "".join(line + "\n" for line in lines).encode())


def write_description(folder: Path, name: str, categories: Mapping[int, str], image_root: str) -> None:
    """Write `dataset.json`: the set's name, its categories, and its image folder as seen from `folder`."""
    content = {"name": name, "image_root": image_root, "categories": {str(key): categories[key] for key in categories}}
    write_bytes(folder / "dataset.json", (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def write_dataset(folder: Path, datasets: Sequence[Dataset]) -> None:
    """Write splits of any format as `<split>.jsonl` with one `dataset.json`; the images stay where they are.

    Args:
        folder: to write to; files of these splits are replaced.
        datasets: splits of one data set, read by `build_dataset`.

    Raises:
        DataError: the splits number their categories differently, or the disk is full.
    """
    if any(dict(dataset.categories) != dict(datasets[0].categories) for dataset in datasets):
        raise DataError("the splits number their categories differently; write each to a folder of its own")
    parents = {str(Path(sample.image_path).resolve().parent) for dataset in datasets for sample in dataset}
    if not parents:
        raise DataError("there is no sample to write; name another split")
    images = Path(os.path.commonpath(parents))
    for dataset in datasets:
        samples = [replace(sample, image_path=str(Path(sample.image_path).resolve())) for sample in dataset]
        records = samples_to_records(samples, dataset.categories, images)
        # The file says which split it is; a list's own name (testAB, train_pseudo) would not be the one asked for.
        write_jsonl(folder / f"{dataset.split.replace('/', '_')}.jsonl", [_without_split(record) for record in records])
    write_description(folder, datasets[0].name, datasets[0].categories, relative_to(images, folder))


def _without_split(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "split"}


def relative_to(target: Path, start: Path) -> str:
    """`target` as seen from `start`, with `/` between the parts; absolute where they share no drive."""
    target, start = target.resolve(), start.resolve()
    try:
        return Path(os.path.relpath(target, start)).as_posix()
    except ValueError:  # another drive on Windows
        return target.as_posix()


FORMATS = (DatasetFormat("jsonl", read_jsonl, kinds=("referring", "instances")),)
