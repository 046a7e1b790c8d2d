"""Our open format: JSON lines, one record per object with its sentences (docs/data.md).

A split is `<root>/<split>.jsonl`, or the records of one file whose `split` says so. A file
`dataset.json` beside it may name the categories and the folder of the images.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mindground.data.dataset import Dataset
from mindground.data.formats.files import clean_segmentation, read_json, require, segmentation_box
from mindground.data.formats.registry import DatasetFormat
from mindground.errors import DataError, DatasetNotFoundError
from mindground.files.atomic import write_bytes
from mindground.structures import IgnoredRegion, Sample

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


def read_jsonl(root: str, split: str, image_root: str = "") -> Dataset:
    """Read one split of a JSON-lines set.

    Args:
        root: a folder with `<split>.jsonl` (or `all.jsonl` whose records name their split), or one such file.
        split: records that name another split are left out; records that name none belong to the file's.
        image_root: folder that `image` is relative to; empty = the one in `dataset.json`, else the file's folder.

    Raises:
        DatasetNotFoundError, DataError: with file and line number; also where some samples have a sentence and others
            have none.
    """
    path = _find(root, split)
    described = _description(path.parent)
    base = Path(image_root) if image_root else (path.parent / str(described.get("image_root", "."))).resolve()
    categories = {int(key): str(name) for key, name in dict(described.get("categories", {})).items()}
    ids = {name: key for key, name in categories.items()}
    own_split = "" if path.stem == "all" or path == Path(root) else path.stem
    samples: list[Sample] = []
    for line, record in _records(path):
        if record.get("split", own_split or split) != split:
            continue
        samples.extend(_samples(record, f"{path} line {line}", line, base, split, ids))
    names = {number: name for name, number in ids.items()}
    name = str(described.get("name", path.parent.name))
    return Dataset(samples, names, name, split, kind=_kind(samples, path))


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


def _description(folder: Path) -> Mapping[str, Any]:
    path = folder / "dataset.json"
    described = read_json(path) if path.is_file() else {}
    if not isinstance(described, Mapping) or not isinstance(described.get("categories", {}), Mapping):
        raise DataError(f"{path} must be an object, its 'categories' an object of id -> name")
    return described


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                record = json.loads(raw.decode("utf-8-sig"))
            except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
                raise DataError(f"{path} line {line} is not JSON ({error}); the file may be cut short") from error
            require(record, ("image",), f"{path} line {line}")
            for key in record:
                if key not in RECORD_KEYS:
                    near = difflib.get_close_matches(key, RECORD_KEYS, 1)
                    hint = f"did you mean {near[0]!r}" if near else "put what is only yours under 'meta'"
                    raise DataError(f"{path} line {line} has the unknown key {key!r}; {hint}")
            yield line, record


def _samples(
    record: Mapping[str, Any], where: str, line: int, base: Path, split: str, ids: dict[str, int]
) -> Iterator[Sample]:
    objects = record.get("objects")
    if objects is None:
        objects = [record] if any(record.get(key) is not None for key in ("box", "mask")) else []
    if not isinstance(objects, list):
        raise DataError(f"{where}: 'objects' must be a list")
    boxes, outlines, labels, names, ignored = [], [], [], [], []
    for position, item in enumerate(objects):
        require(item, (), f"{where} object {position}")
        outline = clean_segmentation(item.get("mask"), where)
        box, category = _box(item.get("box"), outline, where), item.get("category")
        label = 0 if category is None else ids.setdefault(str(category), max(ids.values(), default=0) + 1)
        if item.get("ignored"):
            ignored.append(IgnoredRegion(np.asarray(box, np.float32), outline, label))
            continue
        boxes.append(box)
        outlines.append(outline)
        labels.append(label)
        names.append(str(item.get("object_id", f"{record.get('id', line)}.{position}")))
    identity = str(record.get("id", line))
    sentences = _sentences(record, where)
    for position, sentence in enumerate(sentences):
        yield Sample(
            image_path=str(base / str(record["image"]).replace("\\", "/")),
            sample_id=identity if len(sentences) == 1 else f"{identity}_{position}",
            image_id=str(record.get("image_id", record["image"])),
            expression=sentence,
            boxes_xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
            segmentations=tuple(outlines),
            labels=np.asarray(labels, np.int64),
            size=_size(record.get("size"), where),
            object_ids=tuple(names),
            split=split,
            ignored=tuple(ignored),
        )


def _sentences(record: Mapping[str, Any], where: str) -> list[str | None]:
    given = record.get("sentences", [record.get("sentence")])
    if not isinstance(given, list) or not given or not all(item is None or isinstance(item, str) for item in given):
        raise DataError(f"{where}: 'sentence' must be text and 'sentences' a list of texts that is not empty")
    return given


def _size(size: Any, where: str) -> tuple[int, int] | None:
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
        raise DataError(f"{where}: 'size' is [height, width] in pixels, not {size!r}")
    return size[0], size[1]


def _box(box: Any, outline: Any, where: str) -> list[float]:
    if box is None:
        around = segmentation_box(outline)
        if around is None:
            raise DataError(f"{where}: an object needs a 'box' [left, top, right, bottom] or a 'mask'")
        return around
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(n, (int, float)) for n in box):
        raise DataError(f"{where}: 'box' is [left, top, right, bottom] in pixels, not {box!r}")
    return [float(value) for value in box]


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
        for position, box in enumerate(sample.boxes_xyxy):
            item = _item(box, sample.segmentations[position], int(sample.labels[position]), categories)
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
