"""Our JSON-lines format: what may stand in a record, round trip, errors with line numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.config import DataConfig
from mindground.data import Dataset, build_dataset
from mindground.data.formats.jsonl import read_jsonl, samples_to_records, write_description, write_jsonl
from mindground.errors import DataError, DatasetNotFoundError
from mindground.structures import Sample

FIRST = {
    "image": "sub/a.png",
    "size": [20, 30],
    "sentences": ["the ship", "ein Schiff 船 🚢"],
    "box": [1.5, 2, 11.5, 12],
    "mask": [[1.5, 2, 11.5, 2, 11.5, 12]],
    "category": "ship",
    "object_id": "o1",
}


def _write(folder: Path, *records: dict[str, Any], name: str = "train") -> Path:
    write_jsonl(folder / f"{name}.jsonl", records)
    return folder


def test_one_sample_a_sentence_with_shared_object(tmp_path: Path) -> None:
    dataset = build_dataset(DataConfig(dataset="jsonl", root=str(_write(tmp_path, FIRST))), "train")
    assert dataset.sentences() == FIRST["sentences"]
    assert len({s.sample_id for s in dataset}) == 2 and {s.object_ids for s in dataset} == {("o1",)}
    sample = dataset[0]
    assert Path(sample.image_path) == tmp_path / "sub" / "a.png" and sample.size == (20, 30)
    assert sample.boxes_xyxy.tolist() == [[1.5, 2.0, 11.5, 12.0]] and sample.has_masks
    assert dataset.categories == {1: "ship"} and sample.labels.tolist() == [1]


def test_box_comes_from_the_mask_where_it_is_missing(tmp_path: Path) -> None:
    plain = {"image": "a.png", "sentence": "x", "mask": FIRST["mask"]}
    rle = {"image": "b.png", "sentence": "x", "mask": {"size": [4, 6], "counts": [5, 2, 17]}}
    dataset = read_jsonl(str(_write(tmp_path, plain, rle)), "train")
    assert dataset[0].boxes_xyxy.tolist() == [[1.5, 2.0, 11.5, 12.0]]
    # Column-major: pixels 5 and 6 are rows 1 and 2 of column 1.
    assert dataset[1].boxes_xyxy.tolist() == [[1.0, 1.0, 2.0, 3.0]]


def test_instances_have_no_sentence_and_any_number_of_objects(tmp_path: Path) -> None:
    objects = [{"box": [0, 0, 4, 4], "category": "a"}, {"box": [1, 1, 3, 3], "category": "b"}]
    dataset = read_jsonl(str(_write(tmp_path, {"image": "a", "objects": objects}, {"image": "b"})), "train")
    assert dataset.kind == "instances" and [s.expression for s in dataset] == [None, None]
    assert [len(s.boxes_xyxy) for s in dataset] == [2, 0]
    assert dataset[0].labels.tolist() == [1, 2]


def test_ignored_regions_are_no_objects_and_survive_a_round_trip(tmp_path: Path) -> None:
    crowd = {"box": [2, 2, 9, 9], "mask": FIRST["mask"], "category": "b", "ignored": True}
    objects = [{"box": [0, 0, 4, 4], "category": "a"}, crowd, {"box": [1, 1, 3, 3], "category": "b"}]
    first = read_jsonl(str(_write(tmp_path, {"image": "a", "objects": objects})), "train")
    write_jsonl(tmp_path / "again" / "train.jsonl", samples_to_records(first, first.categories, tmp_path))
    write_description(tmp_path / "again", "again", first.categories, "..")
    for dataset in (first, read_jsonl(str(tmp_path / "again"), "train")):
        sample = dataset[0]
        assert sample.boxes_xyxy.tolist() == [[0, 0, 4, 4], [1, 1, 3, 3]] and sample.labels.tolist() == [1, 2]
        (region,) = sample.ignored
        assert region.box_xyxy.tolist() == [2, 2, 9, 9] and region.label == 2 and region.segmentation == FIRST["mask"]


def test_splits_in_one_file_and_description(tmp_path: Path) -> None:
    records = [{**FIRST, "split": name, "id": name} for name in ("train", "val", "val2")]
    write_jsonl(tmp_path / "all.jsonl", records)
    write_description(tmp_path, "mine", {7: "ship"}, "../photos")
    dataset = read_jsonl(str(tmp_path), "val")
    assert [s.sample_id for s in dataset] == ["val_0", "val_1"] and dataset.name == "mine"
    assert dataset[0].labels.tolist() == [7]
    assert Path(dataset[0].image_path) == tmp_path.parent / "photos" / "sub" / "a.png"
    assert Path(read_jsonl(str(tmp_path), "val", "/else").samples[0].image_path) == Path("/else/sub/a.png")


OBJECTS = {"image": "b", "objects": [{"box": [0.1, 0.2, 3.3, 4.7], "category": "ship"}, {"box": [1, 1, 3, 3]}]}
# `str.splitlines` breaks a line at every one of these, and JSON leaves them as they are.
BREAKS = "the\u2028red\u2029ship\x85at\x0bthe\x0cpier"


@pytest.mark.parametrize("records", [[FIRST, {**OBJECTS, "sentence": BREAKS}], [OBJECTS, {"image": "c"}]])
def test_what_is_written_reads_back_the_same(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    first = read_jsonl(str(_write(tmp_path, *records)), "train")
    write_jsonl(tmp_path / "again" / "train.jsonl", samples_to_records(first, first.categories, tmp_path))
    second = read_jsonl(str(tmp_path / "again"), "train", str(tmp_path))
    assert len(second) == len(first) >= 2 and second.kind == first.kind
    for a, b in zip(first, second, strict=True):
        assert (a.expression, a.image_path, a.size, a.sample_id) == (b.expression, b.image_path, b.size, b.sample_id)
        assert np.array_equal(a.boxes_xyxy, b.boxes_xyxy) and a.segmentations == b.segmentations
        assert np.array_equal(a.labels, b.labels) and a.object_ids == b.object_ids
    assert [sample.expression for sample in second if sample.expression and "\u2028" in sample.expression] == (
        [BREAKS] if first.kind == "referring" else []
    )


@pytest.mark.parametrize("first", [0, 1])
def test_all_samples_ask_the_same(tmp_path: Path, first: int) -> None:
    asking, silent = {"image": "a", "sentence": "it", "id": "asks"}, {"image": "b", "id": "asks-not"}
    records = [[asking, asking, silent], [silent, silent, asking]][first]
    with pytest.raises(DataError, match="'asks' has a sentence and sample 'asks-not' has none"):
        read_jsonl(str(_write(tmp_path, *records)), "train")
    assert read_jsonl(str(_write(tmp_path, asking)), "train").kind == "referring"
    assert read_jsonl(str(_write(tmp_path, silent)), "train").kind == "instances"
    with pytest.raises(DataError, match="'other'.* holds no sample"):
        write_jsonl(tmp_path / "other.jsonl", [])
        build_dataset(DataConfig(dataset="jsonl", root=str(tmp_path)), "other")


def test_a_data_set_refuses_samples_of_another_kind() -> None:
    whole = Sample("a.png", "whole", "a")
    with pytest.raises(DataError, match="kind referring, and its sample 'whole' has no sentence"):
        Dataset([whole], name="x", split="train")
    with pytest.raises(DataError, match="kind instances, and its sample 'whole' has the sentence 'it'"):
        Dataset([replace(whole, expression="it")], kind="instances")
    with pytest.raises(DataError, match="'detection'"):
        Dataset([], kind="detection")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "a", "box": [1,2,3]}', r"line 2: 'box' is \[left"),
        ('{"image": "a", "box": "1,2,3,4"}', "line 2: 'box'"),
        ('{"image": "a", "objects": [{}]}', "line 2 object 0: an object needs a 'box'"),
        ('{"image": "a", "sentence": 5}', "line 2: 'sentence' must be text"),
        ('{"image": "a", "sentences": []}', "line 2: 'sentence' must be text"),
        ('{"image": "a", "size": [0, 5]}', "line 2: 'size'"),
        ('{"image": "a", "sentense": "x"}', "unknown key 'sentense'; did you mean 'sentence'"),
        ('{"sentence": "x"}', "line 2 lacks 'image'"),
        ('{"image": "a", "mask": "zzz"}', "line 2: a mask is"),
        ('{"image": "a", "mask": {"size": [1, 1]}}', "lacks 'counts'"),
        ('{"image": "a", "box', "line 2 is not valid JSON"),
        ("[1, 2]", "line 2 must be an object"),
        ("[" * 100000, "line 2 is not valid JSON"),
    ],
)
def test_wrong_records_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(FIRST) + "\n" + line + "\n")
    with pytest.raises(DataError, match=message):
        read_jsonl(str(tmp_path), "train")


def test_missing_set_says_what_goes_where(tmp_path: Path) -> None:
    _write(tmp_path, FIRST, name="val")
    with pytest.raises(DatasetNotFoundError, match=r"no train\.jsonl .*it holds val\.jsonl.*docs/data\.md"):
        read_jsonl(str(tmp_path), "train")
    with pytest.raises(DatasetNotFoundError, match="data.root is ''"):
        read_jsonl("", "train")
    with pytest.raises(DataError, match="'other'.* holds no sample"):
        write_jsonl(tmp_path / "other.jsonl", [{**FIRST, "split": "train"}])
        build_dataset(DataConfig(dataset="jsonl", root=str(tmp_path)), "other")
