"""Large-scale jitter of instances: what is kept, what is dropped, and another sample where nothing is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mindground.data.dataset import Dataset
from mindground.data.loader import Loader
from mindground.data.transforms.base import Crop, NothingLeft
from mindground.data.transforms.scale_jitter import ScaleJitterParams, ScaleJitterTransform
from mindground.errors import DataError
from mindground.structures import Sample, encode_mask, instance_truth

SIDE = 32


def _sample(folder: Path, name: str, boxes: list[list[int]], pixels: list[list[int]] | None = None) -> Sample:
    """Objects with boxes, whose masks are rectangles, or those of `pixels`."""
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(folder / f"{name}.png")
    outlines = []
    for left, top, right, bottom in pixels or boxes:
        mask = np.zeros((40, 60), np.uint8)
        mask[top:bottom, left:right] = 1
        outlines.append(encode_mask(mask))
    boxes_array = np.asarray(boxes, np.float32).reshape(-1, 4)
    path = str(folder / f"{name}.png")
    return Sample(path, name, name, None, boxes_array, tuple(outlines), np.arange(len(boxes)), (40, 60))


def _transform(**keys: float) -> ScaleJitterTransform:
    common = {"mean": (0, 0, 0), "std": (1, 1, 1), "truth": instance_truth, "training": True}
    return ScaleJitterTransform(img_size=SIDE, **common, **keys)


def _cut(sample: Sample, crop: Crop) -> object:
    image = np.zeros((40, 60, 3), np.uint8)
    params = ScaleJitterParams(SIDE, crop, resized=(40, 60))
    return _transform().apply(params, sample, image, instance_truth(sample))


def test_boxes_follow_from_what_is_left_of_the_masks(tmp_path: Path) -> None:
    sample = _sample(tmp_path, "a", [[0, 0, 10, 10], [20, 10, 40, 30], [50, 30, 60, 40]])
    example = _cut(sample, Crop(5, 5, SIDE, SIDE))
    assert example.boxes_xyxy.tolist() == [[0, 0, 5, 5], [15, 5, 32, 25]] and example.labels.tolist() == [0, 1]
    assert example.masks().sum((1, 2)).tolist() == [25, 17 * 20]


def test_a_window_without_objects_is_kept_and_one_that_hides_all_is_not(tmp_path: Path) -> None:
    empty = _cut(_sample(tmp_path, "a", [[50, 34, 60, 40]]), Crop(0, 0, SIDE, SIDE))
    assert empty.boxes_xyxy.shape == (0, 4) and empty.masks().shape == (0, SIDE, SIDE)
    hidden = _sample(tmp_path, "b", [[0, 0, 60, 40]], [[50, 30, 60, 40]])
    with pytest.raises(NothingLeft):
        _cut(hidden, Crop(0, 0, SIDE, SIDE))


def test_the_loader_takes_another_sample(tmp_path: Path) -> None:
    hidden = [_sample(tmp_path, f"h{n}", [[0, 0, 60, 40]], [[59, 39, 60, 40]]) for n in range(3)]
    seen = _sample(tmp_path, "seen", [[0, 0, 60, 40]])
    transform = _transform(jitter_min=2.0, jitter_max=2.0, flip_prob=0.0)
    transform.draw_params = lambda *_: ScaleJitterParams(SIDE, Crop(0, 0, SIDE, SIDE), resized=(40, 60))
    loaded = [
        [sample.sample_id for batch in Loader(Dataset([*hidden, seen], kind="instances"), transform, 2, training=True,
         seed=3, workers=workers).epoch(0) for sample in batch.samples]
        for workers in (0, 2)
    ]  # fmt: skip
    assert loaded[0] == loaded[1] == ["seen"] * 4
    with pytest.raises(DataError, match="hid all objects"):
        list(Loader(Dataset(hidden, kind="instances"), transform, 1, training=True, seed=3, workers=0).epoch(0))


def test_draws_stay_inside_the_image() -> None:
    transform, rng = _transform(), np.random.default_rng(0)
    sizes = set()
    for _ in range(300):
        params = transform.draw_params(rng, (40, 60), np.zeros((0, 4)), "")
        height, width = params.resized
        crop = params.crop
        assert crop.left + crop.width <= width and crop.top + crop.height <= height
        assert crop.width == min(SIDE, width) and 1 <= width <= 2 * SIDE
        sizes.add(width)
    assert min(sizes) <= 0.2 * SIDE and max(sizes) >= 1.9 * SIDE
