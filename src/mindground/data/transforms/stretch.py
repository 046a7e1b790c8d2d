"""The whole image fills the canvas: both sides are resized to it, each by its own factor.

No part of the canvas is padding, and wide images keep more lines than where the longer side decides. Box IoU does not
depend on such a change of shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mindground.config.keys import key
from mindground.data.transforms.base import Transform, TransformParams
from mindground.data.transforms.color import draw_color_params
from mindground.data.transforms.registry import Recipe
from mindground.structures import Geometry

__all__ = ["RECIPES", "StretchConfig", "StretchTransform"]


@dataclass
class StretchConfig:
    """Keys of `data.transform` for `name: stretch`; all of them act in training only."""

    flip_prob: float = key(0.5, affects="numbers", training_only=True)
    # Mirror top to bottom, for images from above, where every side may be up.
    vertical_flip_prob: float = key(0.0, affects="numbers", training_only=True)
    # Brightness, contrast and saturation, in random order, each times a factor between 0.6 and 1.4.
    color_jitter_prob: float = key(0.0, affects="numbers", training_only=True)


class StretchTransform(Transform):
    """`data.transform.name=stretch`: OpenCV's resize to a square, by areas where it shrinks; mirrors, colours."""

    def __init__(
        self,
        *,
        flip_prob: float = 0.5,
        vertical_flip_prob: float = 0.0,
        color_jitter_prob: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.flip_prob, self.vertical_flip_prob = flip_prob, vertical_flip_prob
        self.color_jitter_prob = color_jitter_prob

    def draw_params(
        self, rng: np.random.Generator, shape: tuple[int, int], boxes_xyxy: np.ndarray, expression: str
    ) -> TransformParams:
        """Mirrors and colours; the number of draws does not depend on the image."""
        mirror, turn = rng.random(2)
        color = draw_color_params(rng, self.color_jitter_prob)
        flip, upside_down = bool(mirror < self.flip_prob), bool(turn < self.vertical_flip_prob)
        return TransformParams(self.img_size, flip=flip, upside_down=upside_down, color=color)

    def geometry(self, params: TransformParams, shape: tuple[int, int]) -> Geometry:
        """How an image of `shape` (height, width) fills the canvas."""
        side = self.img_size
        scale = (side / shape[1], side / shape[0])
        size = (shape[0], shape[1])
        return Geometry(size, (side, side), (side, side), (0, 0), scale, params.flip, params.upside_down)

    def resample(
        self, pixels: np.ndarray, params: TransformParams, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `Transform.resample`."""
        height, width = geometry.resized_size
        # Averages what it shrinks: small objects would otherwise fall between the samples.
        shrinks = height < pixels.shape[0] and width < pixels.shape[1]
        interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return geometry.mirror(cv2.resize(pixels, (width, height), interpolation=interpolation)), (0, 0)


RECIPES = (Recipe("stretch", StretchConfig, StretchTransform, ("referring", "instances")),)
