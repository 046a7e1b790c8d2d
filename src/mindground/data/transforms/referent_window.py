"""The recipe of VG-LAW (Su et al., CVPR 2023): resize, crop around the referent, mirror, normalise, pad."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mindground.config.keys import key
from mindground.data.transforms.base import Crop, Transform, TransformParams, between, resized_size
from mindground.data.transforms.color import draw_color_params
from mindground.data.transforms.registry import Recipe
from mindground.structures import Geometry
from mindground.text import has_direction

__all__ = [
    "RECIPES",
    "ReferentWindowConfig",
    "ReferentWindowTransform",
    "crop_ranges",
    "draw_window_params",
    "window_geometry",
]

# multi_scale chooses among nine sizes around img_size, 32 pixels apart (VG-LAW: 320 ... 576), and
# nearer to each other for small canvases, where four steps of 32 would leave nothing.
_SCALE_STEPS = range(-4, 5)
_SCALE_STRIDE = 32


def crop_ranges(
    box_xyxy: np.ndarray, resized: tuple[int, int], limit: int
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Inclusive ranges of a window's left and top edge that keep the whole box, or None.

    Args:
        box_xyxy: (4,) in pixels of the resized image.
        resized: its (height, width).
        limit: longest side of the window; a shorter image is not cut.
    """
    ranges = []
    for low, high, side in ((box_xyxy[0], box_xyxy[2], resized[1]), (box_xyxy[1], box_xyxy[3], resized[0])):
        window = min(side, limit)
        first, last = max(0, min(math.ceil(high), side) - window), min(max(math.floor(low), 0), side - window)
        if first > last:
            return None
        ranges.append((first, last))
    return ranges[0], ranges[1]


@dataclass
class ReferentWindowConfig:
    """Keys of `data.transform` for `name: referent_window`; all of them act in training only."""

    # Resize to one of nine sizes around img_size, then crop around the referent.
    multi_scale: bool = key(False, affects="numbers", training_only=True)
    # Put the image at a random place of the canvas instead of its centre.
    translate: bool = key(False, affects="numbers", training_only=True)
    flip_prob: float = key(0.5, affects="numbers", training_only=True)
    # Mirror top to bottom, for images from above, where every side may be up.
    vertical_flip_prob: float = key(0.0, affects="numbers", training_only=True)
    # Brightness, contrast and saturation, in random order, each times a factor between 0.6 and 1.4.
    color_jitter_prob: float = key(0.0, affects="numbers", training_only=True)


def draw_window_params(
    rng: np.random.Generator,
    shape: tuple[int, int],
    box_xyxy: np.ndarray,
    expression: str,
    *,
    img_size: int,
    multi_scale: bool = False,
    translate: bool = False,
    flip_prob: float = 0.5,
    vertical_flip_prob: float = 0.0,
    color_jitter_prob: float = 0.0,
) -> TransformParams:
    """Random choices for one training image.

    Images larger than the canvas are only chosen when a window can keep the referent whole and the
    sentence names no place, because "the left one" may become false in a window.

    Args:
        rng: source of every draw; the number of draws does not depend on the image.
        shape: original (height, width).
        box_xyxy: (4,) referent in original pixels.
        expression: its sentence.
        img_size: side of the canvas in pixels; the rest as in `ReferentWindowConfig`.
    """
    step, where_x, where_y, mirror, pad_x, pad_y, turn = rng.random(7)
    size, crop = img_size, None
    if multi_scale:
        stride = min(_SCALE_STRIDE, img_size // 8)
        size += stride * _SCALE_STEPS[int(step * len(_SCALE_STEPS))]
    if size > img_size:
        resized, scale = resized_size(shape, size)
        ranges = crop_ranges(box_xyxy * np.asarray([*scale, *scale]), resized, img_size)
        if ranges is None or has_direction(expression):
            size = img_size
        else:
            left, top = between(where_x, *ranges[0]), between(where_y, *ranges[1])
            crop = Crop(left, top, min(resized[1], img_size), min(resized[0], img_size))
    corner = None
    if translate:
        height, width = (crop.height, crop.width) if crop else resized_size(shape, size)[0]
        corner = between(pad_x, 0, img_size - width), between(pad_y, 0, img_size - height)
    color = draw_color_params(rng, color_jitter_prob)
    return TransformParams(size, crop, bool(mirror < flip_prob), corner, bool(turn < vertical_flip_prob), color)


def window_geometry(params: TransformParams, shape: tuple[int, int], canvas: int) -> Geometry:
    """How an image of `shape` (height, width) lies on a square canvas."""
    resized, scale = resized_size(shape, params.size)
    crop = params.crop or Crop(0, 0, resized[1], resized[0])
    corner = params.corner or ((canvas - crop.width) // 2, (canvas - crop.height) // 2)
    # Mirroring happens inside the window: what was cut on the right now lies on the left.
    cut_left = resized[1] - crop.width - crop.left if params.flip else crop.left
    cut_top = resized[0] - crop.height - crop.top if params.upside_down else crop.top
    offset = (corner[0] - cut_left, corner[1] - cut_top)
    return Geometry((shape[0], shape[1]), resized, (canvas, canvas), offset, scale, params.flip, params.upside_down)


class ReferentWindowTransform(Transform):
    """`data.transform.name=referent_window`: OpenCV's bilinear resize; larger images are cut around the referent."""

    def __init__(
        self,
        *,
        multi_scale: bool = False,
        translate: bool = False,
        flip_prob: float = 0.5,
        vertical_flip_prob: float = 0.0,
        color_jitter_prob: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self._options: dict[str, Any] = {
            "img_size": self.img_size,
            "multi_scale": multi_scale,
            "translate": translate,
            "flip_prob": flip_prob,
            "vertical_flip_prob": vertical_flip_prob,
            "color_jitter_prob": color_jitter_prob,
        }

    def draw_params(
        self, rng: np.random.Generator, shape: tuple[int, int], boxes_xyxy: np.ndarray, expression: str
    ) -> TransformParams:
        """See `draw_window_params`."""
        return draw_window_params(rng, shape, boxes_xyxy[0], expression, **self._options)

    def geometry(self, params: TransformParams, shape: tuple[int, int]) -> Geometry:
        """See `window_geometry`."""
        return window_geometry(params, shape, self.img_size)

    def resample(
        self, pixels: np.ndarray, params: TransformParams, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `Transform.resample`: the whole resized image, from which the canvas keeps its window."""
        height, width = geometry.resized_size
        interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        x, y = geometry.offset
        return geometry.mirror(cv2.resize(pixels, (width, height), interpolation=interpolation)), (int(x), int(y))


RECIPES = (Recipe("referent_window", ReferentWindowConfig, ReferentWindowTransform),)
