"""Files of the everything mode: folders of masks with a table, run lengths as JSON, a figure."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mindground.errors import ImageError, WriteError
from mindground.inference.everything_files import COLUMNS, everything_files
from mindground.visualize.segments import draw_segments, segment_colours
from prompts import ColourSession, save, scene

OBJECTS = ((20, 10, 50, 40), (70, 50, 100, 80))
# Columns of the table that segment-anything's scripts/amg.py writes.
PUBLISHED = (
    "id,area,bbox_x0,bbox_y0,bbox_w,bbox_h,point_input_x,point_input_y,predicted_iou,stability_score,"
    "crop_box_x0,crop_box_y0,crop_box_w,crop_box_h"
)


def find(image: np.ndarray) -> list[dict[str, Any]]:
    return ColourSession(image).everything(points_per_side=4, stability_score_thresh=0.9, output_mode="coco_rle")


def nothing(image: np.ndarray) -> list[dict[str, Any]]:
    return []


def test_a_folder_of_masks_with_their_table(tmp_path: Path) -> None:
    image = scene(objects=OBJECTS)
    path = save(tmp_path / "in" / "port.png", image)
    results = everything_files(find, [path], tmp_path / "out")
    assert results.counts == {str(path): 3} and not results.failures
    folder = tmp_path / "out" / "port"
    assert sorted(p.name for p in folder.iterdir()) == ["0.png", "1.png", "2.png", "metadata.csv"]
    text = (folder / "metadata.csv").read_text("utf-8")
    assert text.splitlines()[0] == PUBLISHED and len(COLUMNS) == 14
    with (folder / "metadata.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    for row in rows:
        mask = np.asarray(Image.open(folder / f"{row['id']}.png"))
        assert mask.dtype == np.uint8 and mask.shape == (90, 120) and set(np.unique(mask)) <= {0, 255}
        y, x = np.nonzero(mask)
        assert int(row["area"]) == len(x)
        assert [int(row[f"bbox_{k}"]) for k in ("x0", "y0")] == [x.min(), y.min()]
        assert [int(row[f"bbox_{k}"]) for k in ("w", "h")] == [x.max() - x.min(), y.max() - y.min()]
        assert 0 <= float(row["point_input_x"]) <= 120 and 0 <= float(row["point_input_y"]) <= 90
        assert float(row["predicted_iou"]) > 0.9 and float(row["stability_score"]) == 1
        assert [int(row[f"crop_box_{k}"]) for k in ("x0", "y0", "w", "h")] == [0, 0, 120, 90]
    assert np.asarray(Image.open(tmp_path / "out" / "port.png")).shape[2] == 3


def test_records_of_sa_1b(tmp_path: Path) -> None:
    paths = [save(tmp_path / "in" / name, scene(objects=OBJECTS)) for name in ("a.png", "b.png")]
    everything_files(find, paths, tmp_path / "out", rle="sa1b")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.json", "a.png", "b.json", "b.png"]
    document = json.loads((tmp_path / "out" / "b.json").read_text())
    assert document["image"] == {"image_id": 2, "width": 120, "height": 90, "file_name": "b.png"}
    keys = {"id", "segmentation", "bbox", "area", "predicted_iou", "stability_score", "crop_box", "point_coords"}
    for number, annotation in enumerate(document["annotations"], 1):
        assert set(annotation) == keys and annotation["id"] == number
        mask = coco_mask.decode(annotation["segmentation"])
        assert mask.shape == (90, 120) and mask.sum() == annotation["area"]
        left, top, width, height = coco_mask.toBbox(annotation["segmentation"]).tolist()
        assert annotation["bbox"] == [left, top, width - 1, height - 1]


def test_pycocotools_reads_the_records(tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "a.png", scene(objects=OBJECTS))
    everything_files(find, [path], tmp_path / "out", rle="records")
    records = json.loads((tmp_path / "out" / "a.json").read_text())
    assert isinstance(records, list) and len(records) == 3
    coco = COCO()
    annotations = [{**r, "id": n, "image_id": 1, "category_id": 1, "iscrowd": 0} for n, r in enumerate(records, 1)]
    coco.dataset = {
        "images": [{"id": 1, "height": 90, "width": 120}], "categories": [{"id": 1}], "annotations": annotations,
    }  # fmt: skip
    coco.createIndex()
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert coco.annToMask(annotation).sum() == annotation["area"]


def test_an_image_without_masks_has_an_empty_table(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", scene())
    everything_files(nothing, [path], tmp_path / "out")
    assert (tmp_path / "out" / "a" / "metadata.csv").read_text() == PUBLISHED + "\n"
    everything_files(nothing, [path], tmp_path / "json", rle="sa1b")
    assert json.loads((tmp_path / "json" / "a.json").read_text())["annotations"] == []


def test_images_of_one_name_and_images_that_cannot_be_read(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a" / "x.png", scene()), save(tmp_path / "b" / "x.png", scene())
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    results = everything_files(find, [bad, first, second], tmp_path / "out")
    assert list(results.failures) == [str(bad)]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"x", "x-2", "x.png", "x-2.png"}


def test_an_image_that_a_network_cannot_take_is_told(tmp_path: Path) -> None:
    def broken(image: np.ndarray) -> list[dict[str, Any]]:
        raise ImageError("too small")

    results = everything_files(broken, [save(tmp_path / "a.png", scene())], tmp_path / "out")
    assert list(results.failures.values()) == [f"{tmp_path / 'a.png'}: too small"]


def test_earlier_results_stay_unless_they_may_go(tmp_path: Path) -> None:
    path, out = save(tmp_path / "a.png", scene(objects=OBJECTS)), tmp_path / "out"
    everything_files(find, [path], out)
    with pytest.raises(WriteError, match="--overwrite"):
        everything_files(nothing, [path], out)
    assert (out / "a" / "2.png").exists()
    everything_files(nothing, [path], out, overwrite=True)
    assert sorted(p.name for p in (out / "a").iterdir()) == ["metadata.csv"]  # no mask of the run before is left


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    path = save(tmp_path / "a" / "0.png", scene(objects=OBJECTS))
    other = save(tmp_path / "a.png", scene())
    with pytest.raises(WriteError, match="input"):
        everything_files(find, [other, path], tmp_path, overwrite=True)
    before = path.read_bytes()
    with pytest.raises(WriteError, match="input"):
        everything_files(nothing, [save(tmp_path / "x" / "a.png", scene()), path], tmp_path, overwrite=True)
    assert path.read_bytes() == before


def test_a_figure_shows_every_mask(tmp_path: Path) -> None:
    image = scene((300, 400), [(40, 40, 200, 200), (60, 60, 100, 100), (250, 100, 390, 280)])
    masks = [record["segmentation"] for record in find(image)]
    figure = draw_segments(image, masks, width=400)
    assert figure.shape == (300, 400, 3) and figure.dtype == np.uint8
    seen = {tuple(figure[y, x]) for y, x in ((20, 20), (150, 60), (80, 80), (200, 320))}
    assert len(seen) == 4  # the small one lies on top of the large one
    edge = figure[40:42, 100].astype(int).sum(1).min()
    assert edge < figure[50, 100].astype(int).sum() / 2  # a dark line
    assert (draw_segments(image, [], width=400) == image).all()
    with pytest.raises(ImageError):
        draw_segments(image[..., 0], masks)


def test_colours_differ() -> None:
    colours = segment_colours(60).astype(int)
    distance = np.abs(colours[:, None] - colours[None]).sum(-1) + 999 * np.eye(60, dtype=int)
    assert distance.min() > 8 and np.array_equal(colours[:5], segment_colours(5))
    near = [np.abs(colours[i] - colours[i + 1]).sum() for i in range(59)]
    assert min(near) > 120
