"""WHU's labels as COCO instances, and the published names of NWPU VHR-10, SSDD and WHU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindground.cli.verbs import main
from mindground.data.formats.registry import find_format
from mindground.data.make.whu import convert_whu
from mindground.errors import DataError, DatasetNotFoundError


def _whu(root: Path, split: str = "train") -> Path:
    """Two tiles: two buildings that touch at a corner and a single pixel; none."""
    label = np.zeros((20, 30), np.uint8)
    label[2:5, 2:6], label[5:9, 6:8], label[15, 20] = 255, 255, 255
    for name, pixels in (("b", np.zeros_like(label)), ("a", label)):
        for folder, values in (("image", np.stack([pixels] * 3, -1)), ("label", pixels)):
            place = root / "imgs" / split / folder
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(place / f"{name}.tif")
    return root


def test_parts_that_touch_at_a_corner_are_two_buildings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _whu(tmp_path / "WHU")
    assert main(["data", "convert-whu", str(root), "--split", "train"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["buildings"], said["empty"]) == (2, 3, 1)
    content = json.loads((root / "annotations" / "WHU_building_train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.tif", "b.tif"]
    assert [item["area"] for item in content["annotations"]] == [12, 8, 1]
    dataset = find_format("whu").read(str(root), "train")
    assert [len(sample.boxes_xyxy) for sample in dataset] == [3, 0] and dataset.categories == {1: "building"}
    assert dataset[0].boxes_xyxy.tolist() == [[2, 2, 6, 5], [6, 5, 8, 9], [20, 15, 21, 16]]
    assert dataset[0].masks((20, 30)).sum((1, 2)).tolist() == [12, 8, 1]
    assert main(["data", "convert-whu", str(root), "--split", "train"]) == 2, "what is there is not replaced"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = _whu(tmp_path)
    with pytest.raises(DatasetNotFoundError, match="imgs/val/image"):
        convert_whu(root, "val")
    (root / "imgs/train/label/a.tif").unlink()
    with pytest.raises(DataError, match=r"a\.tif is missing"):
        convert_whu(root, "train")
    shutil.rmtree(root / "imgs/train/image")
    (root / "imgs/train/image").mkdir()
    with pytest.raises(DatasetNotFoundError, match="holds no"):
        convert_whu(root, "train")


@pytest.mark.parametrize("name", ["nwpu", "ssdd"])
@pytest.mark.parametrize("folder", ["imgs", "images"])
def test_published_names(name: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / folder / "1.png")
    item = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 4, 4], "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
    content = {
        "images": [{"id": 0, "file_name": "1.png", "height": 9, "width": 9}],
        "annotations": [item],
        "categories": [{"id": 1, "name": "ship"}],
    }
    (tmp_path / "annotations" / f"{name.upper()}_instances_val.json").write_text(json.dumps(content))
    found = find_format(name)
    dataset = found.read(str(tmp_path), "val")
    assert len(dataset) == 1 and dataset.kind == "instances" and dataset.name == tmp_path.name
    inspection = found.inspect(str(tmp_path), ["val"])
    assert set(inspection.published["val"]) == {"images", "objects"}


def test_a_coco_set_under_its_usual_names_is_read_as_well(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="instances_val"):
        find_format("nwpu").read(str(tmp_path), "val")
