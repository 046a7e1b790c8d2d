"""Average precision where regions are ignored, against numbers worked out by hand and against COCO's own rule."""

from __future__ import annotations

import numpy as np
import pytest

from mindground.metrics.instances import InstanceMetrics
from mindground.structures import Batch, Geometry, IgnoredRegion, Prediction, Sample, encode_mask

SIZE = (40, 60)


def _mask(box: list[int]) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    return mask


def _scores(
    found: list[tuple[list[int], float, int]], ignored: tuple[IgnoredRegion, ...], masks: bool
) -> dict[str, float]:
    """Scores of one image with one ship (label 3) at the left."""
    truth = [0, 0, 10, 10]
    outlines = (encode_mask(_mask(truth)),) if masks else ()
    sample = Sample("a", "a", "a", None, [truth], outlines, labels=np.array([3]), ignored=ignored)
    boxes = np.asarray([box for box, _, _ in found], np.float32)
    rles = tuple(encode_mask(_mask(box)) for box, _, _ in found) if masks else ()
    scores, labels = np.asarray([s for _, s, _ in found]), np.asarray([label for _, _, label in found])
    prediction = Prediction(SIZE, boxes, scores, masks=rles, labels=labels)
    metrics = InstanceMetrics()
    metrics.update([prediction], Batch({}, [sample], [Geometry(SIZE, SIZE, SIZE)], 1))
    merged = InstanceMetrics()
    merged.merge([metrics.state(), metrics.state()])
    assert merged.compute() == metrics.compute() and merged.records() == metrics.records()
    assert metrics.records()[0]["objects"] == 1
    return metrics.compute()


# Three surer detections stand before the right one.
INSIDE = [([20, 0, 30, 10], 0.9, 3), ([32, 5, 44, 18], 0.8, 3), ([40, 20, 50, 30], 0.7, 3), ([0, 0, 10, 10], 0.6, 3)]
CROWD = IgnoredRegion([18, 0, 58, 38], encode_mask(_mask([18, 0, 58, 38])), 3)


@pytest.mark.parametrize("masks", [False, True])
def test_what_lies_in_a_crowd_is_not_wrong(masks: bool) -> None:
    name = "mask_ap" if masks else "box_ap"
    assert _scores(INSIDE, (), masks)[name] == pytest.approx(0.25), "one of four is right, and it is the last"
    assert _scores(INSIDE, (CROWD,), masks)[name] == pytest.approx(1.0)


@pytest.mark.parametrize("masks", [False, True])
def test_a_crowd_of_another_category_excuses_nothing(masks: bool) -> None:
    other = IgnoredRegion(CROWD.box_xyxy, CROWD.segmentation, 4)
    scores = _scores(INSIDE, (other,), masks)
    assert scores["mask_ap" if masks else "box_ap"] == pytest.approx(0.25)


def test_a_region_known_by_its_box_alone() -> None:
    region = IgnoredRegion([18, 0, 58, 38], None, 3)
    assert region.mask(SIZE).sum() == 40 * 38
    assert _scores(INSIDE, (region,), True)["mask_ap"] == pytest.approx(1.0)
    assert IgnoredRegion([-3.5, 1.2, 3.1, 99], None).mask(SIZE).sum() == 4 * 39


def test_a_crowd_is_no_object() -> None:
    """Nothing was missed in it, and an image with a crowd alone asks for nothing."""
    assert _scores([([0, 0, 10, 10], 0.6, 3)], (CROWD,), False)["box_ap"] == pytest.approx(1.0)
    metrics = InstanceMetrics()
    alone = Sample("a", "a", "a", None, ignored=(CROWD,))
    prediction = Prediction(SIZE, np.asarray([[20, 0, 30, 10]]), np.asarray([0.9]), labels=np.asarray([3]))
    metrics.update([prediction], Batch({}, [alone], [Geometry(SIZE, SIZE, SIZE)], 1))
    assert metrics.compute() == {} and metrics.records()[0]["objects"] == 0
