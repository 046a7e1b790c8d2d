"""Exchanged sentences."""

from __future__ import annotations

import numpy as np
import pytest

from mindground.data.dataset import Dataset
from mindground.data.shuffle import shuffle_expressions
from mindground.errors import DataError
from mindground.structures import Sample


def dataset(counts: list[tuple[int, int]]) -> Dataset:
    """One image per entry: (objects, sentences per object)."""
    samples = []
    for image, (objects, sentences) in enumerate(counts):
        for thing in range(objects):
            for turn in range(sentences):
                name = f"{image}-{thing}"
                box = np.asarray([[thing, 0, thing + 1, 1]])
                samples.append(
                    Sample("x.png", f"{name}-{turn}", str(image), f"{name} said {turn}", box, object_ids=(name,))
                )
    return Dataset(samples)


def test_sentences_move_to_another_object_of_the_image() -> None:
    data = dataset([(2, 1), (3, 2), (5, 3), (1, 2)])
    mixed = shuffle_expressions(data)
    for before, after in zip(data, mixed, strict=True):
        assert after.sample_id == before.sample_id
        np.testing.assert_array_equal(after.boxes_xyxy, before.boxes_xyxy)
        speaker = str(after.expression).split(" ")[0]
        assert speaker != before.object_ids[0]
        assert (speaker.split("-")[0] == before.image_id) == (before.image_id != "3")
    # A derangement of the objects: every object's sentences go to exactly one other.
    givers = {s.object_ids[0]: str(s.expression).split(" ")[0] for s in mixed if s.image_id == "2"}
    assert sorted(givers) == sorted(givers.values())
    again = shuffle_expressions(data)
    assert [s.expression for s in again] == [s.expression for s in mixed]


def test_a_single_object_cannot_be_exchanged() -> None:
    with pytest.raises(DataError, match="single object"):
        shuffle_expressions(dataset([(1, 3)]))
