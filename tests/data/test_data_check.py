"""The data check finds each planted defect, and nothing in clean data."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mindground.data.formats.jsonl import write_jsonl

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("data_check_tool", ROOT / "tools" / "data_check.py")
assert spec is not None and spec.loader is not None
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

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
    code = tool.main(["--dataset", "jsonl", "--root", str(root), "--splits", "train,val", "--out", str(out)])
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
    (root / "train1.png").write_text("this is no picture")


def _shared_image(root: Path, records: Records) -> None:
    records["val"][0]["image"] = "train0.png"


def _copied_image(root: Path, records: Records) -> None:
    (root / "val0.png").write_bytes((root / "train0.png").read_bytes())


def _shared_object(root: Path, records: Records) -> None:
    for split in ("train", "val"):
        records[split][0]["image_id"] = "same"
        records[split][0]["object_id"] = "same"


def _same_sentence_for_two(root: Path, records: Records) -> None:
    first = records["train"][0]
    records["train"].append({**first, "id": "new", "object_id": "other", "box": [30, 20, 50, 35], "mask": None})


DEFECTS: dict[str, tuple[Callable[[Path, Records], None], set[str], int]] = {
    "missing image": (_missing_image, {"missing_image"}, 1),
    "cut image": (_broken_image, {"unreadable_image"}, 1),
    "text as image": (_no_image_at_all, {"unreadable_image"}, 1),
    "size": (_set(size=[40, 61]), {"size"}, 1),
    "empty box": (_set(box=[10, 10, 10, 20]), {"empty_box"}, 1),
    "box outside": (_set(box=[50, 10, 70, 20], mask=None), {"box_outside"}, 1),
    "mask outside": (_set(box=[6, 7, 26, 40], mask=[[6, 7, 26, 7, 26, 45, 6, 45]]), {"mask_outside"}, 1),
    "empty mask": (_set(mask={"size": [40, 60], "counts": [2400]}), {"empty_mask"}, 1),
    "full mask": (_set(mask={"size": [40, 60], "counts": [0, 2400]}, box=[0, 0, 60, 40]), {"full_mask"}, 0),
    "mask of another size": (_set(mask={"size": [41, 60], "counts": [10, 2450]}), {"mask_format"}, 1),
    "polygon of two points": (_set(mask=[[6, 7, 26, 22]]), {"mask_format"}, 1),
    "box beside mask": (_set(box=[40, 25, 55, 38]), {"box_mask"}, 1),
    "repeated id": (_set(id="train0"), {"duplicate_id"}, 1),
    "one object id for two": (_set(object_id="train0-object"), {"duplicate_id"}, 1),
    "empty sentence": (_set(sentence="  "), {"empty_sentence"}, 1),
    "sentence without object": (_set(box=None, mask=None), {"no_object"}, 1),
    "sentence in both splits": (_set(sentence="The val  thing 1"), {"sentence_overlap"}, 0),
    "image in both splits": (_shared_image, {"image_overlap"}, 1),
    "copy of an image": (_copied_image, {"image_overlap"}, 1),
    "object in both splits": (_shared_object, {"image_overlap", "object_overlap"}, 1),
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
    assert report["schema"] == 1 and report["findings"] == sorted(
        report["findings"], key=lambda item: (item["level"], item["kind"], item["split"], item["subject"])
    )


def test_what_cannot_be_read_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.main(["--dataset", "jsonl", "--root", str(tmp_path), "--splits", "train"]) == 2
    assert "train.jsonl" in capsys.readouterr().err
