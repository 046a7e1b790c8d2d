"""`instances.json` of SeqTR and MSAM: boxes in either format, images of several folders, splits, defects, the check."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.rsvg_sets import make_set
from mindground.cli.data.check import main as check
from mindground.config import load_config
from mindground.data import build_dataset
from mindground.data.formats.dior_rsvg import inspect_dior_rsvg, read_dior_rsvg
from mindground.data.formats.seqtr import SETS, read_seqtr
from mindground.engine.assemble import _vocabulary_sentences
from mindground.errors import ConfigError, DataError, DatasetNotFoundError

RECORD: dict[str, Any] = {
    "bbox": [4, 5, 30, 20],
    "image_id": 7,
    "height": 40,
    "width": 60,
    "expressions": ["the red ship", "ship at the pier"],
    "category_id": 3,
    "mask": [[4, 5, 34, 5, 34, 25]],
}
FOLDERS = {
    "coco": "mscoco/train2014/COCO_train2014_000000000007.jpg",
    "flickr": "flickr30k/7.jpg",
    "saiaprtc12": "saiaprtc12/7.jpg",
    "vg": "visual-genome/7.jpg",
    "rsvgd": "rsvgd/00007.jpg",
}


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))


def write(root: Path, content: dict[str, Any], name: str = "refcoco-unc", source: str = "coco") -> str:
    """A tree as SeqTR's with one image of a source."""
    path = root / "annotations" / name / "instances.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    image(root / "images" / FOLDERS[source])
    return str(root)


def changed(**keys: Any) -> dict[str, Any]:
    record = copy.deepcopy(RECORD) | keys
    return {key: value for key, value in record.items() if value is not None}


def test_a_record_is_a_sample_for_each_of_its_expressions(tmp_path: Path) -> None:
    root = write(tmp_path, {"train": [RECORD, changed(expressions=["another"])], "testA": [RECORD]})
    samples = list(read_seqtr(root, "train"))
    assert [s.expression for s in samples] == ["the red ship", "ship at the pier", "another"]
    assert [s.sample_id for s in samples] == ["0-0", "0-1", "1"]
    assert samples[0].object_ids == samples[1].object_ids != samples[2].object_ids
    assert samples[0].image_path.endswith(FOLDERS["coco"]) and Path(samples[0].image_path).is_file()
    np.testing.assert_array_equal(samples[0].boxes_xyxy, [[4, 5, 34, 25]])
    assert samples[0].size == (40, 60) and samples[0].labels[0] == 3 and samples[0].has_masks
    assert len(read_seqtr(root, "testA")) == 2
    with pytest.raises(DatasetNotFoundError, match="no split 'val'; it has train, testA"):
        read_seqtr(root, "val")


def test_boxes_are_cut_at_the_last_pixel_as_published(tmp_path: Path) -> None:
    root = write(tmp_path, {"train": [RECORD, changed(bbox=[-3.5, 10, 90, 30])]})
    np.testing.assert_array_equal(read_seqtr(root, "train")[2].boxes_xyxy, [[0, 10, 59, 39]])


def test_msams_boxes_are_two_corners_and_its_names_have_five_digits(tmp_path: Path) -> None:
    root = write(tmp_path, {"train": [RECORD]}, "rsvgd", "rsvgd")
    (sample, _) = read_seqtr(root, "train", "rsvgd")
    np.testing.assert_array_equal(sample.boxes_xyxy, [[4, 5, 30, 20]])
    assert sample.image_path.endswith("00007.jpg")
    (tmp_path / "images" / "rsvgd" / "00007.jpg").rename(tmp_path / "images" / "rsvgd" / "7.jpg")
    assert read_seqtr(root, "train", "rsvgd")[0].image_path.endswith("rsvgd/7.jpg")


def test_the_format_of_boxes_is_said_once(tmp_path: Path) -> None:
    own = write(tmp_path, {"train": [RECORD]}, "mine")
    with pytest.raises(ConfigError, match=r"no published set: set data\.seqtr\.box"):
        read_seqtr(own, "train", "mine")
    record = changed(image=FOLDERS["coco"])
    write(tmp_path, {"box_format": "xyxy", "train": [record]}, "mine")
    np.testing.assert_array_equal(read_seqtr(own, "train", "mine")[0].boxes_xyxy, [[4, 5, 30, 20]])
    with pytest.raises(ConfigError, match=r"data\.seqtr\.box=xywh, and .* says xyxy"):
        read_seqtr(own, "train", "mine", box="xywh")
    write(tmp_path, {"box_format": "corners", "train": [record]}, "mine")
    with pytest.raises(DataError, match="'box_format' is xywh or xyxy, not 'corners'"):
        read_seqtr(own, "train", "mine")


@pytest.mark.parametrize(
    ("said", "other", "bbox"), [("xywh", "xyxy", [40, 20, 55, 35]), ("xyxy", "xywh", [40, 20, 8, 9])]
)
def test_a_wrong_format_is_noticed(said: str, other: str, bbox: list[int], tmp_path: Path) -> None:
    root = write(tmp_path, {"train": [changed(bbox=bbox)] * 3})
    with pytest.raises(DataError, match=rf"3 of 3 boxes of train .* as {said}, and 0 as {other}; set data.seqtr.box"):
        read_seqtr(root, "train", box=said)  # type: ignore[arg-type]
    assert len(read_seqtr(root, "train", box=other)) == 6  # type: ignore[arg-type]


def test_a_mixed_set_opens_the_folder_of_each_record(tmp_path: Path) -> None:
    sources = {
        "coco": "coco",
        "refcoco_coco": "coco",
        "flickr": "flickr",
        "saiaprtc12": "saiaprtc12",
        "visual-genome": "vg",
    }
    content = {"train": [changed(data_source=written, expressions=["a"]) for written in sources]}
    root = write(tmp_path, content | {"val_flickr30k": content["train"][2:3]}, "mixed")
    for source in sources.values():
        image(tmp_path / "images" / FOLDERS[source])
    samples = list(read_seqtr(root, "train", "mixed"))
    assert [s.image_path.removeprefix(f"{root}/images/") for s in samples] == [FOLDERS[s] for s in sources.values()]
    # Numbers of different sources are different images.
    assert len({s.image_id for s in samples}) == 4
    elsewhere = tmp_path / "elsewhere"
    image(elsewhere / "7.jpg")
    moved = read_seqtr(root, "train", "mixed", image_roots={"visual-genome": str(elsewhere)})
    assert moved[4].image_path == str(elsewhere / "7.jpg") and moved[2].image_path == samples[2].image_path
    with pytest.raises(ConfigError, match=r"image_roots\.moon: the sources are coco"):
        read_seqtr(root, "train", "mixed", image_roots={"moon": "x"})
    config = load_config(
        overrides=["--family=seqtr", "--data.dataset=seqtr", "--data.splitBy=mixed", f"--data.root={root}"]
    )
    assert (
        config.data.eval_splits == list(SETS["mixed"].splits) and len(build_dataset(config.data, "val_flickr30k")) == 1
    )


BROKEN = {
    "null box": ({"bbox": None}, "lacks 'bbox'"),
    "text box": ({"bbox": ["a", 1, 2, 3]}, "'bbox' is"),
    "empty box": ({"bbox": [4, 5, 0, 20]}, "no area"),
    "box outside": ({"bbox": [100, 5, 3, 3]}, "no area"),
    "no expressions": ({"expressions": []}, "at least one text"),
    "expressions are text": ({"expressions": "the ship"}, "'expressions' is a list"),
    "expression is a number": ({"expressions": [3]}, "an expression is text"),
    "image without a number": ({"image_id": "x.jpg"}, "'image_id' is a whole number"),
    "image below 0": ({"image_id": -7}, "number of an image"),
    "no image": ({"image_id": None}, "lacks 'image_id'"),
    "size": ({"height": -1}, "the size"),
    "mask": ({"mask": [[1, 2, float("nan"), 4, 5, 6]]}, "record 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_is_named_and_may_be_left_out(name: str, tmp_path: Path) -> None:
    keys, said = BROKEN[name]
    root = write(tmp_path, {"train": [changed(**keys), RECORD, RECORD]})
    with pytest.raises(DataError, match=said) as caught:
        read_seqtr(root, "train")
    assert "train record 0" in str(caught.value) and "\n" not in str(caught.value)
    problems: list[str] = []
    assert len(read_seqtr(root, "train", problems=problems)) == 4
    assert len(problems) == 1


def test_a_record_of_mixed_names_its_source(tmp_path: Path) -> None:
    for record, said in ((RECORD, "lacks 'data_source'"), (changed(data_source="moon"), "'data_source' is one of")):
        root = write(tmp_path, {"train": [record]}, "mixed")
        with pytest.raises(DataError, match=said):
            read_seqtr(root, "train", "mixed")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"there is no .*instances\.json"):
        read_seqtr(str(tmp_path), "train")
    for content in ([], 3, {"train": {}}):
        root = write(tmp_path, {})
        (tmp_path / "annotations/refcoco-unc/instances.json").write_text(json.dumps(content))
        with pytest.raises(DataError):
            read_seqtr(root, "train")


def test_the_check_counts_every_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = [changed(expressions=[f"the ship {n}"]) for n in range(2)]
    root = write(tmp_path, {"train": one, "val": one[:1], "test": [changed(bbox=[0, 0, 0, 0])]}, "refcocog-umd")
    code = check(["--dataset", "seqtr", "--splitBy", "refcocog-umd", "--root", root, "--splits", "train,val,test"])
    said = capsys.readouterr().out
    assert code == 1
    for split, count in (("train", 2), ("val", 1), ("test", 0)):
        assert f"{count} expressions" in next(line for line in said.splitlines() if line.startswith(f"{split}:"))
    assert "box_empty: 1" in said and "test record 0" in said


def test_a_vocabulary_of_all_splits_begins_with_that_of_training(tmp_path: Path) -> None:
    splits = {"train": ["red ship", "the red ship"], "val": ["blue"], "testA": ["ship left"], "testB": ["red"]}
    content = {name: [changed(expressions=said)] for name, said in splits.items()}
    root = write(tmp_path, content)
    shared = ["--family=seqtr", "--data.dataset=seqtr", f"--data.root={root}"]
    for chosen, wanted in (("train", ["red ship", "the red ship"]), ("all", sum(splits.values(), []))):
        data = load_config(overrides=[*shared, f"--data.vocab_from={chosen}"]).data
        training, scored = build_dataset(data, "train"), build_dataset(data, "val")
        assert _vocabulary_sentences(data, training, scored) == wanted
        assert training.sentences() == splits["train"]


def test_msams_division_takes_the_numbers_for_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # Objects 0-1 in image 1, 2-4 in 3, 5 in 10, 6-7 in 11726.
    root = str(make_set(tmp_path, {"train": [0, 1, 2, 4, 6], "val": [3, 5], "test": [7]}))
    assert len(read_dior_rsvg(root, "train")) == 5
    with caplog.at_level("INFO", "mindground"):
        found = {split: [s.sample_id for s in read_dior_rsvg(root, split, "msam_image")] for split in ("train", "val")}
    # Image 1 stands in train and image 3 in val; 10 and 11726 are in no list, and are used nowhere.
    assert found == {"train": ["0", "1"], "val": ["2", "3", "4"]}
    assert "lists of 2/3" in caplog.text and "the official division: train 5, val 2, test 1" in caplog.text
    lines = inspect_dior_rsvg(root, ["train", "val"], "msam_image").lines
    assert "train 2, val 3, test 0" in lines[0] and "train 5, val 2, test 1" in lines[1]
    (tmp_path / "Annotations" / "00003.xml").write_text(
        (tmp_path / "Annotations" / "00003.xml").read_text().replace("00003.jpg", "three.jpg")
    )
    with pytest.raises(DataError, match=r"msam_image divides by the numbers of images, and 'three\.jpg' has none"):
        read_dior_rsvg(root, "train", "msam_image")
