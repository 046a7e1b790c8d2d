"""The data check finds each planted defect, and nothing in clean data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data.rsvg_sets import change, make_set, xml
from mindground.cli.data import check as tool
from mindground.cli.exit_codes import run_command
from mindground.data import Dataset
from mindground.data.check.checks import check_datasets
from mindground.data.formats.dior_rsvg import read_dior_rsvg
from mindground.data.formats.fields import Problem
from mindground.data.formats.files import as_defect
from mindground.data.formats.jsonl import read_jsonl, write_jsonl
from mindground.errors import DataError, ImageError

ROOT = Path(__file__).resolve().parents[2]
Records = dict[str, list[dict[str, Any]]]


def _clean(root: Path) -> Records:
    rng = np.random.default_rng(0)
    records: Records = {}
    for split in ("train", "val"):
        records[split] = []
        for number in range(3):
            name = f"{split}{number}"
            cv2.imwrite(str(root / f"{name}.png"), rng.integers(0, 255, (40, 60, 3), np.uint8))
            x, y = 5 + number, 6 + number
            outline = [[x, y, x + 20, y, x + 20, y + 15, x, y + 15]]
            records[split].append(
                {
                    "id": name,
                    "image": f"{name}.png",
                    "size": [40, 60],
                    "sentence": f"the {split} thing {number}",
                    "box": [x, y, x + 20, y + 15],
                    "mask": outline,
                    "object_id": f"{name}-object",
                }
            )
    return records


def _check(root: Path, records: Records) -> tuple[int, dict[str, Any]]:
    for split, items in records.items():
        write_jsonl(root / f"{split}.jsonl", items)
    out = root / "report.json"
    code = run_command(
        tool.main,
        ["--dataset", "jsonl", "--root", str(root), "--splits", "train,val", "--out", str(out), "--overwrite"],
    )
    return code, json.loads(out.read_text()) if out.is_file() else {}


def _set(**changes: Any) -> Callable[[Path, Records], None]:
    def plant(root: Path, records: Records) -> None:
        records["train"][1].update(changes)

    return plant


def _missing_image(root: Path, records: Records) -> None:
    (root / "train1.png").unlink()


def _broken_image(root: Path, records: Records) -> None:
    path = root / "train1.png"
    path.write_bytes(path.read_bytes()[:200])


def _no_image_at_all(root: Path, records: Records) -> None:
    (root / "train1.png").write_text("this is no image")


def _holed_jpeg(root: Path, records: Records) -> None:
    smooth = cv2.resize(np.random.default_rng(1).integers(0, 255, (8, 12, 3), np.uint8), (60, 40))
    data = cv2.imencode(".jpg", smooth)[1].tobytes()
    middle = len(data) * 2 // 3
    (root / "train1.jpg").write_bytes(data[:middle] + bytes(60) + data[middle + 60 :])
    records["train"][1]["image"] = "train1.jpg"


def _shared_image(root: Path, records: Records) -> None:
    records["val"][0]["image"] = "train0.png"


def _copied_image(root: Path, records: Records) -> None:
    (root / "val0.png").write_bytes((root / "train0.png").read_bytes())


def _shared_object(root: Path, records: Records) -> None:
    _shared_image(root, records)
    for split in ("train", "val"):
        records[split][0]["image_id"] = "same"
        records[split][0]["object_id"] = "same"


def _ids_that_restart(root: Path, records: Records) -> None:
    for split in ("train", "val"):
        for number, record in enumerate(records[split], 1):
            record["image_id"] = record["object_id"] = str(number)


def _same_sentence_for_two(root: Path, records: Records) -> None:
    first = records["train"][0]
    records["train"].append({**first, "id": "new", "object_id": "other", "box": [30, 20, 50, 35], "mask": None})


DEFECTS: dict[str, tuple[Callable[[Path, Records], None], set[str], int]] = {
    "missing image": (_missing_image, {"missing_image"}, 1),
    "cut image": (_broken_image, {"unreadable_image"}, 1),
    "text as image": (_no_image_at_all, {"unreadable_image"}, 1),
    "hole in a JPEG": (_holed_jpeg, {"damaged_image"}, 0),
    "size": (_set(size=[40, 61]), {"size"}, 1),
    "empty box": (_set(box=[10, 10, 10, 20]), {"empty_box"}, 1),
    "box outside": (_set(box=[50, 10, 70, 20], mask=None), {"box_outside"}, 1),
    "mask outside": (_set(box=[6, 7, 26, 40], mask=[[6, 7, 26, 7, 26, 45, 6, 45]]), {"mask_outside"}, 1),
    "empty mask": (_set(mask={"size": [40, 60], "counts": [2400]}), {"empty_mask"}, 1),
    "full mask": (_set(mask={"size": [40, 60], "counts": [0, 2400]}, box=[0, 0, 60, 40]), {"full_mask"}, 0),
    "mask of another size": (_set(mask={"size": [41, 60], "counts": [10, 2450]}), {"mask_format"}, 1),
    "polygon of two points": (_set(mask=[[6, 7, 26, 22]]), {"mask_format"}, 0),
    "box beside mask": (_set(box=[40, 25, 55, 38]), {"box_mask"}, 1),
    "repeated id": (_set(id="train0"), {"duplicate_id"}, 1),
    "one object id for two": (_set(object_id="train0-object"), {"duplicate_id"}, 1),
    "empty sentence": (_set(sentence="  "), {"empty_sentence"}, 1),
    "sentence without object": (_set(box=None, mask=None), {"no_object"}, 1),
    "sentence in both splits": (_set(sentence="The val  thing 1"), {"sentence_overlap"}, 0),
    "image in both splits": (_shared_image, {"image_overlap"}, 1),
    "copy of an image": (_copied_image, {"image_overlap"}, 1),
    "object in both splits": (_shared_object, {"image_overlap", "object_overlap"}, 1),
    "ids that restart": (_ids_that_restart, {"image_id"}, 0),
    "one sentence for two objects": (_same_sentence_for_two, {"ambiguous_sentence"}, 0),
}


def test_clean_data_has_no_finding(tmp_path: Path) -> None:
    code, report = _check(tmp_path, _clean(tmp_path))
    assert code == 0 and report["findings"] == [] and report["errors"] == report["warnings"] == 0
    assert report["splits"]["train"] == {"images": 3, "objects": 3, "expressions": 3, "samples": 3}


@pytest.mark.parametrize("name", sorted(DEFECTS))
def test_each_planted_defect_is_found_alone(tmp_path: Path, name: str) -> None:
    plant, kinds, code = DEFECTS[name]
    records = _clean(tmp_path)
    plant(tmp_path, records)
    found_code, report = _check(tmp_path, records)
    assert set(report["kinds"]) == kinds, report["findings"]
    assert found_code == code


def test_the_report_is_stable(tmp_path: Path) -> None:
    records = _clean(tmp_path)
    for plant in (_missing_image, _shared_image, _same_sentence_for_two, _set(size=[1, 1])):
        plant(tmp_path, records)
    _check(tmp_path, records)
    first = (tmp_path / "report.json").read_bytes()
    _check(tmp_path, records)
    assert (tmp_path / "report.json").read_bytes() == first
    report = json.loads(first)
    assert report["schema"] == 2 and report["findings"] == sorted(
        report["findings"], key=lambda item: (item["level"], item["kind"], item["split"], item["subject"])
    )


def test_what_cannot_be_read_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(tool.main, ["--dataset", "jsonl", "--root", str(tmp_path), "--splits", "train"]) == 2
    assert "train.jsonl" in capsys.readouterr().err


def test_object_ids_and_boxes_must_be_as_many(tmp_path: Path) -> None:
    _check(tmp_path, _clean(tmp_path))
    whole = read_jsonl(str(tmp_path), "train")
    for names in ((), ("one", "two")):
        short = Dataset([replace(whole[0], object_ids=names), *whole.samples[1:]], {}, "x", "train")
        report = check_datasets([short])
        assert [(finding.kind, finding.subject) for finding in report.findings] == [("object_ids", "train0")]


def _dior(root: Path, *extra: str) -> tuple[int, dict[str, Any], list[tuple[str, str, str]]]:
    out = root / "report.json"
    code = run_command(
        tool.main, ["--dataset", "dior_rsvg", "--root", str(root), "--out", str(out), "--overwrite", *extra]
    )
    report = json.loads(out.read_text())
    return code, report, [(item["kind"], item["subject"], item["detail"]) for item in report["findings"]]


def test_a_sound_dior_rsvg_has_no_error_and_tells_its_leak(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_set(tmp_path)
    code, report, found = _dior(root)
    assert code == 0 and report["errors"] == 0
    assert {kind for kind, _, _ in found} == {"image_overlap"}  # a warning: the official division is by expression
    assert report["leak"]["test"]["on_train_images"] == {"count": 2, "share": 1.0}
    assert report["fingerprint"] == read_dior_rsvg(str(root), "val").fingerprint
    said = capsys.readouterr().out
    assert "leak: 2 of 2 test expressions (100.0 %) lie on images that occur in train" in said
    assert "8 objects in 4 files" in said


def test_every_defect_of_dior_rsvg_is_found_at_once(tmp_path: Path) -> None:
    root = make_set(tmp_path, {"train": [3, 2, 0, 6], "val": [1, 5, 6], "test": [4, 7, 99]})
    change(root, "00001", "<xmin>1</xmin>", "<xmin>50</xmin>")
    change(root, "00003", "<ymax>30</ymax>", "<ymax>216,00</ymax>")
    change(root, "00010", "<name>ship</name>", "")
    change(root, "11726", "<xmax>20</xmax>", "<xmax>80</xmax>")
    change(root, "11726", "ship 1 of 11726", "")
    (root / "JPEGImages" / "00010.jpg").unlink()
    code, report, found = _dior(root)
    assert code == 1
    wanted = {
        "swapped_corners": "00001.xml object 0",
        "number_format": "00003.xml object 2",
        "missing_tag": "00010.xml object 5",
        "box_outside": "11726.xml object 6",
        "empty_sentence": "11726.xml object 7",
        "list_unsorted": "train.txt line 2",
        "list_range": "test.txt line 3",
        "list_overlap": "train.txt and val.txt",
    }
    assert wanted.items() <= {kind: subject for kind, subject, _ in found}.items()
    assert any("216,00" in detail for _, _, detail in found)


@pytest.mark.parametrize("name", ["<name/>", "<name> </name>"])
def test_an_object_of_a_class_without_a_name(name: str, tmp_path: Path) -> None:
    root = make_set(tmp_path)
    change(root, "00010", "<name>ship</name>", name)
    code, _, found = _dior(root)
    assert code == 1 and ("empty_name", "00010.xml object 5") in {(kind, subject) for kind, subject, _ in found}
    with pytest.raises(DataError, match="object 5: the name of the class is empty"):
        for split in ("train", "val", "test"):
            read_dior_rsvg(str(root), split, "image_disjoint")


def test_a_missing_image_is_named_with_its_object(tmp_path: Path) -> None:
    root = make_set(tmp_path)
    (root / "JPEGImages" / "00010.jpg").unlink()
    code, _, found = _dior(root)
    missing = [(subject, detail) for kind, subject, detail in found if kind == "missing_image"]
    assert code == 1 and len(missing) == 1 and missing[0][0] == "00010.jpg" and "sample 5" in missing[0][1]


def test_files_that_are_no_xml_are_findings(tmp_path: Path) -> None:
    root = make_set(tmp_path)
    (root / "Annotations" / "00010.xml").write_text("<annotation><object>")
    (root / "Annotations" / "00003.xml").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>")
    code, _, found = _dior(root)
    assert code == 1
    assert {"00010.xml", "00003.xml"} == {subject for kind, subject, _ in found if kind == "annotation_file"}


def test_without_shared_images_there_is_nothing_to_find(tmp_path: Path) -> None:
    root = make_set(tmp_path)
    for number in range(30):
        (root / "Annotations" / f"2{number:04d}.xml").write_text(xml(f"2{number:04d}", 2))
        image = np.random.default_rng(100 + number).integers(0, 255, (40, 60, 3), np.uint8)
        cv2.imwrite(str(root / "JPEGImages" / f"2{number:04d}.jpg"), image)
    code, report, found = _dior(root, "--splitBy", "image_disjoint")
    assert code == 0 and found == []
    assert all(values["on_train_images"]["count"] == 0 for values in report["leak"].values()) and report["leak"]


def test_a_record_is_named_with_its_id() -> None:
    line = Problem("set.json: annotation 4 (id 17): 'bbox' is missing", "set.json: annotation 4")
    assert str(as_defect(line, "val")) == "set.json: annotation 4 (id 17): 'bbox' is missing"
    line = Problem("set.json: annotation 4 (id 17) has no box", "set.json: annotation 4")
    assert as_defect(line, "val").subject == "set.json: annotation 4 (id 17)"
    assert (
        str(as_defect(Problem("set.jsonl line 2: not JSON", "set.jsonl line 2"), "val")) == "set.jsonl line 2: not JSON"
    )


def test_a_raster_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rasters may be larger than other image files; training reads them band by band.
    pytest.importorskip("rasterio")
    records = _clean(tmp_path)
    for item in records["train"]:
        image = cv2.imread(str(tmp_path / item["image"]))
        item["image"] = f"{item['id']}.tif"
        cv2.imwrite(str(tmp_path / item["image"]), image)

    def refuse(path: str) -> bytes:
        raise AssertionError(path) if str(path).endswith(".tif") else ImageError(f"{path} is large")

    monkeypatch.setattr("mindground.files.regular.read_regular", refuse)
    monkeypatch.setattr("mindground.files.images.read_regular", refuse)
    code, report = _check(tmp_path, records)
    assert code == 1 and report["kinds"] == {"unreadable_image": 3}
