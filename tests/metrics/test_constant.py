"""The best fixed box: never worse than any true box, and exact where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from mindground.metrics.baselines import best_constant_box
from mindground.structures import box_iou


def test_one_place_for_most() -> None:
    boxes = np.asarray([[0.1, 0.1, 0.3, 0.3]] * 3 + [[0.6, 0.6, 0.9, 0.9]] * 2)
    value, box = best_constant_box(boxes)
    assert value == pytest.approx(0.6)
    assert box_iou(box, boxes[0]) >= 0.5


def test_a_box_between_two_beats_both() -> None:
    # IoU of the two is 1/3; the one in the middle has 0.6 with each.
    boxes = np.asarray([[0.0, 0.0, 0.4, 0.4], [0.2, 0.0, 0.6, 0.4]])
    assert float(box_iou(boxes[:1], boxes[1:])[0]) < 0.5
    assert best_constant_box(boxes)[0] == 1.0


def test_at_least_as_good_as_every_true_box_and_repeatable() -> None:
    low = np.random.default_rng(3).uniform(0, 0.7, (60, 2))
    boxes = np.concatenate([low, low + np.random.default_rng(4).uniform(0.05, 0.3, (60, 2))], 1)
    value, box = best_constant_box(boxes, 0.3)
    assert value >= max((box_iou(one[None], boxes) >= 0.3).mean() for one in boxes)
    again = best_constant_box(boxes, 0.3)
    assert again[0] == value and np.array_equal(again[1], box)
