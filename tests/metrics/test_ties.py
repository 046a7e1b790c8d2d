"""An IoU exactly at a threshold: `>=` counts it, `>` does not, at every threshold and for every way to get there."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mindground.metrics import ReferringMetrics
from mindground.metrics.counts import (
    MASK_THRESHOLDS,
    box_shares,
    canvas_iou,
    mask_counts,
    mask_iou,
    share_above,
    share_at_least,
)
from mindground.structures import Batch, Geometry, Prediction, Sample, box_iou, encode_mask

PERCENT = tuple(range(50, 100, 5))


def test_every_small_fraction_is_on_its_side() -> None:
    """All quotients of counts up to 400: the comparison of doubles is that of the rational numbers."""
    union = np.arange(1, 401)
    for percent in PERCENT:
        exact, threshold = Fraction(percent, 100), percent / 100
        for inner in range(int(union[-1]) + 1):
            unions = union[union >= inner]
            above = [Fraction(inner, int(u)) > exact for u in unions]
            least = [Fraction(inner, int(u)) >= exact for u in unions]
            for formula in (mask_iou, canvas_iou):
                values = formula(np.full(len(unions), inner), unions)
                assert share_above(values, [threshold])[0] == np.mean(above)
                assert share_at_least(values, threshold) == np.mean(least)


@pytest.mark.parametrize("formula", [mask_iou, canvas_iou])
@pytest.mark.parametrize("percent", PERCENT)
def test_ties_of_large_counts(formula: object, percent: int) -> None:
    """Unions up to 2^33 pixels; one pixel less or more decides."""
    threshold = percent / 100
    for union in (100, 640 * 640, 300 * 7919, 100 * (2**33 // 100)):
        inner = union // 100 * percent
        union = union // 100 * 100
        tie, below, above = (formula(inner + step, union) for step in (0, -1, 1))  # type: ignore[operator]
        assert share_above([tie], [threshold])[0] == 0 and share_at_least([tie], threshold) == 1
        assert share_above([below], [threshold])[0] == 0 and share_at_least([below], threshold) == 0
        assert share_above([above], [threshold])[0] == 1 and share_at_least([above], threshold) == 1


def test_empty_against_empty() -> None:
    assert canvas_iou(0, 0) == 1 and mask_iou(0, 0) == 0 and canvas_iou(0, 5) == 0
    assert share_above(canvas_iou([0], [0])).tolist() == [1.0] * 10


def test_thresholds_are_the_decimal_numbers_that_are_meant() -> None:
    drifted = 0.5 + np.arange(10) * 0.05
    assert any(value != percent / 100 for value, percent in zip(drifted, PERCENT, strict=True))
    values = np.asarray(PERCENT) / 100
    for position, threshold in enumerate(drifted):
        assert share_at_least(values, threshold) == (10 - position) / 10
    np.testing.assert_allclose(share_above(values, drifted), np.arange(9, -1, -1) / 10)
    assert [round(100 * threshold) for threshold in MASK_THRESHOLDS] == list(PERCENT)


@pytest.mark.parametrize("percent", PERCENT)
def test_boxes_and_masks_through_the_scores(percent: int) -> None:
    """100 columns of truth; the prediction covers exactly `percent` of them, one less, and one more."""
    size, threshold = (40, 120), percent / 100
    truth = np.zeros(size, np.uint8)
    truth[5:35, 10:110] = 1
    sample = Sample("a", "a", "a", "a ship", [[10, 5, 110, 35]], (encode_mask(truth),), size=size)

    def scores(columns: int) -> dict[str, float]:
        mask = np.zeros(size, np.uint8)
        mask[5:35, 10 : 10 + columns] = 1
        box = [[10, 5, 10 + columns, 35]]
        counts = tuple(int(n) for n in mask_counts(mask, truth))
        assert box_iou(np.asarray(box), sample.boxes_xyxy)[0] == columns / 100
        prediction = Prediction(size, box, [1.0], masks=(encode_mask(mask),), extras={"canvas_iou_counts": counts})
        metrics = ReferringMetrics(threshold)
        metrics.update([prediction], Batch({}, [sample], [Geometry(size, size, size)], 1))
        return metrics.compute()

    name = f"{threshold:g}"
    for columns, at_least, strict in ((percent, 1, 0), (percent - 1, 0, 0), (percent + 1, 1, 1)):
        found = scores(columns)
        assert found[f"prec@{name}"] == at_least
        assert found.get(f"prec_strict@{name}", found[f"prec@{name}"]) == strict
        assert found[f"mask_prec@{name}"] == strict
        assert found["canvas_mean_iou"] == found["mean_iou"] == columns / 100


def test_a_tie_is_reported() -> None:
    assert box_shares(np.asarray([0.7, 0.9]), [0.7]) == {"prec@0.7": 1.0, "prec_strict@0.7": 0.5}
