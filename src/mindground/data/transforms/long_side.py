"""The longer side fills the canvas, the image lies in its top left corner: Segment Anything's preparation.

Pillow's bilinear filter averages what it shrinks and rounds to 8 bits; published weights were trained on such images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mindground.config.keys import key, refuse_outside
from mindground.data.transforms.base import TransformParams, image_shape
from mindground.data.transforms.registry import Recipe
from mindground.data.transforms.stretch import StretchTransform
from mindground.structures import Geometry

__all__ = ["RECIPES", "LongSideConfig", "LongSideTransform", "long_side_size"]


@dataclass
class LongSideConfig:
    """Keys of `data.transform` for `name: long_side`; all of them act in training only."""

    flip_prob: float = key(0.0, affects="numbers", training_only=True)
    # Mirror top to bottom, for images from above, where every side may be up.
    vertical_flip_prob: float = key(0.0, affects="numbers", training_only=True)
    # Brightness, contrast and saturation, in random order, each times a factor between 0.6 and 1.4.
    color_jitter_prob: float = key(0.0, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "data.transform.", ["flip_prob", "vertical_flip_prob", "color_jitter_prob"], 0, 1)


def long_side_size(shape: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) after the longer side became `side`: halves are rounded up, and no side vanishes."""
    ratio = side / max(shape)
    return max(1, int(shape[0] * ratio + 0.5)), max(1, int(shape[1] * ratio + 0.5))


class LongSideTransform(StretchTransform):
    """`data.transform.name=long_side`."""

    def __init__(
        self,
        *,
        flip_prob: float = 0.0,
        vertical_flip_prob: float = 0.0,
        color_jitter_prob: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(
            flip_prob=flip_prob,
            vertical_flip_prob=vertical_flip_prob,
            color_jitter_prob=color_jitter_prob,
            **common,
        )

    def geometry(self, params: TransformParams, shape: tuple[int, int]) -> Geometry:
        """How an image of `shape` (height, width) lies in the corner of the canvas; each axis has its own ratio."""
        size = (shape[0], shape[1])
        height, width = long_side_size(size, self.img_size)
        scale = (width / shape[1], height / shape[0])
        side = (self.img_size, self.img_size)
        return Geometry(size, (height, width), side, (0, 0), scale, params.flip, params.upside_down)

    def resample(
        self, pixels: np.ndarray, params: TransformParams, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `Transform.resample`."""
        height, width = geometry.resized_size
        if image_shape(pixels) != (height, width):
            if nearest:
                pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)
            else:
                pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
        return geometry.mirror(pixels), (0, 0)


RECIPES = (Recipe("long_side", LongSideConfig, LongSideTransform, ("referring", "instances")),)
