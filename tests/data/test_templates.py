"""Pseudo pairs from detections: the rules one by one, files, and planted wrong boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindground.cli.data import make_template_source as make_template_source_verb
from mindground.cli.data import plant_wrong_boxes
from mindground.config import DataConfig
from mindground.data import Dataset, build_dataset
from mindground.data.make.templates import Detection, TemplateRules, make_template_source, place_words, template_pairs
from mindground.errors import ConfigError, DataError, DatasetNotFoundError
from mindground.structures import Sample, box_iou

ROOT = Path(__file__).resolve().parents[2]
SIZE = (400, 1000)  # height, width: a test that takes one for the other fails


def at(x: float, y: float, side: float = 20, name: str = "ship", **more: Any) -> Detection:
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return Detection(f"{x}-{y}", name, box, **more)


def words(*places: tuple[float, ...]) -> list[list[str]]:
    return place_words([at(*place) for place in places], SIZE, TemplateRules())


def sentences(detections: Sequence[Detection], **rules: Any) -> list[tuple[str, str]]:
    pairs = template_pairs(detections, SIZE, np.random.default_rng(0), TemplateRules(**{"sentences": 99, **rules}))
    return [(item.object_id, text) for item, text in pairs]


def test_two_objects_lie_left_and_right_when_they_are_apart() -> None:
    assert words((100, 200), (300, 200)) == [["left"], ["right"]]
    assert words((100, 200), (150, 200)) == [[], []]  # not more than 50 pixels
    assert words((100, 200)) == [[]]


def test_three_objects_have_a_middle_and_more_have_quarters() -> None:
    assert words((100, 200), (800, 200), (900, 200)) == [["left"], ["middle", "center"], ["right"]]
    found = words((100, 200), (200, 200), (500, 200), (800, 200), (900, 200))
    assert found == [["left"], ["left"], ["middle", "center"], ["right"], ["right"]]


def test_top_and_bottom_go_by_the_height() -> None:
    # 320 of 400 is the last quarter of the height, but far from three quarters of the width.
    found = words((100, 30), (110, 60), (105, 200), (102, 320), (108, 350))
    assert found == [["top"], ["top"], [], ["bottom"], ["bottom"]]


def test_depth_goes_by_area() -> None:
    assert words((100, 100, 10), (110, 100, 30)) == [["behind"], ["front"]]
    assert words((100, 100, 20), (110, 100, 30)) == [[], []]  # 0.44 is no 0.4
    many = words((100, 100, 10), (105, 100, 20), (110, 100, 29), (115, 100, 30))
    assert many == [["behind"], [], ["front"], ["front"]]  # 0.11, 0.44, 0.93, 1 of the largest
    third = words((100, 100, 10), (105, 100, 14), (110, 100, 30))
    assert third == [["behind"], [], ["front"]]


def test_sentences_of_a_word() -> None:
    pair = [at(100, 200), at(300, 200, attribute="red")]
    assert sentences(pair) == [
        ("100-200", "left ship"),
        ("100-200", "ship left"),
        ("100-200", "ship on the left"),
        ("300-200", "red ship"),
        ("300-200", "right red ship"),
        ("300-200", "red ship right"),
        ("300-200", "red ship on the right"),
    ]
    # The bare class stands only where nothing else has it.
    assert sentences([at(1, 1)]) == [("1-1", "ship")]
    depth = [at(100, 100, 10), at(110, 100, 30)]
    assert ("100-100", "ship in the behind") in sentences(depth)
    assert sentences(depth, from_above=True) == [("110-100", "large ship"), ("100-100", "small ship")]


def test_people_first_then_the_surest_three() -> None:
    items = [at(10, 10, name=f"c{i}", score=0.9 - 0.1 * i) for i in range(4)] + [at(50, 50, name="Person", score=0.1)]
    assert [text for _, text in sentences(items)] == ["person", "c0", "c1"]


def test_sentences_are_drawn_by_the_seed() -> None:
    items = [at(100 * i, 40 * i) for i in range(1, 9)]
    rules = TemplateRules()
    draws = [template_pairs(items, SIZE, np.random.default_rng(seed), rules) for seed in (1, 1, 2)]
    assert len(draws[0]) == 6 and draws[0] == draws[1] != draws[2]


def coco(folder: Path, annotations: list[dict[str, Any]]) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / "a.png").touch()
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 400, "width": 1000}],
        "categories": [{"id": 1, "name": "storage_tank"}, {"id": 2, "name": "ship"}],
        "annotations": [
            {"id": 10 + i, "image_id": 1, "category_id": 1, **annotation} for i, annotation in enumerate(annotations)
        ],
    }
    path = folder / "instances_train2017.json"
    path.write_text(json.dumps(content))
    return path


def test_a_source_from_labels_and_from_detections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = coco(
        tmp_path,
        [
            {"bbox": [100, 100, 40, 40]},
            {"bbox": [110, 100, 40, 40], "score": 0.5},  # mostly the same place
            {"bbox": [500, 100, 40, 40]},
            {"bbox": [700, 100, 0, 40]},
            {"bbox": [800, 100, 40, 40], "iscrowd": 1},
        ],
    )
    command = make_template_source_verb.main
    assert command([str(labels), "--images", str(tmp_path / "images"), "--out", str(tmp_path / "out")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["split"], report["overlapping"], report["small"], report["objects"]) == ("train", 1, 1, 2)
    dataset = build_dataset(DataConfig(dataset="jsonl", root=str(tmp_path / "out")), "train")
    assert {s.expression for s in dataset if s.object_ids == ("10",)} == {
        "left storage tank",
        "storage tank left",
        "storage tank on the left",
    }
    assert dataset[0].boxes_xyxy.tolist() == [[100, 100, 140, 140]]
    assert Path(dataset[0].image_path) == (tmp_path / "images" / "a.png").resolve()
    found = tmp_path / "found.json"
    results = [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 50, 50], "score": score} for score in (0.9, 0.2)]
    found.write_text(json.dumps(results))
    made = make_template_source(labels, tmp_path / "images", tmp_path / "two", detections=found, min_score=0.5)
    assert (made.detections, made.expressions) == (1, 1)
    small = TemplateRules(min_share=1 / 64)
    with pytest.raises(DataError, match="no object got a sentence"):
        make_template_source(labels, tmp_path / "images", tmp_path / "x", detections=found, rules=small)


def test_bad_detections_are_named(tmp_path: Path) -> None:
    labels, found = coco(tmp_path, []), tmp_path / "found.json"
    good = {"image_id": 1, "category_id": 2, "bbox": [0, 0, 50, 50]}
    for change, message in (
        ({"bbox": [1, 2, 3]}, "detection 0 has the bbox"),
        ({"image_id": 7}, "image 7, category 2; one is unknown"),
        ({"score": "high"}, "the score 'high'"),
        ({"attribute": 5}, "detection 0: 'attribute' is text, not 5"),
        ({"attribute": "red \ud800"}, "detection 0: 'attribute' .* is no text that UTF-8 can hold"),
        ({"id": "\ud800"}, "detection 0: 'id' .* is no text that UTF-8 can hold"),
        ({"id": None}, "detection 0: 'id' is an id"),
    ):
        found.write_text(json.dumps([{**good, **change}]))
        with pytest.raises(DataError, match=message):
            make_template_source(labels, tmp_path / "images", tmp_path / "out", detections=found)
    found.write_text(json.dumps([{**good, "attribute": None}]))
    report = make_template_source(labels, tmp_path / "images", tmp_path / "out", detections=found)
    assert report.objects == 1 and "none" not in (tmp_path / "out" / f"{report.split}.jsonl").read_text().lower()
    found.write_text("{}")
    with pytest.raises(DataError, match="must be a list"):
        make_template_source(labels, tmp_path / "images", tmp_path / "out", detections=found)
    with pytest.raises(DatasetNotFoundError, match="is not a folder"):
        make_template_source(labels, tmp_path / "nothing", tmp_path / "out")


def test_planted_boxes_are_wrong_and_the_others_untouched(tmp_path: Path) -> None:
    boxes = [[0, 0, 30, 30], [50, 50, 90, 90]]
    samples = [
        Sample("a.png", f"s{i}", str(i // 2), "it", np.asarray([boxes[i % 2]]), size=(100, 100)) for i in range(40)
    ]
    dataset, wrong = plant_wrong_boxes.plant(Dataset(samples, name="x", split="train"), 0.25, 3)
    again, same = plant_wrong_boxes.plant(Dataset(samples, name="x", split="train"), 0.25, 3)
    assert wrong == same and len(wrong) == 10
    exchanged = 0
    for made, repeated, sample in zip(dataset, again, samples, strict=True):
        overlap = float(box_iou(made.boxes_xyxy[0], sample.boxes_xyxy[0]))
        assert overlap < 0.1 if made.sample_id in wrong else overlap == 1
        assert made.boxes_xyxy.tolist() == repeated.boxes_xyxy.tolist() and not made.has_masks
        exchanged += made.sample_id in wrong and made.boxes_xyxy[0].tolist() in boxes
    assert 0 < exchanged < 10
    path = tmp_path / "subset.jsonl"
    kept = [s for s in samples if s.sample_id not in wrong][:20] + [s for s in samples if s.sample_id in wrong][:2]
    path.write_text(
        "".join(
            json.dumps({"id": s.sample_id, "image": "a.png", "sentence": "it", "box": [0, 0, 1, 1]}) + "\n"
            for s in kept
        )
    )
    found = plant_wrong_boxes.check({"samples": 40, "wrong": wrong}, path)
    assert (found["wrong_removed"], found["wrong_removed_share"], found["right_kept_share"]) == (8, 0.8, 0.6667)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        plant_wrong_boxes.plant(dataset, 0.0, 3)
    full = Dataset([Sample("a.png", "s", "0", "it", np.asarray([[0, 0, 99, 99]]), size=(100, 100))])
    with pytest.raises(DataError, match="leaves no room"):
        plant_wrong_boxes.plant(full, 0.9, 3)
