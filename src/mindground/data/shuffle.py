"""Exchanged sentences: the control that shows whether a model reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mindground.data.dataset import Dataset
from mindground.errors import DataError
from mindground.structures import Sample

__all__ = ["shuffle_expressions"]


def shuffle_expressions(dataset: Dataset, seed: int = 0) -> Dataset:
    """Every sample keeps its image and truth and gets the sentence of another object.

    Where an image has several objects, its objects exchange their sentences among themselves without a fixed point;
    where it has one, the sentence of another image's object takes its place. The same seed gives the same exchange.

    Raises:
        DataError: there are not two different objects in the whole split.
    """
    rng = np.random.default_rng(seed)
    by_image: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, sample in enumerate(dataset.samples):
        by_image[sample.image_id][_object_of(sample)].append(index)
    sentences: list[str | None] = [None] * len(dataset.samples)
    lonely: list[int] = []
    for objects in by_image.values():
        groups = list(objects.values())
        if len(groups) == 1:
            lonely.extend(groups[0])
            continue
        # One random cycle through the objects has no fixed point.
        order = rng.permutation(len(groups))
        for place, group in enumerate(order):
            giver = groups[order[(place + 1) % len(order)]]
            for turn, index in enumerate(groups[group]):
                sentences[index] = dataset.samples[giver[turn % len(giver)]].expression
    for index in lonely:
        sentences[index] = _from_elsewhere(dataset.samples, index, rng)
    samples = [sample.with_expression(text) for sample, text in zip(dataset.samples, sentences, strict=True)]
    return replace(dataset, samples=samples)


def _object_of(sample: Sample) -> str:
    return "|".join(sample.object_ids) or ",".join(f"{value:.2f}" for value in sample.boxes_xyxy.reshape(-1))


def _from_elsewhere(samples: Sequence[Sample], index: int, rng: np.random.Generator) -> str | None:
    image = samples[index].image_id
    start = int(rng.integers(len(samples)))
    for turn in range(len(samples)):
        other = samples[(start + turn) % len(samples)]
        if other.image_id != image:
            return other.expression
    raise DataError("sentences cannot be exchanged: the split has a single object; evaluate without the exchange")
