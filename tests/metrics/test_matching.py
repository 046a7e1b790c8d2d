"""One prediction against the truth of its image."""

from __future__ import annotations

import numpy as np
import pytest

from mindground.metrics.matching import iou_matrix, ious, match_detections
from mindground.structures import Prediction, Sample, Truth, encode_mask, instance_truth, referent_truth

SIZE = (300, 400)


def mask(box: tuple[int, ...]) -> np.ndarray:
    drawn = np.zeros(SIZE, np.uint8)
    drawn[box[1] : box[3], box[0] : box[2]] = 1
    return drawn


def truth(*boxes: tuple[int, ...]) -> Sample:
    polygons = [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in boxes]
    return Sample("s", "s", "1", "all", np.asarray(boxes), tuple([polygon] for polygon in polygons))


def prediction(*boxes: tuple[int, ...]) -> Prediction:
    return Prediction(SIZE, boxes, np.full(len(boxes), 0.8), masks=tuple(encode_mask(mask(box)) for box in boxes))


def test_ious_of_a_referent() -> None:
    one = referent_truth(truth((100, 50, 200, 150)))
    assert ious(prediction((100, 50, 200, 150)), one) == (1.0, 1.0)
    assert ious(prediction((150, 50, 250, 150)), one) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert ious(Prediction(SIZE, [], []), one) == (0.0, 0.0)
    nothing = Truth(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert ious(prediction((100, 50, 200, 150)), nothing) == (None, None)
    assert ious(Prediction(SIZE, [[100, 50, 200, 150]], [1.0]), one) == (1.0, None)
    two = Prediction(SIZE, [[0, 0, 5, 5], [100, 50, 200, 150]], [0.2, 0.9])
    assert ious(two, one)[0] == 1.0, "the prediction with the highest score is compared"


def test_a_referent_is_everything_that_its_sentence_names() -> None:
    both = truth((100, 50, 150, 150), (150, 50, 200, 150))
    assert ious(prediction((100, 50, 200, 150)), referent_truth(both)) == (1.0, 1.0)
    with pytest.raises(ValueError, match="2 objects"):
        ious(prediction((100, 50, 200, 150)), instance_truth(both))


@pytest.mark.parametrize("form", ["box", "mask"])
def test_iou_of_every_pair(form: str) -> None:
    true = instance_truth(truth((100, 50, 150, 150), (150, 50, 200, 150)))
    found = prediction((100, 50, 200, 150), (150, 50, 200, 150), (300, 200, 310, 210))
    np.testing.assert_allclose(iou_matrix(found, true, form), [[0.5, 0.5], [0, 1], [0, 0]], atol=1e-6)
    assert iou_matrix(Prediction(SIZE, [], []), true, form).shape == (0, 2)


def test_no_object_is_found_twice_and_classes_count() -> None:
    overlaps = np.asarray([[0.9, 0.6], [0.8, 0.7], [0.95, 0.0], [0.0, 0.4]])
    scores, labels = np.asarray([0.5, 0.9, 0.99, 0.8]), np.asarray([1, 1, 2, 1])
    # The second detection comes first among those of class 1 and takes object 0; object 1 is left for the first one.
    np.testing.assert_array_equal(match_detections(overlaps, scores, labels, np.asarray([1, 1])), [1, 0, -1, -1])
    assert match_detections(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros(2)).shape == (0,)
    assert (match_detections(np.zeros((2, 0)), scores[:2], labels[:2], np.zeros(0)) == -1).all()
