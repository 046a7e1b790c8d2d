"""What labelling tools write: names, ids, layouts and encodings that differ from what a reader expects first."""

from __future__ import annotations

import copy
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.data.formats.coco import load_coco, read_coco
from mindground.data.formats.dior_rsvg import load_dior_rsvg, read_dior_rsvg
from mindground.data.formats.jsonl import read_jsonl
from mindground.data.formats.refer import Refer, read_refer
from mindground.errors import DataError, UnsafeFileError
from mindground.structures import encode_mask

from .test_field_types import INSTANCES, OUTLINE, REFS


def _coco(root: Path, name: str = "train.json", **changes: Any) -> dict[str, Any]:
    content = copy.deepcopy(INSTANCES)
    for image in content["images"]:
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "images" / image["file_name"]).touch()
        image.update(changes.get("image", {}))
    for annotation in content["annotations"]:
        annotation.update(changes.get("annotation", {}))
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))
    return content


def _named(root: Path, name: str) -> str:
    """Path of the first image of a set whose annotations call it `name`."""
    content = _coco(root)
    content["images"][0]["file_name"] = name
    (root / "train.json").write_text(json.dumps(content))
    return read_coco(str(root), "train")[0].image_path


def test_backslashes_percent_codes_and_other_machines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = tmp_path / "images" / "1.png"
    assert _named(tmp_path, "images\\1.png") == str(image)
    accented = tmp_path / "images" / "Capture_décran 1.png"
    accented.parent.mkdir(exist_ok=True)
    accented.touch()
    assert _named(tmp_path, "Capture_d%C3%A9cran%201.png") == str(accented)
    literal = tmp_path / "images" / "Capture_d%C3%A9cran%201.png"
    literal.touch()  # a file of that very name comes first
    assert _named(tmp_path, literal.name) == str(literal)
    with caplog.at_level(logging.WARNING, "mindground"):
        assert _named(tmp_path, "/home/someone/data/1.png") == str(image)
        assert _named(tmp_path, "D:\\data\\1.png") == str(image)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and all("absolute image names of another machine" in line for line in said)
    assert _named(tmp_path, str(image)) == str(image)  # absolute, and here


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_an_image_is_an_ordinary_file(tmp_path: Path, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    name = {"device": "/dev/zero", "pipe": str(tmp_path / "pipe"), "folder": str(tmp_path)}[kind]
    (tmp_path / "train.jsonl").write_text(json.dumps({"image": name, "sentence": "it", "box": [1, 1, 2, 2]}))
    with pytest.raises(DataError, match="line 1: the image .* no ordinary file"):
        read_jsonl(str(tmp_path), "train")


def test_annotation_files_that_are_pipes_are_never_opened(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    os.mkfifo(tmp_path / "Annotations" / "1.xml")
    with pytest.raises(DataError, match="no ordinary file"):
        read_dior_rsvg(str(tmp_path), "train")
    for name in ("instances.json", "refs(unc).p"):
        (tmp_path / name).write_text("[]")
    (tmp_path / "images").mkdir()
    (tmp_path / "dataset.json").mkdir()
    (tmp_path / "train.jsonl").write_text("")
    assert len(read_jsonl(str(tmp_path), "train")) == 0


@pytest.mark.parametrize("missing", [{"height": None}, {"height": None, "width": None}, {"height": None, "width": 30}])
def test_the_image_file_knows_a_size_that_is_not_written(tmp_path: Path, missing: dict[str, Any]) -> None:
    content = _coco(tmp_path, image=missing)
    assert [sample.size for sample in read_coco(str(tmp_path), "train")] == [None, None]
    for image in content["images"]:
        del image["height"]
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert [sample.size for sample in read_coco(str(tmp_path), "train")] == [None, None]


def test_ids_may_be_texts(tmp_path: Path) -> None:
    name = "7f0e93c6-11aa-4e0b-9d1f-000000000001"
    content = _coco(tmp_path, annotation={"segmentation": None, "area": 0})
    content["annotations"][0]["id"] = name
    (tmp_path / "train.json").write_text(json.dumps(content))
    dataset = read_coco(str(tmp_path), "train")
    assert dataset[0].object_ids == (name,) and dataset[0].segmentations == (None,)


def test_repeated_annotation_ids_are_numbered_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _coco(tmp_path, annotation={"id": 1})
    with caplog.at_level(logging.WARNING, "mindground"):
        dataset = read_coco(str(tmp_path), "train")
    assert [sample.object_ids for sample in dataset] == [("1",), ("2",)]
    assert "numbered by their place in the file (once, at id 1)" in caplog.text
    assert [item["id"] for item in load_coco(tmp_path / "train.json")["annotations"]] == [1, 2]
    content = _coco(tmp_path, image={"id": 1})
    with pytest.raises(DataError, match="image 1: the id 1 stands at an image before"):
        read_coco(str(tmp_path), "train")
    content["images"][1]["id"], content["categories"] = 2, content["categories"] * 2
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="category 1: the id 1 stands at a category before"):
        read_coco(str(tmp_path), "train")


@pytest.mark.parametrize("box", [None, []])
def test_the_box_is_around_the_outline_where_there_is_none(tmp_path: Path, box: Any) -> None:
    _coco(tmp_path, annotation={"bbox": box, "segmentation": OUTLINE})
    assert [sample.boxes_xyxy.tolist() for sample in read_coco(str(tmp_path), "train")] == [[[1, 1, 9, 8]]] * 2
    assert load_coco(tmp_path / "train.json")["annotations"][0]["bbox"] == [1, 1, 8, 7]


@pytest.mark.parametrize(
    ("outline", "kept", "said"),
    [
        ([[[1, 1], [9, 1], [9, 8]]], OUTLINE, ""),
        ([[1, 1], [9, 1], [9, 8]], OUTLINE, ""),
        ([[1, 2, 3, 4], *OUTLINE, [5, 6]], OUTLINE, "enclose nothing and are left out (2 times"),
        ([[1, 2, 3, 4], [5, 6]], None, "counts as none (2 times"),
    ],
)
def test_polygons_as_points_and_parts_that_enclose_nothing(
    tmp_path: Path, outline: Any, kept: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    _coco(tmp_path, annotation={"segmentation": outline})
    with caplog.at_level(logging.WARNING, "mindground"):
        dataset = read_coco(str(tmp_path), "train")
    assert [sample.segmentations for sample in dataset] == [(kept,), (kept,)]
    assert said in caplog.text and bool(said) == bool(caplog.records)


def test_a_folder_a_split_as_roboflow_writes_it(tmp_path: Path) -> None:
    for split, other in (("train", "valid"), ("valid", "train")):
        content = _coco(tmp_path / "unused", image={})
        content["images"][0]["file_name"] = f"{split}.png"
        (tmp_path / split).mkdir()
        (tmp_path / split / f"{split}.png").touch()
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
        assert not (tmp_path / other / f"{split}.png").exists()
    for split, folder in (("train", "train"), ("val", "valid"), ("valid", "valid")):
        dataset = read_coco(str(tmp_path), split)
        assert dataset[0].image_path == str(tmp_path / folder / f"{folder}.png") and dataset.split == split
        assert dataset.name == tmp_path.name


def test_split_names_are_no_places(tmp_path: Path) -> None:
    for name in ("../test", "/tmp/test", "a\\test", "..", "te\0st"):
        refs = [{**REFS[0], "split": name}]
        with pytest.raises(DataError, match="'split'"):
            Refer(refs, INSTANCES)


@pytest.mark.parametrize("height", [787, 800])
def test_masks_of_nearly_the_images_size_are_resized(
    tmp_path: Path, height: int, caplog: pytest.LogCaptureFixture
) -> None:
    """RRSIS-D has masks of 800 x 800 for images of 800 x 787."""
    import pickle

    mask = np.zeros((800, 800), np.uint8)
    mask[100:400, 200:300] = 1
    instances = copy.deepcopy(INSTANCES)
    instances["images"][0].update(height=height, width=800)
    instances["annotations"][0]["segmentation"] = [encode_mask(mask)]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").touch()
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(REFS, 2))
    with caplog.at_level(logging.WARNING, "mindground"):
        sample = read_refer(str(tmp_path), "refcoco", "unc", "train")[0]
    drawn = sample.masks((height, 800))[0]
    assert drawn.shape == (height, 800) and abs(int(drawn.sum()) - 30000 * height / 800) < 200
    assert ("resized" in caplog.text) == (height != 800)
    instances["images"][0].update(height=400)
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    with pytest.raises(DataError, match="annotation 1 .*800 x 800 belongs to an image of size 400 x 800"):
        read_refer(str(tmp_path), "refcoco", "unc", "train")


XML = """<?xml version="1.0" encoding="{0}"?><annotation><filename>{1}.jpg</filename><size><width>30</width><height>20
</height></size><object><name>船</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>
<description>右边的红船</description></object></annotation>"""


@pytest.mark.parametrize("encoding", ["GB2312", "gbk", "GB18030", "big5", "Shift_JIS", "EUC-KR", "utf-8", "utf-16"])
def test_sentences_in_the_encoding_that_the_file_declares(tmp_path: Path, encoding: str) -> None:
    text = XML if encoding.lower() not in ("big5", "shift_jis", "euc-kr") else XML.replace("右边的红船", "右船")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages" / "1.jpg").touch()
    (tmp_path / "train.txt").write_text("0\n")
    (tmp_path / "Annotations" / "1.xml").write_bytes(text.format(encoding, 1).encode(encoding))
    (sample,) = read_dior_rsvg(str(tmp_path), "train")
    assert sample.expression == ("右船" if "右船" in text else "右边的红船")
    # Bytes that the encoding has no letter for, and a document type in it, are refused by name.
    (tmp_path / "Annotations" / "1.xml").write_bytes(text.format(encoding, 1).encode(encoding)[:-30] + b"\xff\xff")
    with pytest.raises(DataError, match=r"1\.xml: not whole XML"):
        read_dior_rsvg(str(tmp_path), "train")
    bomb = text.replace("?><annotation", '?><!DOCTYPE a [<!ENTITY b "c">]><annotation').format(encoding, 1)
    (tmp_path / "Annotations" / "1.xml").write_bytes(bomb.encode(encoding))
    with pytest.raises(UnsafeFileError, match="document type"):
        read_dior_rsvg(str(tmp_path), "train")


def test_an_encoding_that_nobody_knows_is_told(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "1.xml").write_bytes(XML.format("no-such", 1).encode())
    for tolerant in (True, False):
        with pytest.raises(DataError, match=r"1\.xml.*UTF-8"):
            load_dior_rsvg(str(tmp_path), ["train"], tolerant=tolerant)


def test_annotation_files_whose_names_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "Annotations") + "/船.xml".encode("gbk"))).write_text(XML)
    with pytest.raises(DataError, match="UTF-8 can hold") as error:
        read_dior_rsvg(str(tmp_path), "train")
    str(error.value).encode()
