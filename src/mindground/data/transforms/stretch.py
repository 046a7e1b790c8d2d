"""The whole picture fills the canvas: both sides are resized to it, each by its own factor.

No part of the canvas is padding, and wide pictures keep more rows than where the longer side decides. Box IoU does not
depend on such a change of shape.
"""

from __future__ import annotations

import cv2
import numpy as np

from mindground.data.transforms.base import Plan, SentenceTransform
from mindground.data.transforms.color import draw_pixel_plan
from mindground.structures import Geometry

__all__ = ["StretchTransform"]


class StretchTransform(SentenceTransform):
    """`data.recipe=stretch`: OpenCV's resize to a square, by areas where it shrinks; mirrors, colours."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], box_xyxy: np.ndarray, expression: str) -> Plan:
        """Mirrors and colours; the number of draws does not depend on the picture."""
        mirror, turn = rng.random(2)
        pixels = draw_pixel_plan(rng, self.data.color_jitter_prob)
        upside_down = bool(turn < self.data.vertical_flip_prob)
        return Plan(self.data.img_size, flip=bool(mirror < self.data.flip_prob), upside_down=upside_down, pixels=pixels)

    def geometry(self, plan: Plan, shape: tuple[int, int]) -> Geometry:
        """How a picture of `shape` (height, width) fills the canvas."""
        side = self.data.img_size
        scale = (side / shape[1], side / shape[0])
        size = (shape[0], shape[1])
        return Geometry(size, (side, side), (side, side), (0, 0), scale, plan.flip, plan.upside_down)

    def lay(
        self, pixels: np.ndarray, plan: Plan, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `SentenceTransform.lay`."""
        height, width = geometry.resized_size
        # Averages what it shrinks: small objects would otherwise fall between the samples.
        shrinks = height < pixels.shape[0] and width < pixels.shape[1]
        interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return geometry.mirror(cv2.resize(pixels, (width, height), interpolation=interpolation)), (0, 0)
