"""Referring scores against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mindground.errors import DataError
from mindground.metrics import ReferringMetrics, is_better
from mindground.metrics.counts import canvas_iou, mask_counts, mask_iou, overall_iou, share_above, share_at_least
from mindground.metrics.instances import InstanceMetrics
from mindground.structures import Batch, Geometry, Prediction, Sample, encode_mask

SIZE = (10, 20)


def area(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def sample(name: str, box: list[float], mask: np.ndarray | None = None) -> Sample:
    segmentations = () if mask is None else (encode_mask(mask),)
    return Sample("x.png", name, "i", "a ship", [box], segmentations, size=SIZE)


def found(box: list[float] | None, mask: np.ndarray | None = None, **extras: object) -> Prediction:
    masks = () if mask is None else (encode_mask(mask),)
    boxes = np.zeros((0, 4)) if box is None else [box]
    return Prediction(SIZE, boxes, np.ones(len(boxes)), masks=masks, extras=extras)


def batch(samples: list[Sample], count: int | None = None, **arrays: np.ndarray) -> Batch:
    geometry = Geometry(SIZE, SIZE, SIZE)
    return Batch(arrays, samples, [geometry] * len(samples), len(samples) if count is None else count)


def test_boxes_by_hand() -> None:
    metrics = ReferringMetrics()
    samples = [sample(f"s{i}", [0, 0, 10, 10]) for i in range(5)]
    predictions = [
        found([0, 0, 10, 10]),  # 1
        found([0, 0, 10, 5]),  # exactly 0.5, which counts
        found([5, 0, 15, 10]),  # 50 / 150
        found([10, 0, 20, 10]),  # touching
        found(None),  # nothing found
    ]
    metrics.update(predictions, batch(samples))
    scores = metrics.compute()
    assert scores["prec@0.5"] == pytest.approx(2 / 5)
    assert scores["box_mean_iou"] == pytest.approx((1 + 0.5 + 1 / 3) / 5)
    assert scores["box_overall_iou"] == pytest.approx((100 + 50 + 50) / (100 + 100 + 150 + 200 + 100))
    assert scores["prec_strict@0.5"] == pytest.approx(1 / 5), "given because it differs"
    assert set(scores) == {"prec@0.5", "prec_strict@0.5", "box_mean_iou", "box_overall_iou"}, (
        "no mask scores without masks"
    )
    assert [round(r["box_iou"], 3) for r in metrics.records()] == [1.0, 0.5, 0.333, 0.0, 0.0]
    assert all(r["mask_iou"] is None for r in metrics.records())


def test_more_thresholds() -> None:
    metrics = ReferringMetrics(box_thresholds=[0.9, 0.5, 0.7])
    guesses = [found([0, 0, 10, 10]), found([0, 0, 10, 8]), found([-5, -5, 10, 6])]
    metrics.update(guesses, batch([sample(f"s{i}", [0, 0, 10, 10]) for i in range(3)]))
    scores = metrics.compute()
    # The third extends beyond the image; the part outside is clipped.
    assert [scores[f"prec@{t}"] for t in (0.5, 0.7, 0.9)] == pytest.approx([1, 2 / 3, 1 / 3])
    assert scores["box_overall_iou"] == pytest.approx((100 + 80 + 60) / 300)
    assert not any(name.startswith("prec_strict") for name in scores), "given only where it differs"


def test_boxes_by_area_and_by_word() -> None:
    size = (200, 200)
    small, large = [0, 0, 31, 32], [0, 0, 96, 96]
    asked = [(small, "the upper-left ship"), (large, "a bright ship"), (large, "RIGHT one")]
    samples = [Sample("x", f"s{i}", "i", text, [box], size=size) for i, (box, text) in enumerate(asked)]
    guesses = [Prediction(size, [box], [1.0]) for box in (small, [100, 100, 120, 120], large)]
    metrics, merged = ReferringMetrics(), ReferringMetrics()
    metrics.update(guesses, Batch({}, samples, [Geometry(size, size, size)] * 3, 3))
    merged.merge([metrics.state()])
    parts = merged.breakdown()
    shares = {kind: {name: (v["count"], v["prec@0.5"]) for name, v in parts[kind].items()} for kind in parts}
    assert shares["by_area"] == {"small": (1, 1), "large": (2, 0.5)}
    assert shares["by_word"] == {"left": (1, 1), "top": (1, 1), "right": (1, 1), "none": (1, 0)}
    assert ReferringMetrics().breakdown() == {}


def test_the_box_with_the_highest_score_counts() -> None:
    two = Prediction(SIZE, [[0, 0, 10, 10], [10, 0, 20, 10]], [0.2, 0.9])
    metrics = ReferringMetrics()
    metrics.update([two], batch([sample("s", [10, 0, 20, 10])]))
    assert metrics.compute()["prec@0.5"] == 1


def test_masks_by_hand() -> None:
    box, whole, empty = [0, 0, 10, 10], area(0, 0, 10, 10), area(0, 0, 0, 0)
    truths = [whole, whole, whole, area(3, 3, 4, 4), empty]
    guesses = [whole, area(0, 0, 10, 5), empty, area(3, 3, 4, 4), empty]
    metrics = ReferringMetrics()
    samples = [sample(f"s{i}", box, truth) for i, truth in enumerate(truths)]
    metrics.update([found(box, guess) for guess in guesses], batch(samples))
    scores = metrics.compute()
    assert scores["mean_iou"] == pytest.approx((1 + 0.5 + 0 + 1 + 0) / 5)  # an empty union scores 0
    assert scores["overall_iou"] == pytest.approx((100 + 50 + 0 + 1) / (100 + 100 + 100 + 1))
    assert scores["mask_prec@0.5"] == pytest.approx(2 / 5)  # strictly above
    assert scores["mask_prec@0.95"] == pytest.approx(2 / 5)


def test_a_missing_mask_is_an_empty_one() -> None:
    metrics = ReferringMetrics()
    box, whole = [0, 0, 10, 10], area(0, 0, 10, 10)
    metrics.update([found(box, whole), found(None)], batch([sample("a", box, whole), sample("b", box, whole)]))
    assert metrics.compute()["mean_iou"] == 0.5 and metrics.compute()["overall_iou"] == 0.5


def test_canvas_protocol() -> None:
    box, whole = [0, 0, 10, 10], area(0, 0, 10, 10)
    truth = np.stack([area(0, 0, 4, 4)[None], area(0, 0, 0, 0)[None]]).astype(np.float32)
    metrics = ReferringMetrics()
    predictions = [found(box, whole, canvas_mask=area(0, 0, 4, 2)), found(box, whole, canvas_iou_counts=(0, 0))]
    metrics.update(predictions, batch([sample("a", box, whole), sample("b", box, whole)], mask=truth))
    scores = metrics.compute()
    assert scores["canvas_mean_iou"] == pytest.approx((0.5 + 1) / 2)  # empty against empty is 1 there
    assert scores["canvas_overall_iou"] == pytest.approx(8 / 16)


def test_upstream_figures_of_seqtr_stand_beside_ours() -> None:
    """Batches of two and of one, and a referent of two polygons, whose mask counts as a crowd there."""
    box, whole, part = [0, 0, 10, 10], area(0, 0, 10, 10), area(0, 0, 10, 5)
    two = [[0.0, 0.0, 10.0, 0.0, 10.0, 5.0, 0.0, 5.0], [0.0, 5.0, 10.0, 5.0, 10.0, 10.0, 0.0, 10.0]]
    many = Sample("x.png", "b", "i", "a ship", [box], (two,), size=SIZE)
    samples = [sample("a", box, whole), many, sample("c", box, whole)]
    answers = [
        found(box, whole, canvas_iou_counts=(100, 100), canvas_area=100),
        found([0, 0, 10, 4], part, canvas_iou_counts=(50, 100), canvas_area=50),
        found([0, 0, 10, 4], part, canvas_iou_counts=(50, 100), canvas_area=50),
    ]

    def metrics(*ranges: slice) -> ReferringMetrics:
        made = ReferringMetrics(protocol="seqtr")
        for span in ranges:
            made.update(answers[span], batch(samples[span]))
        return made

    scores = metrics(slice(0, 2), slice(2, 3)).compute()
    assert scores["prec@0.5"] == pytest.approx(1 / 3) and scores["upstream_prec@0.5"] == pytest.approx((0.5 + 0) / 2)
    assert scores["canvas_mean_iou"] == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert scores["upstream_mean_iou"] == pytest.approx(((1 + 1) / 2 + 0.5) / 2)
    assert scores["canvas_prec@0.6"] == pytest.approx(1 / 3)
    assert scores["upstream_mask_prec@0.6"] == pytest.approx((1 + 0) / 2)
    # Two ranks: each has batches of its own.
    first, second = metrics(slice(0, 2)), metrics(slice(2, 3))
    first.merge([first.state(), second.state()])
    assert first.compute() == pytest.approx(scores)
    plain = ReferringMetrics()
    plain.update(answers, batch(samples))
    assert not any(name.startswith("upstream") for name in plain.compute())


def test_rows_that_fill_the_shape_do_not_count() -> None:
    metrics = ReferringMetrics()
    right, wrong = sample("a", [0, 0, 10, 10]), sample("a", [10, 0, 20, 10])
    metrics.update([found([0, 0, 10, 10])] * 2, batch([right, wrong], count=1))
    metrics.update([], batch([wrong], count=0))
    assert len(metrics) == 1 and metrics.compute()["prec@0.5"] == 1
    with pytest.raises(ValueError, match="1 predictions for 2 samples"):
        metrics.update([found(None)], batch([right, wrong]))


def test_merged_ranks_equal_one_process() -> None:
    rng = np.random.default_rng(0)
    samples, predictions = [], []
    for i in range(11):
        corners = rng.integers(0, 6, 4)
        samples.append(sample(f"s{i:02d}", [1, 1, 8, 8], area(1, 1, 8, 8) if i % 3 else None))
        box = [*corners[:2], *(corners[2:] + 5)]
        predictions.append(found(box, area(*box), canvas_iou_counts=(i, 12)))
    whole, merged = ReferringMetrics(), ReferringMetrics()
    whole.update(predictions, batch(samples))
    states = []
    for rank in range(2):
        part = ReferringMetrics()
        part.update(predictions[rank::2], batch(samples[rank::2]))
        states.append(part.state())
    merged.merge([*states, ReferringMetrics().state()])
    assert merged.compute() == pytest.approx(whole.compute()) and len(merged) == 11
    assert merged.records() == whole.records()


def test_a_sample_of_two_ranks_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    states = []
    for box in ([0, 0, 10, 10], [10, 0, 20, 10]):
        part = ReferringMetrics()
        part.update([found([0, 0, 10, 10])] * 2, batch([sample("a", box), sample(f"b{box[0]}", [0, 0, 10, 10])]))
        states.append(part.state())
    merged = ReferringMetrics()
    merged.merge([states[0], states[0]])
    assert len(merged) == 2 and merged.compute()["prec@0.5"] == 1 and "count once" in caplog.text
    with pytest.raises(DataError, match="'a' was scored twice"):
        merged.merge(states)
    instances = InstanceMetrics()
    instances.update([Prediction(SIZE, [], [])], batch([Sample("x", "a", "i", None, [[0, 0, 10, 10]])]))
    instances.merge([instances.state()] * 2)
    assert len(instances) == 1


def test_nothing_collected() -> None:
    assert ReferringMetrics().compute() == {} and ReferringMetrics().records() == []
    assert math.isnan(overall_iou(np.zeros(0), np.zeros(0))) and math.isnan(share_at_least(np.zeros(0), 0.5))
    assert np.isnan(share_above(np.zeros(0))).all()


def test_prediction_of_another_size() -> None:
    wrong = Prediction((5, 5), [[0, 0, 1, 1]], [1.0])
    with pytest.raises(ValueError, match="'s'"):
        ReferringMetrics().update([wrong], batch([sample("s", [0, 0, 1, 1])]))


def test_nan_is_never_best() -> None:
    assert is_better(0.1, None) and is_better(0.1, math.nan) and is_better(0.2, 0.1)
    assert not is_better(math.nan, None) and not is_better(math.nan, 0.1) and not is_better(0.1, 0.1)


def test_formulas() -> None:
    intersection, union = mask_counts(np.asarray([[1, 1], [0, 0]]), np.asarray([[1, 0], [1, 0]]))
    assert (intersection, union) == (1, 3)
    assert mask_iou(0, 0) == 0 and canvas_iou(0, 0) == 1 and overall_iou([0], [0]) == 0
    assert share_above([0.5, 0.6], (0.5, 0.6)).tolist() == [0.5, 0.0]
    with pytest.raises(ValueError, match="cannot be compared"):
        mask_counts(np.zeros((2, 2)), np.zeros((1, 2)))


def test_instances() -> None:
    boxes, masks = [[0, 0, 10, 10], [10, 0, 20, 10]], [area(0, 0, 10, 10), area(10, 0, 20, 10)]
    truth = Sample("x", "a", "i", None, boxes, tuple(encode_mask(m) for m in masks), [1, 2], SIZE)
    rles = tuple(encode_mask(m) for m in masks)
    perfect = Prediction(SIZE, boxes, [0.9, 0.8], [1, 2], rles)
    half = Prediction(SIZE, boxes[:1], [0.9], [1], rles[:1])
    for prediction, expected in ((perfect, 1.0), (half, 0.5), (Prediction(SIZE, [], []), 0.0)):
        metrics, merged = InstanceMetrics(), InstanceMetrics()
        metrics.update([prediction], batch([truth]))
        merged.merge([metrics.state(), InstanceMetrics().state()])
        scores = merged.compute()
        assert merged.records() == [{"sample_id": "a", "objects": 2, "found": len(prediction.scores)}]
        assert scores == metrics.compute() and scores["box_ap"] == pytest.approx(expected)
        if prediction.masks:
            assert scores["mask_ap"] == pytest.approx(expected) and scores["mask_ap_small"] == pytest.approx(expected)
    assert InstanceMetrics().compute() == {}
