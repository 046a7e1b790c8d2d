"""COCO instance files: one sample an image, every object, no expression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mindground.config import DataConfig
from mindground.data import build_dataset
from mindground.data.formats.coco import read_coco
from mindground.errors import DataError, DatasetNotFoundError
from mindground.structures import decode_segmentation


def _content() -> dict[str, Any]:
    outline = [[1, 1, 5, 1, 5, 5, 1, 5]]
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 10, "width": 12} for i in range(2)],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 3, "bbox": [1, 1, 4, 4], "segmentation": outline, "iscrowd": 0},
            {"id": 2, "image_id": 0, "category_id": 5, "bbox": [2, 2, 3, 3], "segmentation": [], "iscrowd": 0},
            {"id": 3, "image_id": 0, "category_id": 5, "bbox": [0, 0, 9, 9], "segmentation": outline, "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "ship"}, {"id": 5, "name": "car"}],
    }


def _place(root: Path, name: str, images: str, content: dict[str, Any] | None = None) -> str:
    (root / images).mkdir(parents=True)
    (root / images / "0.png").touch()
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content or _content()))
    return str(root)


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("annotations/instances_val.json", "images"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/val.json", "images/val"),
        ("instances_val.json", "."),
    ],
)
def test_usual_layouts(tmp_path: Path, name: str, images: str) -> None:
    root = _place(tmp_path / "my set", name, images)
    dataset = build_dataset(DataConfig(dataset="coco", root=root), "val")
    assert dataset.kind == "instances" and len(dataset) == 2 and dataset.categories == {3: "ship", 5: "car"}
    first, second = dataset
    assert Path(first.image_path).is_file() and first.expression is None and first.size == (10, 12)
    # The crowd region is no instance, and is kept as a region in which nothing counts.
    (crowd,) = first.ignored
    assert crowd.box_xyxy.tolist() == [0, 0, 9, 9] and crowd.label == 5 and crowd.mask((10, 12)).sum() == 16
    assert second.ignored == ()
    assert first.boxes_xyxy.tolist() == [[1, 1, 5, 5], [2, 2, 5, 5]] and first.labels.tolist() == [3, 5]
    assert first.object_ids == ("1", "2") and not first.has_masks and first.segmentations[0] is not None
    assert len(second.boxes_xyxy) == 0 and second.masks((10, 12)).shape == (0, 10, 12)


def test_a_single_file_and_an_image_root(tmp_path: Path) -> None:
    root = _place(tmp_path, "a/b/mine.json", "photos")
    assert len(read_coco(str(Path(root) / "a/b/mine.json"), "train", str(tmp_path / "photos"))) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": [{"id": 9, "image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, "id 9.*image 7"),
        ({"annotations": [{"id": 9, "image_id": 0, "category_id": 4, "bbox": [0, 0, 1, 1]}]}, "category 4"),
        ({"annotations": [{"id": 9, "image_id": 0, "category_id": 3, "bbox": [0, 0, 1]}]}, "id 9.: 'bbox' is"),
        ({"annotations": [{"id": 9, "image_id": 0, "category_id": 3}]}, "neither bbox nor segmentation"),
        ({"annotations": [{"id": 9, "image_id": 0}]}, "lacks 'category_id'"),
        ({"images": [{"id": 0, "height": 10, "width": 12}]}, "lacks 'file_name'"),
    ],
)
def test_records_that_point_nowhere(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    root = _place(tmp_path, "val.json", "images", {**_content(), **change})
    with pytest.raises(DataError, match=message):
        read_coco(root, "val")


def test_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="instances_train.json"):
        read_coco(str(tmp_path), "train")
    root = _place(tmp_path, "annotations/instances_val.json", "images")
    with pytest.raises(DatasetNotFoundError, match="it holds annotations/instances_val.json"):
        read_coco(root, "train")
    (tmp_path / "images" / "0.png").unlink()
    with pytest.raises(DatasetNotFoundError, match="'0.png' is in none of.*data.image_root"):
        read_coco(root, "val")


def test_an_outline_of_polygons_and_run_lengths_is_united() -> None:
    square = [1, 1, 5, 1, 5, 5, 1, 5]
    column = {"size": [10, 12], "counts": [100, 10, 10]}
    apart = decode_segmentation([square], (10, 12)) | decode_segmentation(column, (10, 12))
    assert apart[:, 10].all() and apart[1:5, 1:5].all() and apart.sum() == 26
    for parts in ([square, column], [column, square]):
        assert (decode_segmentation(parts, (10, 12)) == apart).all()
    # A part of two points encloses nothing; where nothing else is there, the object has no outline that could be drawn.
    assert (decode_segmentation([column, square[:4], square], (10, 12)) == apart).all()
    with pytest.raises(DataError, match="three"):
        decode_segmentation([square[:4], square[:2]], (10, 12))
