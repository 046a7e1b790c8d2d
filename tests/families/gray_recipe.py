"""A transform recipe outside the package: `stretch` without colours, as in panchromatic images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mindground.config.keys import key
from mindground.data.transforms import Recipe, StretchTransform, TransformParams
from mindground.structures import Geometry

__all__ = ["RECIPES", "GrayConfig", "GrayTransform"]


@dataclass
class GrayConfig:
    """Keys of `data.transform` for `name: gray`."""

    flip_prob: float = key(0.5, affects="numbers")
    # False keeps the colours.
    gray: bool = key(True, affects="numbers")


class GrayTransform(StretchTransform):
    """`data.transform.name=gray`: every channel is the mean of the three."""

    def __init__(self, *, flip_prob: float = 0.5, gray: bool = True, **common: Any) -> None:
        super().__init__(flip_prob=flip_prob, **common)
        self.gray = gray

    def resample(
        self, pixels: np.ndarray, params: TransformParams, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `Transform.resample`; masks stay as they are."""
        resized, start = super().resample(pixels, params, geometry, nearest=nearest)
        if self.gray and resized.ndim == 3:
            mean = np.rint(resized.mean(2, keepdims=True)).astype(np.uint8)
            resized = np.repeat(mean, resized.shape[2], 2)
        return resized, start


RECIPES = (Recipe("gray", GrayConfig, GrayTransform, ("referring", "instances")),)
