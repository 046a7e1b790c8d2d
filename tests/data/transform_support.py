"""Transforms as tests want them: small, with the arrays of a family that answers with box and mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from mindground.data.transforms import Transform
from mindground.models.targets import encode_box
from mindground.models.vglaw.targets import encode_mask
from mindground.structures import Example, Sample, referent_truth
from mindground.text import Tokenizer

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class WithTargets:
    """A transform whose examples hold `box`, `mask` and `has_mask` as well."""

    def __init__(self, transform: Transform) -> None:
        self.transform = transform

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        return _encoded(self.transform(sample, rng))

    def apply(self, *arguments: Any) -> Example:
        return _encoded(self.transform.apply(*arguments))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transform, name)


def _encoded(example: Example) -> Example:
    example.arrays |= encode_box(example) | encode_mask(example)
    return example


def make(kind: type[Transform], tokenizer: Tokenizer, training: bool, **options: Any) -> WithTargets:
    """A transform of a class with defaults for what every transform takes."""
    common = {"img_size": 64, "max_len": 8, "mean": MEAN, "std": STD, "truth": referent_truth, **options}
    return WithTargets(kind(tokenizer=tokenizer, training=training, **common))
