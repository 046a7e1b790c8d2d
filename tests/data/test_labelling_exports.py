"""What labelling programs export becomes a set that the data check and the readers take, or one sentence."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from commands import Done, call
from mindground.cli.data import check, make_dior_rsvg, make_referring, make_template_source
from mindground.config import DataConfig
from mindground.data import build_dataset

Coco = dict[str, Any]
SIZE = (64, 96)
UUID = "7f0e93c6-11aa-4e0b-9d1f-00000000000{}"


def export(seed: int = 0) -> Coco:
    """Two images with a ship and a tank each, and a second ship in the first."""
    boxes = [(1, 1, [8, 8, 31, 19]), (1, 2, [56, 36, 31, 21]), (1, 1, [60, 4, 20, 12]), (2, 1, [9, 9, 30, 19])]
    boxes.append((2, 2, [50, 30, 31, 21]))
    annotations = []
    for number, (image, category, (x, y, w, h)) in enumerate(boxes, 1):
        outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        entry = {"id": number, "image_id": image, "category_id": category, "bbox": [x, y, w, h], "area": w * h}
        annotations.append({**entry, "iscrowd": 0, "segmentation": outline})
    images = [{"id": i, "file_name": f"{n}.png", "width": SIZE[1], "height": SIZE[0]} for i, n in ((1, "a"), (2, "b"))]
    categories = [{"id": 1, "name": "ship"}, {"id": 2, "name": "tank"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def draw(folder: Path, *names: str, seed: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.random.default_rng([seed, number]).integers(0, 255, (*SIZE, 3), np.uint8)
        assert cv2.imencode(".png", pixels)[1].tofile(folder / name) is None


def make(root: Path, coco: Coco, *more: str, split: str = "train", names: tuple[str, ...] = ("a.png", "b.png")) -> Done:
    draw(root / "images", *names)
    path = root / f"instances_{split}.json"
    path.write_text(json.dumps(coco), "utf-8")
    return call(make_referring.main, path, "--images", root / "images", "--out", root / "out", *more)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def readable(out: Path, images: Path, splits: str = "train") -> list[dict[str, Any]]:
    """Both layouts of a made set pass the data check and open; the records of the first split."""
    for words in (
        ["--dataset", "jsonl", "--root", out],
        ["--dataset", "refcoco", "--splitBy", "unc", "--root", out, "--image-root", images],
    ):
        done = call(check.main, *words, "--splits", splits)
        assert done.returncode == 0, done.stdout + done.stderr
    first = splits.split(",")[0]
    ours = build_dataset(DataConfig(dataset="jsonl", root=str(out)), first)
    twin = build_dataset(DataConfig(dataset="refcoco", splitBy="unc", root=str(out), image_root=str(images)), first)
    assert sorted(s.expression or "" for s in ours) == sorted(s.expression or "" for s in twin)
    for sample in [*ours, *twin]:
        assert Path(sample.image_path).is_file() and sample.masks(SIZE).shape[1:] == SIZE
    return lines(out / f"{first}.jsonl")


def _points(coco: Coco) -> None:
    for item in coco["annotations"]:
        x, y, w, h = item["bbox"]
        item["segmentation"] = [[[x, y], [x + 5, y], [x + w, y], [x + w, y + h], [x + 5, y + h], [x, y + h]]]


def _four_points(coco: Coco) -> None:
    for item in coco["annotations"]:
        item["segmentation"] = [list(zip(part[::2], part[1::2], strict=True)) for part in item["segmentation"]]


def _small_parts(coco: Coco) -> None:
    for item in coco["annotations"]:
        item["segmentation"] = [[1, 2, 3, 4], *item["segmentation"], [5, 6]]


def _no_sizes(coco: Coco) -> None:
    for image in coco["images"]:
        del image["width"], image["height"]


def _null_sizes(coco: Coco) -> None:
    for image in coco["images"]:
        image["width"] = image["height"] = None


def _one_pixel(coco: Coco) -> None:
    coco["images"][0]["width"] -= 1


def _text_ids(coco: Coco) -> None:
    for item in coco["annotations"]:
        item.update(id=UUID.format(item["id"]), segmentation=None, area=0)


def _ids_restart(coco: Coco) -> None:
    for item in coco["annotations"]:
        item["id"] = item["id"] if item["image_id"] == 1 else item["id"] - 3


def _no_boxes(coco: Coco) -> None:
    for item in coco["annotations"]:
        del item["bbox"]


def _flat(coco: Coco) -> None:
    for item in coco["annotations"]:
        item["segmentation"] = item["segmentation"][0]


def _backslashes(coco: Coco) -> None:
    for image in coco["images"]:
        image["file_name"] = f"upload\\{image['file_name']}"


def _foreign(coco: Coco) -> None:
    coco["images"][0]["file_name"] = "/home/someone/data/a.png"
    coco["images"][1]["file_name"] = "C:\\Users\\someone\\b.png"


def _outside(coco: Coco) -> None:
    item = coco["annotations"][1]
    x, y, _, h = item["bbox"]
    item["bbox"] = [x, y, 60, h]
    item["segmentation"] = [[x, y, x + 60, y, x + 60, y + h, x, y + h]]


def _twice(coco: Coco) -> None:
    coco["annotations"] += [{**item, "id": item["id"] + 10} for item in coco["annotations"]]


KINDS: dict[str, tuple[Callable[[Coco], None], dict[str, int]]] = {
    "polygons of points": (_points, {"without_mask": 0}),
    "polygons of four points": (_four_points, {"without_mask": 0}),
    "parts of one and two points": (_small_parts, {"without_mask": 0}),
    "no sizes": (_no_sizes, {"sized": 2}),
    "a size wrong by one pixel": (_one_pixel, {"sized": 1}),
    "null sizes": (_null_sizes, {"sized": 2}),
    "ids that are text": (_text_ids, {"renumbered": 5, "without_mask": 5}),
    "ids that restart in every image": (_ids_restart, {"renumbered": 5}),
    "no boxes": (_no_boxes, {"without_mask": 0}),
    "one polygon without its outer list": (_flat, {"without_mask": 0}),
    "backslashes": (_backslashes, {"renamed": 2}),
    "paths of another machine": (_foreign, {"renamed": 2}),
    "a box beyond the image": (_outside, {"clipped": 1}),
    "every object twice": (_twice, {"repeated": 5}),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_the_tool_writes_passes_the_check_and_opens(tmp_path: Path, kind: str) -> None:
    change, counts = KINDS[kind]
    plain, changed = export(), export()
    change(changed)
    assert changed != plain
    done = make(tmp_path, changed)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["objects"] == 5 and {key: report[key] for key in counts} == counts
    records = readable(tmp_path / "out", tmp_path / "images")
    assert make(tmp_path / "plain", plain).returncode == 0
    expected = lines(tmp_path / "plain" / "out" / "train.jsonl")
    # The same objects, boxes and sentences as from the plain file (names seed the draw, so one may differ in them).
    assert [record["image"] for record in records] == [record["image"] for record in expected]
    assert len({record["id"] for record in records}) == len({record["object_id"] for record in records}) == 5
    if not counts.get("clipped"):
        assert [record["box"] for record in records] == [record["box"] for record in expected]
    else:
        assert records[1]["box"][2] == SIZE[1] and max(records[1]["mask"][0][0::2]) == SIZE[1]
    if not counts.get("renamed") and not counts.get("clipped"):
        assert [record["sentences"] for record in records] == [record["sentences"] for record in expected]
    if counts.get("without_mask") == 0:
        dataset = build_dataset(DataConfig(dataset="jsonl", root=str(tmp_path / "out")), "train")
        assert {int(sample.masks(SIZE).sum()) for sample in dataset} == {31 * 19, 31 * 21, 20 * 12, 30 * 19}


def test_names_with_percent_codes_find_the_file(tmp_path: Path) -> None:
    coco, name = export(), "Capture_d\u00e9cran 1.png"
    coco["images"][0]["file_name"] = "Capture_d%C3%A9cran%201.png"
    done = make(tmp_path, coco, names=(name, "b.png"))
    assert done.returncode == 0, done.stderr
    assert readable(tmp_path / "out", tmp_path / "images")[0]["image"] == name


def test_ids_of_the_labelling_program_stay_beside_new_numbers(tmp_path: Path) -> None:
    coco = export()
    _text_ids(coco)
    assert make(tmp_path, coco).returncode == 0
    records = lines(tmp_path / "out" / "train.jsonl")
    instances = json.loads((tmp_path / "out" / "instances.json").read_text("utf-8"))
    assert [record["object_id"] for record in records] == [UUID.format(number) for number in range(1, 6)]
    assert [item["id"] for item in instances["annotations"]] == [1, 2, 3, 4, 5]
    assert instances["annotations"][0]["source_id"] == UUID.format(1)


def test_restarted_ids_keep_sentences_with_their_images(tmp_path: Path) -> None:
    coco = export()
    _ids_restart(coco)
    assert make(tmp_path, coco).returncode == 0
    refs = pickle.loads((tmp_path / "out" / "refs(unc).p").read_bytes())
    names = {1: "a.png", 2: "b.png"}
    assert len(refs) == 5 and all(names[ref["image_id"]] == ref["file_name"] for ref in refs)
    assert len({ref["ann_id"] for ref in refs}) == 5


def roboflow(root: Path) -> list[Path]:
    """Two splits as Roboflow exports them: the same names and the same ids, other images."""
    files = []
    for number, split in enumerate(("train", "valid")):
        draw(root / split, "a.png", "b.png", seed=number)
        files.append(root / split / "_annotations.coco.json")
        files[-1].write_text(json.dumps(export()), "utf-8")
    return files


@pytest.mark.parametrize("how", ["beside the annotations", "one root", "one after the other"])
def test_two_folders_of_one_export_become_two_splits(tmp_path: Path, how: str) -> None:
    files, out = roboflow(tmp_path), tmp_path / "out"
    more = ["--images", tmp_path] if how == "one root" else []
    if how == "one after the other":
        dones = [call(make_referring.main, path, "--images", path.parent, "--out", out) for path in files]
    else:
        dones = [call(make_referring.main, *files, "--out", out, *more)]
    assert [done.returncode for done in dones] == [0] * len(dones), dones[-1].stderr
    assert [json.loads(line)["split"] for done in dones for line in done.stdout.splitlines()] == ["train", "val"]
    image_root = (out / json.loads((out / "dataset.json").read_text())["image_root"]).resolve()
    readable(out, image_root, "train,val")
    for split, folder in (("train", "train"), ("val", "valid")):
        dataset = build_dataset(DataConfig(dataset="jsonl", root=str(out)), split)
        assert {Path(s.image_path).resolve() for s in dataset} == {tmp_path / folder / n for n in ("a.png", "b.png")}
    # The same call again gives the same lines.
    before = {path.name: path.read_bytes() for path in out.glob("*.json*") if path.name != "instances.json"}
    if how != "one after the other":
        assert call(make_referring.main, *files, "--out", out, *more).returncode == 0
        assert {name: (out / name).read_bytes() for name in before} == before and len(before) == 3


def test_a_split_is_not_replaced_by_another_file(tmp_path: Path) -> None:
    (train, valid), out = roboflow(tmp_path), tmp_path / "out"
    shutil.copytree(tmp_path / "train", tmp_path / "other")
    again = tmp_path / "other" / "_annotations.coco.json"
    assert call(make_referring.main, train, "--out", out).returncode == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    done = call(make_referring.main, again, "--out", out)
    assert done.returncode == 2 and "name it with --split" in done.stderr
    done = call(make_referring.main, again, "--out", out, "--split", "train")
    assert done.returncode == 2 and "--overwrite" in done.stderr
    done = call(make_referring.main, train, tmp_path / "train" / "instances_train2017.json", "--out", out)
    assert done.returncode == 2 and "would both be written as train" in done.stderr
    assert call(make_referring.main, valid, "--out", out, "--split", "../up").returncode == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert call(make_referring.main, again, "--out", out, "--split", "train", "--overwrite").returncode == 0
    assert before != {path.name: path.read_bytes() for path in out.iterdir()}


def test_one_name_in_two_folders_is_not_guessed(tmp_path: Path) -> None:
    train, valid = roboflow(tmp_path)
    done = call(make_referring.main, train, valid, "--images", train.parent, "--out", tmp_path / "out")
    assert done.returncode == 2 and "lies in" in done.stderr and "a.png" in done.stderr
    lines_of_train = json.loads(done.stdout.splitlines()[0])
    assert lines_of_train["split"] == "train" and not (tmp_path / "out" / "val.jsonl").exists()


@pytest.mark.parametrize("place", ["sentence", "caption", "attributes", "list", "own key"])
def test_typed_sentences_are_taken(tmp_path: Path, place: str) -> None:
    coco, more = export(), ()
    item = coco["annotations"][0]
    text = "the  long ship\nat the quay"
    if place == "attributes":
        item["attributes"] = {"occluded": False, "expression": text, "rotation": 0.0}
    elif place == "list":
        item["captions"] = [text, "", None, "a grey ship"]
    elif place == "own key":
        item["attributes"], more = {"Beschreibung": text}, ("--sentence-key", "Beschreibung")
    else:
        item[place] = text
    done = make(tmp_path, coco, *more)
    assert done.returncode == 0, done.stderr
    records = readable(tmp_path / "out", tmp_path / "images")
    wanted = ["the long ship at the quay", *(["a grey ship"] if place == "list" else [])]
    assert records[0]["sentences"] == wanted and json.loads(done.stdout)["typed"] == 1
    assert len(records) == 5 and all(record["sentences"] for record in records)
    assert make(tmp_path, coco, *more, "--only-typed").returncode == 0
    assert [record["sentences"] for record in readable(tmp_path / "out", tmp_path / "images")] == [wanted]


def test_an_object_that_the_check_would_refuse_is_not_asked_for(tmp_path: Path) -> None:
    coco = export()
    coco["annotations"][1]["segmentation"] = [[1, 1, 5, 1, 5, 5]]  # far from its box
    done = make(tmp_path, coco)
    report = json.loads(done.stdout)
    assert report["refused"] == 1 and "overlap by 0.00" in report["refusal"]
    assert len(readable(tmp_path / "out", tmp_path / "images")) == 4


def _set(key: str, value: Any, list_name: str = "annotations") -> Callable[[Coco], None]:
    def change(coco: Coco) -> None:
        coco[list_name][0][key] = value

    return change


WRONG: dict[str, tuple[Callable[[Coco], None], str]] = {
    "nulls in a box": (_set("bbox", [None] * 4), "annotation 0 (id 1): 'bbox'"),
    "text in a box": (_set("bbox", [8, 8, "31 px", 19]), "annotation 0 (id 1): 'bbox'"),
    "no list of annotations": (lambda coco: coco.update(annotations=None), "'annotations' is a list, not None"),
    "a list as image id": (_set("image_id", [1]), "annotation 0: 'image_id'"),
    "text as category id": (_set("id", "ship", "categories"), "category 0: 'id'"),
    "a sentence that is a number": (_set("caption", 3), "annotation 1: 'caption' is 3"),
    "half a letter in a sentence": (_set("caption", "ship \ud800"), "annotation 1: 'caption' "),
    "a name of no letters": (_set("name", " ", "categories"), "category 1 has no name"),
    "an image id twice": (_set("id", 2, "images"), "image 1: the id 2"),
    "a file twice": (_set("file_name", "b.png", "images"), "are one file"),
    "a file that is missing": (_set("file_name", "c.png", "images"), "1 of its images are not in"),
    "another size": (_set("width", 2 * SIZE[1], "images"), "is annotated as 64 x 192"),
    "a box of nothing": (lambda coco: coco["annotations"][0].update(bbox=None, segmentation=None), "neither bbox nor"),
}


@pytest.mark.parametrize("kind", sorted(WRONG))
def test_what_cannot_be_meant_is_one_sentence(tmp_path: Path, kind: str) -> None:
    change, message = WRONG[kind]
    coco = export()
    change(coco)
    done = make(tmp_path, coco)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert message in done.stderr and "instances_train.json" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    # The data check lists it: with an exit code of its own, never with a trace.
    if kind not in (
        "a sentence that is a number",
        "half a letter in a sentence",
        "a name of no letters",
        "a file twice",
    ):
        done = call(check.main, "--dataset", "coco", "--root", tmp_path, "--splits", "train")
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr


def test_the_check_lists_all_records_of_an_export(tmp_path: Path) -> None:
    coco = export()
    coco["annotations"][0]["bbox"] = [None] * 4
    coco["annotations"][2]["image_id"] = [1]
    coco["annotations"][3]["category_id"] = "ship"
    assert make(tmp_path, coco).returncode == 2
    report = tmp_path / "report.json"
    done = call(check.main, "--dataset", "coco", "--root", tmp_path, "--splits", "train", "--out", report)
    assert done.returncode == 1 and json.loads(report.read_text("utf-8"))["errors"] == 3, done.stdout


def test_annotations_of_stored_pixels_pass_the_check(tmp_path: Path) -> None:
    from PIL import Image

    draw(tmp_path / "images", "a.png", "b.png")
    for name in "ab":
        stored = Image.open(tmp_path / "images" / f"{name}.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        stored.save(tmp_path / "images" / f"{name}.jpg", exif=exif)
        (tmp_path / "images" / f"{name}.png").unlink()
    coco = export()
    for image in coco["images"]:
        image["file_name"] = image["file_name"].replace("png", "jpg")
    path = tmp_path / "instances_train.json"
    path.write_text(json.dumps(coco))
    assert call(make_referring.main, path, "--images", tmp_path / "images", "--out", tmp_path / "out").returncode == 0
    assert len(readable(tmp_path / "out", tmp_path / "images")) == 5
    turned = copy.deepcopy(coco)
    turned["images"][0].update(width=SIZE[1] + 9)  # neither sense of the image
    path.write_text(json.dumps(turned))
    done = call(check.main, "--dataset", "coco", "--root", tmp_path, "--splits", "train")
    assert done.returncode == 1 and "size: 1" in done.stdout


def test_the_other_makers_take_the_same_exports(tmp_path: Path) -> None:
    coco = export()
    _backslashes(coco)
    _null_sizes(coco)
    _outside(coco)
    draw(tmp_path / "images", "a.png", "b.png")
    path = tmp_path / "instances_train.json"
    path.write_text(json.dumps(coco))
    out = tmp_path / "template"
    done = call(make_template_source.main, path, "--images", tmp_path / "images", "--out", out)
    assert done.returncode == 0, done.stderr
    done = call(check.main, "--dataset", "jsonl", "--root", out, "--splits", "train")
    assert done.returncode == 0, done.stdout
    rsvg = tmp_path / "rsvg"
    done = call(make_dior_rsvg.main, path, "--images", tmp_path / "images", "--out", rsvg)
    assert done.returncode == 0 and len(list((rsvg / "JPEGImages").iterdir())) == 2, done.stderr
