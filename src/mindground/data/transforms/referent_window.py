"""The recipe of VG-LAW (Su et al., CVPR 2023): resize, crop around the referent, mirror, normalise, pad."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mindground.data.transforms.base import Crop, Plan, SentenceTransform, between, resized_size
from mindground.data.transforms.color import draw_pixel_plan
from mindground.structures import Geometry
from mindground.text import has_direction

if TYPE_CHECKING:
    from mindground.config import DataConfig

__all__ = ["ReferringTransform", "crop_ranges", "draw_plan", "plan_geometry"]

# multi_scale chooses among nine sizes around img_size, 32 pixels apart (VG-LAW: 320 ... 576), and
# nearer to each other for small canvases, where four steps of 32 would leave nothing.
_SCALE_STEPS = range(-4, 5)
_SCALE_STRIDE = 32


def crop_ranges(
    box_xyxy: np.ndarray, resized: tuple[int, int], limit: int
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Inclusive ranges of a window's left and top edge that keep the whole box, or None.

    Args:
        box_xyxy: (4,) in pixels of the resized picture.
        resized: its (height, width).
        limit: longest side of the window; a shorter picture is not cut.
    """
    ranges = []
    for low, high, side in ((box_xyxy[0], box_xyxy[2], resized[1]), (box_xyxy[1], box_xyxy[3], resized[0])):
        window = min(side, limit)
        first, last = max(0, min(math.ceil(high), side) - window), min(max(math.floor(low), 0), side - window)
        if first > last:
            return None
        ranges.append((first, last))
    return ranges[0], ranges[1]


def draw_plan(
    rng: np.random.Generator, shape: tuple[int, int], box_xyxy: np.ndarray, expression: str, data: DataConfig
) -> Plan:
    """Random choices for one training picture.

    Pictures larger than the canvas are only chosen when a window can keep the referent whole and the
    sentence names no place, because "the left one" may become false in a window.

    Args:
        rng: source of every draw; the number of draws does not depend on the picture.
        shape: original (height, width).
        box_xyxy: (4,) referent in original pixels.
        expression: its sentence.
        data: `img_size`, `multi_scale`, `translate`, `flip_prob`, `vertical_flip_prob`, `color_jitter_prob`.
    """
    step, where_x, where_y, mirror, pad_x, pad_y, turn = rng.random(7)
    size, crop = data.img_size, None
    if data.multi_scale:
        stride = min(_SCALE_STRIDE, data.img_size // 8)
        size += stride * _SCALE_STEPS[int(step * len(_SCALE_STEPS))]
    if size > data.img_size:
        resized, scale = resized_size(shape, size)
        ranges = crop_ranges(box_xyxy * np.asarray([*scale, *scale]), resized, data.img_size)
        if ranges is None or has_direction(expression):
            size = data.img_size
        else:
            left, top = between(where_x, *ranges[0]), between(where_y, *ranges[1])
            crop = Crop(left, top, min(resized[1], data.img_size), min(resized[0], data.img_size))
    corner = None
    if data.translate:
        height, width = (crop.height, crop.width) if crop else resized_size(shape, size)[0]
        corner = between(pad_x, 0, data.img_size - width), between(pad_y, 0, data.img_size - height)
    pixels = draw_pixel_plan(rng, data.color_jitter_prob)
    return Plan(size, crop, bool(mirror < data.flip_prob), corner, bool(turn < data.vertical_flip_prob), pixels)


def plan_geometry(plan: Plan, shape: tuple[int, int], canvas: int) -> Geometry:
    """How a picture of `shape` (height, width) lies on a square canvas under a plan."""
    resized, scale = resized_size(shape, plan.size)
    crop = plan.crop or Crop(0, 0, resized[1], resized[0])
    corner = plan.corner or ((canvas - crop.width) // 2, (canvas - crop.height) // 2)
    # Mirroring happens inside the window: what was cut on the right now lies on the left.
    cut_left = resized[1] - crop.width - crop.left if plan.flip else crop.left
    cut_top = resized[0] - crop.height - crop.top if plan.upside_down else crop.top
    offset = (corner[0] - cut_left, corner[1] - cut_top)
    return Geometry((shape[0], shape[1]), resized, (canvas, canvas), offset, scale, plan.flip, plan.upside_down)


class ReferringTransform(SentenceTransform):
    """`data.recipe=referent_window`: OpenCV's bilinear resize; larger pictures are cut around the referent."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], box_xyxy: np.ndarray, expression: str) -> Plan:
        """See `draw_plan`."""
        return draw_plan(rng, shape, box_xyxy, expression, self.data)

    def geometry(self, plan: Plan, shape: tuple[int, int]) -> Geometry:
        """See `plan_geometry`."""
        return plan_geometry(plan, shape, self.data.img_size)

    def lay(
        self, pixels: np.ndarray, plan: Plan, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `SentenceTransform.lay`: the whole resized picture, from which the canvas keeps its window."""
        height, width = geometry.resized_size
        interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        x, y = geometry.offset
        return geometry.mirror(cv2.resize(pixels, (width, height), interpolation=interpolation)), (int(x), int(y))
