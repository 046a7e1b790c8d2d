"""Masks as polygons and back, and the parts of a mask."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mindground.structures import decode_segmentation, mask_parts, mask_polygons
from mindground.structures.outlines import MAX_PARTS
from mindground.structures.polygons import MAX_CORNERS


def theirs(polygons: list[list[float]], size: tuple[int, ...]) -> np.ndarray:
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size)))


def test_every_small_mask_comes_back_exactly() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        size = tuple(int(n) for n in rng.integers(1, 18, 2))
        mask = (rng.random(size) < rng.random()).astype(np.uint8)
        polygons = mask_polygons(mask)
        if not mask.any():
            assert polygons is None
            continue
        assert polygons is not None and np.array_equal(theirs(polygons, size), mask)
        assert np.array_equal(decode_segmentation(polygons, size), mask)


def test_a_large_mask_with_holes_and_islands() -> None:
    y, x = np.mgrid[:700, :900]
    far = np.hypot(y - 350, x - 400)
    mask = ((far < 300) & (far > 200)) | (far < 80)
    mask &= np.hypot(y - 350, x - 420) > 15
    mask |= np.hypot(y - 100, x - 800) < 60
    polygons = mask_polygons(mask)
    assert polygons is not None and len(polygons) == 3
    assert np.array_equal(theirs(polygons, mask.shape), mask)


def test_a_square_is_its_four_corners() -> None:
    mask = np.zeros((9, 9), np.uint8)
    mask[2:5, 3:7] = 1
    assert mask_polygons(mask) == [[3, 2, 7, 2, 7, 5, 3, 5]]
    assert mask_polygons(np.ones((2, 3))) == [[0, 0, 3, 0, 3, 2, 0, 2]]


@pytest.mark.parametrize(
    ("mask", "corners", "parts"),
    [(np.indices((400, 400)).sum(0) % 2, 320_000, 0), (np.indices((210, 210)).sum(0) % 2, 0, 22_050)],
    ids=["corners", "parts"],
)
def test_noise_is_too_much_for_polygons(mask: np.ndarray, corners: int, parts: int) -> None:
    assert corners > MAX_CORNERS or parts > MAX_PARTS
    assert mask_polygons(mask) is None


def test_cuts_to_very_many_holes_are_too_long() -> None:
    mask = np.ones((301, 301), np.uint8)
    mask[1::2, 1::2] = 0
    assert 4 * (150 * 150) < MAX_CORNERS and mask_polygons(mask) is None


def test_parts_touch_at_corners_and_the_largest_is_first() -> None:
    mask = np.zeros((10, 12), np.uint8)
    mask[0, 0] = mask[1, 1] = 1
    mask[4:8, 5:9] = 1
    mask[9, 11] = 1
    parts = mask_parts(mask)
    assert [(part.area, part.box_xyxy.tolist()) for part in parts] == [
        (16, [5, 4, 9, 8]),
        (2, [0, 0, 2, 2]),
        (1, [11, 9, 12, 10]),
    ]
    assert [part.area for part in mask_parts(mask, 2)] == [16, 2] and mask_parts(np.zeros((3, 3))) == []
