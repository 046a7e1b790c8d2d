"""Geometry there and back, augmentation that keeps the referent, and what a sentence becomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.transform_support import WithTargets, make
from mindground.data.transforms import (
    Crop,
    ReferentWindowTransform,
    TransformParams,
    crop_ranges,
    draw_window_params,
    resized_size,
    window_geometry,
)
from mindground.errors import DataError
from mindground.structures import Sample, cxcywh_to_xyxy, encode_mask, mask_box, referent_truth
from mindground.text import build_wordpiece

SIDE = 64
WORDS = build_wordpiece(["the left right white cake"])
sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))


def recipe(training: bool, **options: object) -> WithTargets:
    return make(ReferentWindowTransform, WORDS, training, **options)


def scene(tmp_path: Path, text: str = "the left cake", height: int = 60, width: int = 80) -> Sample:
    """Grey noise with a white rectangle, which is the referent."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 100, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[20:44, 8:32] = 1
    image[mask == 1] = 255
    Image.fromarray(image).save(tmp_path / "scene.png")
    box = mask_box(mask)[None]
    return Sample(str(tmp_path / "scene.png"), "s", "i", text, box, (encode_mask(mask),), size=(height, width))


@given(sizes, st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_boxes_and_points_come_back(shape: tuple[int, int], seed: int, scales: bool, translate: bool) -> None:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.random((2, 2)), 0) * (shape[1], shape[0])
    box = corners.reshape(-1)
    params = draw_window_params(rng, shape, box, "a white cake", img_size=SIDE, multi_scale=scales, translate=translate)
    geometry = window_geometry(params, shape, SIDE)
    canvas = geometry.boxes_to_canvas(box[None])
    assert canvas.min() >= -0.51 and canvas.max() <= SIDE + 0.51, "the referent lies on the canvas"
    np.testing.assert_allclose(geometry.boxes_to_original(canvas)[0], box, atol=0.02)
    points = np.asarray([[corners[0, 0], corners[0, 1]] * 2])  # a box without area is a point
    np.testing.assert_allclose(geometry.boxes_to_original(geometry.boxes_to_canvas(points)), points, atol=0.02)


@given(sizes, st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_resized_sides(shape: tuple[int, int], size: int) -> None:
    (height, width), scale = resized_size(shape, size)
    assert max(height, width) == size and min(height, width) >= 1
    assert abs(height - shape[0] * scale[1]) <= 0.5 and abs(width - shape[1] * scale[0]) <= 0.5


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (63, 65), (64, 64)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("upside_down", [False, True])
def test_masks_come_back(shape: tuple[int, int], flip: bool, upside_down: bool) -> None:
    mask = np.zeros(shape, np.uint8)
    mask[: -(-shape[0] // 2), : -(-shape[1] // 2)] = 1
    box = np.asarray([[0, 0, -(-shape[1] // 2), -(-shape[0] // 2)]], np.float32)
    sample = Sample("x", "s", "i", "cake", box, (encode_mask(mask),))
    image = np.repeat(mask[..., None] * 255, 3, -1).astype(np.uint8)
    example = recipe(True).apply(
        TransformParams(SIDE, flip=flip, upside_down=upside_down), sample, image, referent_truth(sample)
    )
    back = example.geometry.map_to_original(example.arrays["mask"][0]) > 0.5
    assert back.shape == shape
    pixel = max(1, max(shape) / SIDE)  # of the canvas, in original pixels
    rows, columns = np.nonzero(back != mask)
    near_edge = (abs(rows + 0.5 - box[0, 3]) <= pixel) | (abs(columns + 0.5 - box[0, 2]) <= pixel)
    assert near_edge.all(), "only pixels on the edge may differ"
    np.testing.assert_allclose(
        example.geometry.boxes_to_original(cxcywh_to_xyxy(example.arrays["box"])[None] * SIDE), box, atol=0.02
    )


def test_evaluation_is_centred_and_draws_nothing(tmp_path: Path) -> None:
    transform = recipe(False, translate=True, multi_scale=True, flip_prob=1.0)
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    example = transform(scene(tmp_path), rng)
    assert rng.bit_generator.state == before
    assert example.geometry.offset == (0, 8) and not example.geometry.flipped
    image = example.arrays["image"]
    assert not image[:, :8].any() and not image[:, 56:].any() and image[:, 8:56].any(0).all()
    assert {k: (v.shape, v.dtype.name) for k, v in example.arrays.items()} == {
        "image": ((3, SIDE, SIDE), "float32"),
        "padding": ((SIDE, SIDE), "uint8"),
        "token_ids": ((8,), "int32"),
        "token_mask": ((8,), "int32"),
        "box": ((4,), "float32"),
        "mask": ((1, SIDE, SIDE), "float32"),
        "has_mask": ((1,), "float32"),
    }


def test_normalisation(tmp_path: Path) -> None:
    transform = recipe(False, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.125])
    example = transform.from_image(np.full((SIDE, SIDE, 3), 51, np.uint8), "cake")
    np.testing.assert_allclose(example.arrays["image"][:, 5, 5], [0.2, 0.0, -0.8], atol=1e-6)
    assert set(example.arrays) == {"image", "padding", "token_ids", "token_mask"}


def test_training_keeps_image_mask_box_and_sentence_together(tmp_path: Path) -> None:
    sample = scene(tmp_path, "the white cake")
    transform = recipe(True, multi_scale=True, translate=True, vertical_flip_prob=0.5)
    seen = {"flipped": set(), "upside_down": set(), "cropped": set(), "offset": set()}
    for seed in range(60):
        example = transform(sample, np.random.default_rng(seed))
        mask, box = example.arrays["mask"][0], cxcywh_to_xyxy(example.arrays["box"]) * SIDE
        np.testing.assert_allclose(mask_box(mask), box, atol=1.01)
        assert box.min() >= 0 and box.max() <= SIDE
        white = (example.arrays["image"] > 1.9).all(0)
        assert np.count_nonzero(white & (mask > 0)) > 0.6 * mask.sum() and not (white & (mask == 0)).sum() > 20
        seen["flipped"].add(example.geometry.flipped)
        seen["upside_down"].add(example.geometry.upside_down)
        seen["cropped"].add(max(example.geometry.resized_size) > SIDE)
        seen["offset"].add(example.geometry.offset)
    assert seen["flipped"] == seen["upside_down"] == seen["cropped"] == {True, False} and len(seen["offset"]) > 10


def test_same_generator_same_arrays(tmp_path: Path) -> None:
    sample = scene(tmp_path)
    transform = recipe(True, multi_scale=True, translate=True)
    first, again = (transform(sample, np.random.default_rng(5)) for _ in range(2))
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])


def test_sentence_follows_the_mirror(tmp_path: Path) -> None:
    sample = scene(tmp_path, "the left cake")
    transform = recipe(True, flip_prob=1.0)
    example = transform(sample, np.random.default_rng(0))
    np.testing.assert_array_equal(example.arrays["token_ids"], WORDS(["the right cake"], 8)[0][0])
    assert example.geometry.flipped and example.arrays["box"][0] == pytest.approx(1 - 20 / 80)
    assert example.sample.expression == "the left cake"


def test_sentence_follows_the_mirror_from_top_to_bottom(tmp_path: Path) -> None:
    sample = scene(tmp_path, "the left cake at the top")
    transform = recipe(True, flip_prob=0.0, vertical_flip_prob=1.0)
    example = transform(sample, np.random.default_rng(0))
    upright = recipe(False)(sample, np.random.default_rng(0))
    np.testing.assert_array_equal(example.arrays["token_ids"], WORDS(["the left cake at the bottom"], 8)[0][0])
    assert example.geometry.upside_down and not example.geometry.flipped
    # On a canvas that is symmetric about its middle the whole image, mask and box are mirrored.
    np.testing.assert_allclose(example.arrays["image"], upright.arrays["image"][:, ::-1], atol=1e-5)
    np.testing.assert_array_equal(example.arrays["mask"], upright.arrays["mask"][:, ::-1])
    assert example.arrays["box"][1] == pytest.approx(1 - upright.arrays["box"][1])


def test_words_of_place_forbid_cutting() -> None:
    def drawn(text: str) -> list[TransformParams]:
        box, options = np.asarray([30.0, 30, 50, 50]), {"img_size": SIDE, "multi_scale": True}
        return [draw_window_params(np.random.default_rng(s), (80, 80), box, text, **options) for s in range(80)]

    plain, placed = drawn("a cake"), drawn("the left cake")
    assert any(params.crop for params in plain) and not any(params.crop for params in placed)
    assert max(params.size for params in placed) == SIDE and min(params.size for params in placed) < SIDE


def test_windows_keep_the_whole_box() -> None:
    assert crop_ranges(np.asarray([20.2, 30, 70.5, 90]), (100, 120), 64) == ((7, 20), (26, 30))
    assert crop_ranges(np.asarray([0, 0, 65, 10]), (100, 120), 64) is None
    assert crop_ranges(np.asarray([5, 5, 9, 9]), (40, 30), 64) == ((0, 0), (0, 0))


def test_a_mirrored_window() -> None:
    geometry = window_geometry(TransformParams(96, Crop(5, 7, 64, 64), flip=True), (96, 96), SIDE)
    # The window's left edge is its right edge after mirroring.
    np.testing.assert_allclose(geometry.boxes_to_canvas([[5, 7, 10, 9]]), [[59, 0, 64, 2]])
    geometry = window_geometry(TransformParams(96, Crop(5, 7, 64, 64), upside_down=True), (96, 96), SIDE)
    np.testing.assert_allclose(geometry.boxes_to_canvas([[5, 7, 10, 9]]), [[0, 62, 5, 64]])
    np.testing.assert_allclose(geometry.boxes_to_original([[0, 62, 5, 64]]), [[5, 7, 10, 9]])


def test_box_only_data(tmp_path: Path) -> None:
    full = scene(tmp_path)
    bare = Sample(full.image_path, "s", "i", "cake", full.boxes_xyxy)
    arrays = recipe(True)(bare, np.random.default_rng(0)).arrays
    assert arrays["has_mask"].tolist() == [0] and not arrays["mask"].any()


def test_a_mask_that_nobody_asks_for_is_not_drawn(tmp_path: Path) -> None:
    drawn: list[object] = []
    lazy = make(
        ReferentWindowTransform,
        WORDS,
        True,
        truth=lambda sample: replace(referent_truth(sample), masks=drawn.append),
    )
    lazy.transform(scene(tmp_path), np.random.default_rng(0))
    assert not drawn


@pytest.mark.parametrize("box", [[90, 10, 120, 20], [10, 10, 10, 20], [np.nan, 0, 5, 5]])
def test_impossible_boxes_are_named(tmp_path: Path, box: list[float]) -> None:
    sample = Sample(scene(tmp_path).image_path, "ref-7", "i", "cake", np.asarray([box]))
    with pytest.raises(DataError, match="ref-7"):
        recipe(False)(sample, np.random.default_rng(0))


def test_no_box_or_no_sentence(tmp_path: Path) -> None:
    full = scene(tmp_path)
    for sample in (Sample(full.image_path, "s", "i", "cake"), Sample(full.image_path, "s", "i", None, full.boxes_xyxy)):
        with pytest.raises(DataError, match="'s'"):
            recipe(False)(sample, np.random.default_rng(0))


def test_sizes_that_disagree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full = scene(tmp_path)
    mask = encode_mask(np.pad(np.ones((24, 24), np.uint8), ((20, 17), (8, 48))))  # 61 x 80
    near = Sample(full.image_path, "near", "i", "cake", full.boxes_xyxy, (mask,), size=(61, 80))
    example = recipe(False)(near, np.random.default_rng(0))
    assert example.arrays["mask"].sum() > 0 and example.geometry.original_size == (60, 80)
    assert "80 x 60" in caplog.text and "80 x 61" in caplog.text
    far = Sample(full.image_path, "far", "i", "cake", full.boxes_xyxy, size=(600, 800))
    with pytest.raises(DataError, match="far.*80 x 60.*800 x 600"):
        recipe(False)(far, np.random.default_rng(0))


def test_annotations_made_before_exif_turned_the_image(tmp_path: Path) -> None:
    full, exif = scene(tmp_path), Image.Exif()
    exif[0x0112] = 6
    Image.open(full.image_path).save(tmp_path / "turned.png", exif=exif)
    turned = Sample(str(tmp_path / "turned.png"), "s", "i", "cake", full.boxes_xyxy, full.segmentations, size=(60, 80))
    transform = recipe(False)
    a, b = (transform(sample, np.random.default_rng(0)).arrays for sample in (full, turned))
    np.testing.assert_array_equal(a["image"], b["image"])


def test_image_is_resized_as_opencv_does(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    example = recipe(False, mean=[0.0] * 3, std=[1 / 255] * 3).from_image(image, "cake")
    expected = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(example.arrays["image"].transpose(1, 2, 0), expected, atol=1e-3)
