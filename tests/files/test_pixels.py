"""One image means the same in every type of array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mindground.errors import ImageError
from mindground.files.pixels import array_to_rgb8, to_rgb8


def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "array",
    [
        image().astype(np.float32) / 255,
        image() / 255,
        (image() / 255).astype(np.float16),
        image().astype(np.float32),
        image().astype(np.float64),
        image().astype(np.int64),
        image().astype(np.int32),
        image().astype(np.uint32),
        image().tolist(),
        (image() / 255).tolist(),
        np.asfortranarray(image()),
        image()[:, ::-1][:, ::-1],
    ],
)
def test_the_same_image_in_other_types(array: Any) -> None:
    np.testing.assert_array_equal(array_to_rgb8(array), image())


def test_channels() -> None:
    grey = image()[..., 0]
    np.testing.assert_array_equal(array_to_rgb8(grey), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(array_to_rgb8(grey[..., None] / 255), np.stack([grey] * 3, -1))
    alpha = np.dstack([image(), np.zeros((6, 8), np.uint8)])
    np.testing.assert_array_equal(array_to_rgb8(alpha), image())
    # An alpha channel has no say in what the values mean.
    np.testing.assert_array_equal(array_to_rgb8(np.dstack([image() / 255, np.full((6, 8), 255.0)])), image())
    np.testing.assert_array_equal(array_to_rgb8(image()[..., ::-1], bgr=True), image())
    np.testing.assert_array_equal(array_to_rgb8(image()[..., ::-1] / 255, bgr=True), image())
    blue_first = np.dstack([alpha[..., 2::-1], alpha[..., 3:]])
    np.testing.assert_array_equal(array_to_rgb8(blue_first, bgr=True), image())
    many = np.dstack([np.zeros((6, 8, 4), np.uint8), image()])
    np.testing.assert_array_equal(array_to_rgb8(many, bands=(5, 6, 7)), image())


def test_masks_and_ambiguous_arrays() -> None:
    mask = image()[..., 0] > 99
    np.testing.assert_array_equal(array_to_rgb8(mask), np.stack([mask] * 3, -1) * 255)
    # The type decides: floats of 0 and 1 are a full range, integers of 0 and 1 nearly black.
    np.testing.assert_array_equal(array_to_rgb8(mask.astype(np.float32)), array_to_rgb8(mask))
    np.testing.assert_array_equal(array_to_rgb8(mask.astype(np.int64)), np.stack([mask] * 3, -1))
    assert (array_to_rgb8(np.zeros((2, 2))) == 0).all() and (array_to_rgb8(np.ones((2, 2))) == 255).all()


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int64, np.float32])
def test_what_a_sensor_counts_is_stretched_as_in_files(kind: Any) -> None:
    counts = (image().astype(kind) + 100) * 10
    np.testing.assert_array_equal(array_to_rgb8(counts), to_rgb8(counts))
    assert array_to_rgb8(counts).min() == 0 and array_to_rgb8(counts).max() == 255


def test_sixteen_bits_are_a_sensor_even_where_the_values_are_small() -> None:
    assert array_to_rgb8(np.asarray([[0, 100]], np.uint16))[0, :, 0].tolist() == [0, 255]
    assert array_to_rgb8(np.asarray([[0, 100]], np.int32))[0, :, 0].tolist() == [0, 100]


def test_holes_do_not_count() -> None:
    values = np.array([[0.5, np.nan], [np.inf, 1.0]])
    assert array_to_rgb8(values)[..., 0].tolist() == [[128, 0], [0, 255]]
    assert (array_to_rgb8(np.full((2, 2), np.nan)) == 0).all()


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (np.zeros((4, 4, 2)), {}),
        (np.zeros((4, 4, 5)), {}),
        (np.zeros((1, 3, 4, 4)), {}),
        (np.zeros((0, 4, 3)), {}),
        (np.zeros((4, 4, 3), complex), {}),
        (np.asarray([["a"]]), {}),
        ([[1, 2], [3]], {}),
        (None, {}),
        (np.zeros((4, 4, 5)), {"bands": (1, 2, 6)}),
        (np.zeros((4, 4)), {"bands": (1,)}),
        (np.zeros((4, 4, 3)), {"bands": (1, 2, 3), "bgr": True}),
    ],
)
def test_other_arrays_are_refused(array: Any, options: Any) -> None:
    with pytest.raises(ImageError):
        array_to_rgb8(array, **options)


def test_the_input_is_not_changed() -> None:
    array = image().astype(np.float32)
    array.flags.writeable = False
    array_to_rgb8(array)
    assert not array_to_rgb8(np.zeros((3, 3, 3), np.uint8)).any()
