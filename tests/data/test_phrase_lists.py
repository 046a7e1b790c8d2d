"""RefSegRS and RISBench: layouts, lazy masks, hostile lines, REFER files in their place."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindground.cli.data import check as tool
from mindground.cli.exit_codes import run_command
from mindground.config import DataConfig, ReferConfig
from mindground.data import build_dataset, inspect_dataset
from mindground.data.formats.jsonl import read_jsonl, write_dataset
from mindground.data.formats.registry import find_format
from mindground.data.shuffle import shuffle_expressions
from mindground.errors import DataError, DatasetNotFoundError
from mindground.structures import MaskFile, referent_mask

# Folders below the root, images, masks, ending of the images, ending of the masks, and how a list names an image.
LAYOUTS = {
    "refsegrs": ("RefSegRS", "images", "masks", ".tif", ".tif", ""),
    "refsegrs flat": ("", "images", "masks", ".png", ".png", ""),
    "risbench": ("RISBench_dataset", "img_rgb", "mask", ".png", ".png", ".png"),
    "risbench renamed": ("", "images", "masks", ".jpg", ".png", ".jpg"),
}
SPLITS = {"train": (0, 1, 2), "val": (3,), "test": (4, 5)}


def _mask(number: int) -> np.ndarray:
    mask = np.zeros((40, 50), np.uint8)
    mask[5 + number : 20, 7:30] = 1 + number
    return mask


def make(root: Path, layout: str) -> Path:
    """The folder with the lists."""
    below, images, masks, ending, mask_ending, named = LAYOUTS[layout]
    home = root / below
    (home / images).mkdir(parents=True)
    (home / masks).mkdir()
    rng = np.random.default_rng(0)
    for split, numbers in SPLITS.items():
        for number in numbers:
            pixels = rng.integers(0, 255, (40, 50, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(home / images / f"1_{number}{ending}")
            Image.fromarray(_mask(number)).save(home / masks / f"1_{number}{mask_ending}")
        lines = "".join(f"1_{number}{named} the road {number} in {split}\n" for number in numbers)
        (home / f"output_phrase_{split}.txt").write_text(lines)
    return home


def _config(layout: str, root: Path, **more: Any) -> DataConfig:
    return DataConfig(dataset=layout.split()[0], root=str(root), **more)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read_checked_and_fingerprinted(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, layout)
    dataset = build_dataset(_config(layout, tmp_path), "train")
    assert dataset.sentences() == [f"the road {number} in train" for number in (0, 1, 2)]
    assert np.array_equal(dataset[1].masks((40, 50))[0], _mask(1) > 0)
    assert dataset[1].boxes_xyxy.tolist() == [[7, 6, 30, 20]] and dataset[1].has_masks
    reports = []
    for place in ("first", "second"):
        out = tmp_path / f"{place}.json"
        arguments = ["--dataset", layout.split()[0], "--root", str(tmp_path), "--out", str(out)]
        assert run_command(tool.main, arguments) == 0
        reports.append(json.loads(out.read_text()))
    assert reports[0] == reports[1] and reports[0]["errors"] == 0
    assert {name: counts["expressions"] for name, counts in reports[0]["splits"].items()} == {
        "train": 3, "val": 1, "test": 2,
    }  # fmt: skip
    assert len({reports[0]["fingerprints"][name] for name in SPLITS}) == 3
    assert reports[0]["fingerprints"]["train"][:12] in capsys.readouterr().out
    home = next(tmp_path.rglob("output_phrase_train.txt"))
    home.write_text(home.read_text().replace("road 1", "roof 1"))
    assert run_command(tool.main, [*arguments, "--overwrite"]) == 0
    assert json.loads(out.read_text())["fingerprints"]["train"] != reports[0]["fingerprints"]["train"]


def test_published_counts() -> None:
    counts = {name: find_format(name).published for name in ("refsegrs", "risbench", "rrsisd")}
    assert [c["expressions"] for c in counts["refsegrs"][""].values()] == [2172, 431, 1817]
    assert [c["expressions"] for c in counts["risbench"][""].values()] == [26300, 10013, 16159]
    assert [c["expressions"] for c in counts["rrsisd"]["unc"].values()] == [12181, 1740, 3481]
    totals = [sum(c["expressions"] for c in next(iter(found.values())).values()) for found in counts.values()]
    assert totals == [4420, 52472, 17402]


def test_no_mask_is_opened_before_it_is_asked_for(tmp_path: Path) -> None:
    home = make(tmp_path, "refsegrs")
    for path in (home / "masks").iterdir():
        path.write_bytes(b"no image")
    dataset = build_dataset(_config("refsegrs", tmp_path), "train")
    dataset.require_referents()
    sample = dataset[0].with_expression("another")
    assert sample.has_masks and sample.expression == "another" and isinstance(sample.segmentations[0], MaskFile)
    for ask in (lambda: dataset[0].boxes_xyxy, lambda: sample.masks((40, 50))):
        with pytest.raises(DataError, match=r"1_0\.tif"):
            ask()


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        (b"1_1", "record_format", "<image> <expression>"),
        (b"1_1   ", "record_format", "<image> <expression>"),
        (b"1_9 the road", "missing_image", "holds no image '1_9'"),
        (b"../images/1_1 the road", "missing_image", "holds no image"),
        (b"/dev/zero the road", "missing_image", "holds no image"),
        (b"pipe the road", "missing_image", "holds no image"),
        (b"1_1 caf\xe9", "record_format", "no UTF-8 text"),
        (b"1_1 the\x00road", "record_format", "<image> <expression>"),
        (b"1_1 " + b"a" * 20000, "record_format", "20004 bytes"),
    ],
)
def test_hostile_lines(line: bytes, kind: str, says: str, tmp_path: Path) -> None:
    home = make(tmp_path, "refsegrs")
    os.mkfifo(home / "images" / "pipe.tif")
    path = home / "output_phrase_train.txt"
    path.write_bytes(b"1_0 the first road\n" + line + b"\n1_2 the last road\n")
    with pytest.raises(DataError, match=f"line 2.*{says}") as caught:
        build_dataset(_config("refsegrs", tmp_path), "train")
    assert "\n" not in str(caught.value) and "\x00" not in str(caught.value)
    inspection = inspect_dataset(_config("refsegrs", tmp_path), ["train"])
    assert inspection.datasets[0].sentences() == ["the first road", "the last road"]
    assert [defect.kind for defect in inspection.defects] == [kind]
    assert run_command(tool.main, ["--dataset", "refsegrs", "--root", str(tmp_path)]) == 1


def _missing(masks: Path) -> None:
    (masks / "1_1.tif").unlink()


def _pipe(masks: Path) -> None:
    _missing(masks)
    os.mkfifo(masks / "1_1.tif")


def _cut(masks: Path) -> None:
    (masks / "1_1.tif").write_bytes((masks / "1_1.tif").read_bytes()[:200])


def _empty(masks: Path) -> None:
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(masks / "1_1.tif")


def _deep(masks: Path) -> None:
    Image.fromarray(np.ones((40, 50), np.uint16)).save(masks / "1_1.tif")


def _twice(masks: Path) -> None:
    Image.fromarray(_mask(1)).save(masks / "1_1.bmp")
    (masks / "1_1.tif").rename(masks / "1_1.png")


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (_missing, "missing_mask"),
        (_pipe, "missing_mask"),
        (_twice, "missing_mask"),
        (_cut, "mask_format"),
        (_deep, "mask_format"),
        (_empty, "empty_mask"),
    ],
)
def test_masks_that_cannot_be_used(spoil: Any, kind: str, tmp_path: Path) -> None:
    home = make(tmp_path, "refsegrs")
    spoil(home / "masks")
    inspection = inspect_dataset(_config("refsegrs", tmp_path), ["train"])
    assert [(defect.kind, defect.serious) for defect in inspection.defects] == [(kind, True)]
    assert "line 2" in inspection.defects[0].subject and len(inspection.datasets[0]) == 2


def test_masks_of_another_size_are_resized_and_named(tmp_path: Path) -> None:
    home = make(tmp_path, "refsegrs")
    for number, size in ((0, (40, 51)), (1, (40, 80))):
        Image.fromarray(np.pad(_mask(number), ((0, 0), (0, size[1] - 50)))).save(home / "masks" / f"1_{number}.tif")
    dataset = build_dataset(_config("refsegrs", tmp_path), "train")
    assert dataset[0].masks((40, 50)).shape == (1, 40, 50)
    with pytest.raises(DataError, match=r"1_1\.tif' is 80 x 40, its image 50 x 40"):
        dataset[1].masks((40, 50))
    out = tmp_path / "report.json"
    arguments = ["--dataset", "refsegrs", "--root", str(tmp_path), "--splits", "train", "--out", str(out)]
    assert run_command(tool.main, arguments) == 1
    found = {(entry["kind"], entry["subject"]) for entry in json.loads(out.read_text())["findings"]}
    assert {("mask_size", "object 1_0.tif"), ("mask_format", "object 1_1.tif")} <= found


def test_blank_lines_marks_and_windows_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = make(tmp_path, "refsegrs")
    content = "\ufeff1_0 the road\r\n \r\n1_1\tthe  caf\u00e9\r\n"
    (home / "output_phrase_train.txt").write_bytes(content.encode())
    assert build_dataset(_config("refsegrs", tmp_path), "train").sentences() == ["the road", "the  caf\u00e9"]
    assert "lines without text are left out" in caplog.text


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match=r"output_phrase_train\.txt of refsegrs.*RefSegRS/"):
        build_dataset(_config("refsegrs", tmp_path), "train")
    home = make(tmp_path, "refsegrs")
    with pytest.raises(DatasetNotFoundError, match=r"output_phrase_dev\.txt.*output_phrase_test\.txt"):
        build_dataset(_config("refsegrs", tmp_path), "dev")
    (home / "masks").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetNotFoundError, match=r"masks.*data\.mask_path"):
        build_dataset(_config("refsegrs", tmp_path), "train")
    moved = _config("refsegrs", tmp_path, mask_path=str(tmp_path / "elsewhere"))
    assert build_dataset(moved, "train")[0].boxes_xyxy.tolist() == [[7, 5, 30, 20]]


def test_risbench_as_a_refer_set(tmp_path: Path) -> None:
    folder = tmp_path / "risbench"
    folder.mkdir()
    sentences = [{"sent_id": 0, "sent": "a ship", "raw": "A ship.", "tokens": ["a", "ship"]}]
    ref = {"ref_id": 1, "ann_id": 2, "image_id": 3, "category_id": 1, "split": "train", "sentences": sentences}
    annotation = {"id": 2, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 4, 2, 4, 6]]}
    images = [{"id": 3, "file_name": "a.png", "height": 9, "width": 9}]
    instances = {"images": images, "annotations": [annotation], "categories": [{"id": 1, "name": "ship"}]}
    (folder / "refs(unc).p").write_bytes(pickle.dumps([ref], protocol=2))
    (folder / "instances.json").write_text(json.dumps(instances))
    (tmp_path / "img_rgb").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "img_rgb" / "a.png")
    dataset = build_dataset(_config("risbench", tmp_path), "train")
    raw = build_dataset(_config("risbench", tmp_path, refer=ReferConfig(sentence="raw")), "train")
    assert raw.sentences() == ["A ship."]
    assert dataset.sentences() == ["a ship"] and Path(dataset[0].image_path).is_file()


def test_written_as_json_lines_it_is_the_same_set(tmp_path: Path) -> None:
    make(tmp_path / "set", "risbench")
    dataset = build_dataset(_config("risbench", tmp_path / "set"), "test")
    write_dataset(tmp_path / "lines", [dataset])
    again = read_jsonl(str(tmp_path / "lines"), "test")
    assert again.sentences() == dataset.sentences()
    for one, two in zip(dataset, again, strict=True):
        assert np.array_equal(one.masks((40, 50)), two.masks((40, 50))) and one.object_ids == two.object_ids
        assert np.array_equal(one.boxes_xyxy, two.boxes_xyxy)
        assert np.array_equal(referent_mask(replace(one, size=(40, 50)), (40, 50)), two.masks((40, 50))[0])


def test_exchanged_sentences_open_no_mask(tmp_path: Path) -> None:
    home = make(tmp_path, "refsegrs")
    for path in (home / "masks").iterdir():
        path.write_bytes(b"no image")
    dataset = build_dataset(_config("refsegrs", tmp_path), "train")
    exchanged = shuffle_expressions(dataset)
    assert exchanged.sentences() != dataset.sentences()
