"""Targets of queries in fixed shapes, and their losses."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest

from mindground.detection.query_targets import QueryTargets, point_losses, query_targets

QUERIES, SLOTS, POINTS = 4, 10, 8
RNG = np.random.default_rng(2)
OVERSAMPLE, EXTRA = RNG.random((20, 3 * POINTS, 2)), RNG.random((20, 2, 2))


def _rectangle(left: int, right: int) -> np.ndarray:
    mask = np.zeros((16, 16), np.uint8)
    mask[4:12, left:right] = 1
    return mask


def _targets(truth: list[list[np.ndarray]], slots: int = SLOTS) -> tuple[np.ndarray, QueryTargets]:
    """Query q of every image shows columns 4 q to 4 q + 4."""
    masks = np.stack([np.where(_rectangle(4 * q, 4 * q + 4), 8.0, -8.0) for q in range(QUERIES)])
    masks = np.repeat(masks[None], len(truth), 0).astype(np.float32)
    logits = np.zeros((len(truth), QUERIES, 4), np.float32)
    stacked = [np.stack(own) if own else np.zeros((0, 16, 16), np.uint8) for own in truth]
    labels = [np.arange(len(own)) % 3 for own in truth]
    match = np.random.default_rng(4).random((len(truth), 200, 2))
    return masks, query_targets(logits, masks, stacked, labels, match, OVERSAMPLE, EXTRA, POINTS, slots)


def test_queries_find_the_objects_that_they_show() -> None:
    masks, found = _targets([[_rectangle(8, 12), _rectangle(0, 4)], [], [_rectangle(12, 16)]])
    assert found.objects.tolist() == [[1, -1, 0, -1], [-1] * 4, [-1, -1, -1, 0]]
    assert found.labels.tolist() == [[1, 3, 0, 3], [3] * 4, [3, 3, 3, 0]]
    assert found.query[:3].tolist() == [0, 2, 11] and found.real.tolist() == [1] * 3 + [0] * 7
    assert found.matched.tolist() == [2, 0, 1] and found.points.shape == (SLOTS, POINTS, 2)
    arrays = [ms.Tensor(value) for value in (masks, found.query, found.points, found.truth, found.real)]
    entropy, dice = (float(value) for value in point_losses(*arrays, ms.Tensor(3.0), ms.Tensor(4.0)))
    assert entropy < 1.0 and 0 <= dice < 0.75, "they agree but at borders"


def test_an_empty_batch_has_losses_of_zero() -> None:
    masks, found = _targets([[], []])
    assert found.real.sum() == 0 and (found.labels == 3).all()
    arrays = [ms.Tensor(value) for value in (masks, found.query, found.points, found.truth, found.real)]
    assert [float(value) for value in point_losses(*arrays, ms.Tensor(0.0), ms.Tensor(2.0))] == [0.0, 0.0]


def test_more_objects_than_queries_or_slots() -> None:
    many = [_rectangle(left, left + 2) for left in range(0, 14)]
    assert _targets([many])[1].matched.tolist() == [QUERIES]
    with pytest.raises(ValueError, match="slots"):
        _targets([many], slots=3)
