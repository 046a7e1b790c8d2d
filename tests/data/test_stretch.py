"""The recipe that fills the canvas: each side by its own factor, and exactly back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.transform_support import MEAN, STD, WithTargets, make
from mindground.config import load_config
from mindground.data.transforms import StretchTransform
from mindground.errors import ConfigError
from mindground.structures import Sample, cxcywh_to_xyxy, encode_mask, instance_truth, mask_box
from mindground.text import build_wordpiece

SIDE = 64
WORDS = build_wordpiece(["the left right top bottom white cake"])


def recipe(training: bool, **options: object) -> WithTargets:
    return make(StretchTransform, WORDS, training, **options)


@pytest.fixture
def scene(tmp_path: Path) -> Sample:
    """200 x 100, dark, with a white rectangle in its upper left, which is the referent."""
    mask = np.zeros((100, 200), np.uint8)
    mask[10:40, 20:80] = 1
    Image.fromarray(np.repeat(mask[..., None] * 255, 3, -1)).save(tmp_path / "scene.png")
    return Sample(str(tmp_path / "scene.png"), "s", "i", "the left cake", mask_box(mask)[None], (encode_mask(mask),))


def test_the_picture_fills_the_canvas(scene: Sample) -> None:
    example = recipe(False)(scene, np.random.default_rng(0))
    assert not example.arrays["padding"].any()
    box = cxcywh_to_xyxy(example.arrays["box"])
    np.testing.assert_allclose(box, [20 / 200, 10 / 100, 80 / 200, 40 / 100], atol=1e-6)
    np.testing.assert_allclose(mask_box(example.arrays["mask"][0]), box * SIDE, atol=1.01)
    white = (example.arrays["image"] > 1.9).all(0)
    np.testing.assert_allclose(mask_box(white), box * SIDE, atol=1.01)
    back = example.geometry.boxes_to_original(box * SIDE)
    np.testing.assert_allclose(back[0], scene.boxes_xyxy[0], atol=1e-3)


def test_mirrors_move_box_mask_and_words_alike(scene: Sample) -> None:
    transform, seen = recipe(True, flip_prob=0.5, vertical_flip_prob=0.5), set()
    words = {text: transform.tokenizer([text], 8)[0][0].tolist() for text in ("the left cake", "the right cake")}
    for seed in range(24):
        example = transform(scene, np.random.default_rng(seed))
        box = cxcywh_to_xyxy(example.arrays["box"]) * SIDE
        np.testing.assert_allclose(mask_box(example.arrays["mask"][0]), box, atol=1.01)
        np.testing.assert_allclose(example.geometry.boxes_to_original(box)[0], scene.boxes_xyxy[0], atol=1e-3)
        side = "the right cake" if example.geometry.flipped else "the left cake"
        assert example.arrays["token_ids"].tolist() == words[side]
        seen.add((example.geometry.flipped, example.geometry.upside_down))
    assert len(seen) == 4


def test_what_has_no_room_is_refused() -> None:
    with pytest.raises(ConfigError, match="translate.*belongs to"):
        load_config(None, ["--recipe=stretch", "--translate=true"])


def test_instances_keep_what_is_seen(scene: Sample) -> None:
    """Objects of an image without a sentence: none is left out that is seen, and an empty image stays empty."""
    several = replace(
        scene,
        expression=None,
        boxes_xyxy=np.asarray([[20, 10, 80, 40], [300, 300, 310, 310], [150, 60, 200, 100]], np.float32),
        segmentations=(),
        labels=np.asarray([2, 1, 3]),
    )
    transform = StretchTransform(img_size=SIDE, mean=MEAN, std=STD, truth=instance_truth, training=True, flip_prob=1.0)
    example = transform(several, np.random.default_rng(0))
    assert example.labels.tolist() == [2, 3] and example.masks is None and set(example.arrays) == {"image", "padding"}
    np.testing.assert_allclose(
        example.geometry.boxes_to_original(example.boxes_xyxy), several.boxes_xyxy[[0, 2]], atol=1e-3
    )
    empty = Sample(scene.image_path, "empty", "i")
    example = transform(empty, np.random.default_rng(0))
    assert example.boxes_xyxy.shape == (0, 4) and example.masks is not None
    assert example.masks().shape == (0, SIDE, SIDE)
