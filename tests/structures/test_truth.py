"""What is true of samples that are not as usual."""

from __future__ import annotations

import numpy as np

from mindground.structures import Sample
from mindground.structures.truth import instance_truth


def test_an_image_without_objects_has_no_masks_at_any_size() -> None:
    empty = np.zeros((0, 4), np.float32)
    sample = Sample("a.png", "a", "a", None, empty, segmentations=(), labels=np.zeros(0, np.int64), size=(8, 6))
    truth = instance_truth(sample)
    assert truth.masks is not None
    assert truth.masks((8, 6)).shape == (0, 8, 6)
    other = truth.masks((16, 12))  # the file has another size than the annotation says
    assert other.shape == (0, 16, 12) and other.dtype == np.uint8
