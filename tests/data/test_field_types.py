"""Null, text, numbers and lists where something else belongs: one sentence with file and record, in every reader."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.config import DataConfig
from mindground.data import Dataset, inspect_dataset
from mindground.data.formats.coco import read_coco
from mindground.data.formats.jsonl import read_jsonl
from mindground.data.formats.refer import read_refer
from mindground.errors import DataError

WRONG = [
    *(None, True, -1, 0, 1e308, float("nan"), float("inf"), 2**64, 10**30, "", "a", "\0", "\ud800", "x" * 300, "1"),
    *([], [[]], {}, [None], {"a": 1}, "NaN", 1.5, [1, 2], [1, 2, 3, 4], ["a", "b", "c", "d"], [[1, 2], [3, 4]]),
    *({"size": [20, 30], "counts": "0"}, [0, 30], "../up", "\u202e<script>"),
]
OUTLINE = [[1, 1, 9, 1, 9, 8]]
RLE = {"size": [20, 30], "counts": [100, 20, 480]}

INSTANCES: dict[str, Any] = {
    "images": [{"id": n, "file_name": f"{n}.png", "height": 20, "width": 30} for n in (1, 2)],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 8, 7], "segmentation": OUTLINE, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 1, "bbox": [1, 1, 8, 7], "segmentation": RLE, "iscrowd": 0},
    ],
    "categories": [{"id": 1, "name": "ship"}],
}
REFS: list[Any] = [
    {
        "ref_id": n,
        "ann_id": n,
        "image_id": n,
        "category_id": 1,
        "split": "train",
        "sentences": [{"sent_id": n, "sent": "the ship", "tokens": ["the", "ship"]}],
    }
    for n in (1, 2)
]
ITEM = {
    **{"bbox": [1, 1, 8, 7], "phrase": "the ship", "ref_id": 1, "image_id": 1, "category_id": 1, "sent_id": 1},
    **{"ann_id": 1, "size": [20, 30], "segmentation": OUTLINE},
}
CACHE: dict[str, Any] = {
    "items": {"train": [ITEM, {**ITEM, "ref_id": 2, "image_id": 2}]},
    "index": {"category": {"1": "ship"}, "image": {"1": "1.png", "2": "2.png"}},
}
RECORD = {
    **{"image": "1.png", "size": [20, 30], "sentences": ["the ship"], "box": [1, 1, 9, 8], "mask": OUTLINE, "id": "a"},
    **{"category": "ship", "object_id": "o", "image_id": "1", "split": "train"},
}
OBJECTS = {"image": "2.png", "sentence": "it", "objects": [{"box": [1, 1, 9, 8], "mask": RLE, "ignored": False}]}
DESCRIPTION = {"name": "mine", "image_root": ".", "categories": {"1": "ship"}}


def _put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        if content or not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _json(tree: Any) -> bytes:
    return json.dumps(tree).encode()


def _coco(folder: Path, tree: Any, **more: Any) -> Dataset:
    _put(folder, {"train.json": _json(tree), "images/1.png": b"", "images/2.png": b""})
    return read_coco(str(folder), "train", **more)


def _refer(folder: Path, refs: Any, instances: Any, **more: Any) -> Dataset:
    files = {"refcoco/refs(unc).p": pickle.dumps(refs, 2), "refcoco/instances.json": _json(instances)}
    _put(folder, {**files, "images/1.png": b"", "images/2.png": b""})
    return read_refer(str(folder), "refcoco", "unc", "train", **more)


def _cache(folder: Path, tree: Any, **more: Any) -> Dataset:
    _put(folder, {"refcoco/refcoco(unc).json": _json(tree), "images/1.png": b"", "images/2.png": b""})
    return read_refer(str(folder), "refcoco", "unc", "train", **more)


def _jsonl(folder: Path, tree: Any, **more: Any) -> Dataset:
    _put(folder, {"train.jsonl": b"\n".join(map(_json, tree)) + b"\n"})
    return read_jsonl(str(folder), "train", **more)


def _described(folder: Path, tree: Any, **more: Any) -> Dataset:
    _put(folder, {"train.jsonl": _json(RECORD), "dataset.json": _json(tree)})
    return read_jsonl(str(folder), "train", **more)


READERS: dict[str, tuple[Callable[..., Dataset], Any]] = {
    "coco": (_coco, INSTANCES),
    "refs": (lambda folder, tree, **more: _refer(folder, tree, INSTANCES, **more), REFS),
    "instances": (lambda folder, tree, **more: _refer(folder, REFS, tree, **more), INSTANCES),
    "cache": (_cache, CACHE),
    "jsonl": (_jsonl, [RECORD, OBJECTS]),
    "dataset.json": (_described, DESCRIPTION),
}


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a tree."""
    yield path
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield from _places(value, (*path, key))


def _changed(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    tree = copy.deepcopy(tree)
    place = tree
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return tree


def _use(dataset: Dataset) -> None:
    for sample in dataset:
        sample.sample_id.encode(), sample.image_path.encode(), (sample.expression or "").encode()
        assert np.isfinite(sample.boxes_xyxy).all()
        if sample.has_masks:
            sample.masks(sample.size or (20, 30))


@pytest.mark.parametrize("reader", sorted(READERS))
def test_every_field_of_every_reader(tmp_path: Path, reader: str) -> None:
    """Whatever stands at whatever place: it is read, and can be used, or it is one sentence."""
    read, tree = READERS[reader]
    _use(read(tmp_path, tree))
    refused = 0
    for path in _places(tree):
        for value in WRONG:
            try:
                changed = _changed(tree, path, value)
                if reader == "jsonl" and not isinstance(changed, list):
                    continue
                _use(read(tmp_path, changed))
            except DataError as error:
                refused += 1
                said = str(error)
                assert "\n" not in said and len(said) < 900 and said.isprintable(), (path, value, said)
                assert str(tmp_path) in said or path == (), (path, value, said)
                said.encode()
    assert refused > 5 * len(list(_places(tree)))


@pytest.mark.parametrize(
    ("reader", "path", "named"),
    [
        ("coco", ("annotations", 1, "bbox"), "annotation 1"),
        ("coco", ("images", 1, "file_name"), "image 1"),
        ("refs", (1, "sentences"), "reference 2 of"),
        ("refs", (1, "split"), "reference 2 of"),
        ("instances", ("annotations", 1, "bbox"), "annotation 2 of"),
        ("cache", ("items", "train", 1, "phrase"), "item 1 of train"),
        ("jsonl", (1, "objects"), "line 2"),
        ("jsonl", (0, "box"), "line 1"),
    ],
)
def test_problems_are_collected_and_the_rest_is_read(
    tmp_path: Path, reader: str, path: tuple[Any, ...], named: str
) -> None:
    read, tree = READERS[reader]
    broken = _changed(tree, path, 5)
    with pytest.raises(DataError, match=named):
        read(tmp_path, broken)
    problems: list[str] = []
    dataset = read(tmp_path, broken, problems=problems)
    assert named in problems[0] and all("\n" not in line for line in problems)
    assert 1 <= len(dataset) <= 2
    clean: list[str] = []
    assert len(read(tmp_path, tree, problems=clean)) == 2 and clean == []


def test_the_data_check_tells_all_of_them(tmp_path: Path) -> None:
    records = [{**RECORD, "id": n} for n in range(6)]
    records[1]["box"], records[3]["sentences"], records[4]["mask"] = "31 px", [None, 5], [[0, 0, 1e9, 0, 1, 1]]
    _put(tmp_path, {"train.jsonl": b"\n".join(map(_json, records)) + b"\n{"})
    inspection = inspect_dataset(DataConfig(dataset="jsonl", root=str(tmp_path)), ["train"])
    assert [sample.sample_id for sample in inspection.datasets[0]] == ["0", "2", "5"]
    kinds = [(defect.kind, defect.subject.rsplit("line ", 1)[1], defect.serious) for defect in inspection.defects]
    assert kinds == [
        *[("record_format", "2", True), ("record_format", "4", True)],
        *[("mask_format", "5", True), ("record_format", "7", True)],
    ]


def test_a_sentence_without_a_box_is_found_before_a_training(tmp_path: Path) -> None:
    dataset = _jsonl(tmp_path, [RECORD, {"image": "2.png", "sentence": "it", "id": "alone"}])
    with pytest.raises(DataError, match="'alone'.* has a sentence and no box"):
        dataset.require_referents()
    _jsonl(tmp_path, [RECORD]).require_referents()
    _coco(tmp_path, {**INSTANCES, "annotations": []}).require_referents()


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100000, '{"a":' * 100000, "", "\x00", "{", "nul"])
def test_json_that_is_none(tmp_path: Path, text: str) -> None:
    for name in ("train.json", "train.jsonl", "dataset.json", "refcoco/instances.json", "refcoco/refcoco(unc).json"):
        folder = tmp_path / name.replace("/", "-")
        _refer(folder, REFS, INSTANCES)
        _coco(folder, INSTANCES)
        _jsonl(folder, [RECORD])
        if "unc" in name:
            (folder / "refcoco" / "refs(unc).p").unlink()
        (folder / name).write_text('{"image": "a", "id": ' + text if name == "train.jsonl" and text else text)
        read: Callable[[], Any] = {
            "train.json": lambda folder=folder: read_coco(str(folder), "train"),
            "train.jsonl": lambda folder=folder: read_jsonl(str(folder), "train"),
            "dataset.json": lambda folder=folder: read_jsonl(str(folder), "train"),
        }.get(name, lambda folder=folder: read_refer(str(folder), "refcoco", "unc", "train"))
        if name == "train.jsonl" and not text:
            assert len(read()) == 0
            continue
        with pytest.raises(DataError) as error:
            read()
        assert "\n" not in str(error.value) and str(folder) in str(error.value)
