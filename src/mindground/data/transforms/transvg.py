"""The recipe that CLIP-VG inherits from TransVG: Pillow's resize, scales, random windows, colours, a random place.

Sources: Deng et al., TransVG, ICCV 2021, and Xiao et al., CLIP-VG, TMM 2023 (`linhuixiao/CLIP-VG`, its transforms and
their order). `data.legacy_augmentation` brings back three slips of the released code: place words found inside other
words ("bright"), windows accepted by comparing the referent's centre with the wrong edges, so that little or nothing
of it may be left, and scales 32 pixels apart that reach down to pictures of 32 pixels on a canvas of 224.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mindground.data.transforms.base import Crop, Plan, SentenceTransform, between, image_shape, resized_size
from mindground.data.transforms.color import draw_pixel_plan
from mindground.structures import Geometry, Sample, clip_boxes
from mindground.structures.referent import referent_box
from mindground.text import Tokenizer, has_direction

if TYPE_CHECKING:
    from mindground.config import DataConfig

__all__ = ["TransvgTransform", "crop_accepted", "draw_transvg_plan", "resized_short", "scale_sizes", "transvg_geometry"]

# The window branch: shorter side, then a window of at least and at most so many pixels, and how often it is tried.
_SHORT_SIDES = (400, 500, 600)
_WINDOW = (384, 600)
_TRIES = 20
_CROP_PROB = 0.5
_BLUR_PROB = 0.5
# Legacy: sizes of the longer side, img_size less 0, 1 ... 6 of these pixels.
_LEGACY_STRIDE = 32
_SCALES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
# A picture longer than this many times its breadth is not cut: enlarging its short side would fill the memory.
_LONGEST = 8


def scale_sizes(img_size: int, legacy: bool) -> list[int]:
    """Sizes among which the longer side is chosen with `data.aug_scale`, largest first."""
    if legacy:
        return [img_size - _LEGACY_STRIDE * step for step in range(len(_SCALES))]
    return [max(1, round(img_size * share)) for share in _SCALES]


def resized_short(shape: tuple[int, int], size: int) -> tuple[tuple[int, int], float]:
    """(height, width) after the shorter side became `size`, rounded half to even, and the unrounded factor."""
    ratio = size / min(shape)
    return (round(shape[0] * ratio), round(shape[1] * ratio)), ratio


def crop_accepted(box_xyxy: np.ndarray, crop: Crop, legacy: bool = False) -> bool:
    """True when a window keeps enough of the referent: its centre, and some area.

    Args:
        box_xyxy: (4,) in pixels of the picture that is cut.
        crop: the window.
        legacy: the released test, which compares the centre's x with the window's top, its y with the window's left,
            and nothing else.
    """
    x, y = (box_xyxy[0] + box_xyxy[2]) / 2, (box_xyxy[1] + box_xyxy[3]) / 2
    if legacy:
        return bool(x > crop.top and y > crop.left)
    right, bottom = crop.left + crop.width, crop.top + crop.height
    kept = np.minimum(box_xyxy[2:], (right, bottom)) - np.maximum(box_xyxy[:2], (crop.left, crop.top))
    return bool(crop.left < x < right and crop.top < y < bottom and kept.min() > 0)


def draw_transvg_plan(
    rng: np.random.Generator, shape: tuple[int, int], box_xyxy: np.ndarray, expression: str, data: DataConfig
) -> Plan:
    """Random choices for one training picture.

    Args:
        rng: source of every draw; the number of draws does not depend on the picture.
        shape: original (height, width).
        box_xyxy: (4,) referent in original pixels.
        expression: its sentence; one that names a place is never cut.
        data: `img_size`, `aug_crop`, `aug_scale`, `aug_blur`, `translate`, `flip_prob`, `vertical_flip_prob`,
            `color_jitter_prob`, `legacy_augmentation`.
    """
    legacy = data.legacy_augmentation
    branch, short, step, mirror, turn, pad_x, pad_y = rng.random(7)
    tries = rng.random((_TRIES, 4))
    pixels = draw_pixel_plan(rng, data.color_jitter_prob, _BLUR_PROB if data.aug_blur else 0.0)
    sizes = scale_sizes(data.img_size, legacy) if data.aug_scale else [data.img_size]
    short_side, crop = None, None
    names_place = has_direction(expression, substrings=True) if legacy else has_direction(expression, compass=True)
    wanted = data.aug_crop and branch < _CROP_PROB and not names_place
    if wanted and max(shape) <= _LONGEST * min(shape):
        short_side = _SHORT_SIDES[int(short * len(_SHORT_SIDES))]
        crop = _draw_crop(tries, shape, short_side, box_xyxy, legacy)
    size = sizes[int(step * len(sizes))]
    plan = Plan(
        size, crop, bool(mirror < data.flip_prob), None, bool(turn < data.vertical_flip_prob), pixels, short_side
    )
    if not data.translate:
        return plan
    height, width = _laid_size(plan, shape)
    corner = between(pad_x, 0, data.img_size - width), between(pad_y, 0, data.img_size - height)
    return Plan(plan.size, crop, plan.flip, corner, plan.upside_down, pixels, short_side)


def _draw_crop(
    tries: np.ndarray, shape: tuple[int, int], short_side: int, box_xyxy: np.ndarray, legacy: bool
) -> Crop | None:
    """The first acceptable window of the picture whose shorter side is `short_side`, or None: it stays whole."""
    (height, width), ratio = resized_short(shape, short_side)
    box = np.asarray(box_xyxy if legacy else clip_boxes(box_xyxy, shape), np.float64) * ratio
    low, high = _WINDOW
    for across, down, x, y in tries:
        crop_width, crop_height = between(across, low, min(width, high)), between(down, low, min(height, high))
        crop = Crop(between(x, 0, width - crop_width), between(y, 0, height - crop_height), crop_width, crop_height)
        if crop_accepted(box, crop, legacy):
            return crop
    return None


def _before_size(plan: Plan, shape: tuple[int, int]) -> tuple[tuple[int, int], float, Crop]:
    """What `plan.size` is applied to: the first resize's (height, width), its factor, and the window of it."""
    first, ratio = resized_short(shape, plan.short_side) if plan.short_side else (shape, 1.0)
    return first, ratio, plan.crop or Crop(0, 0, first[1], first[0])


def _laid_size(plan: Plan, shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the picture on the canvas."""
    _, _, crop = _before_size(plan, shape)
    return resized_size((crop.height, crop.width), plan.size)[0]


def transvg_geometry(plan: Plan, shape: tuple[int, int], canvas: int) -> Geometry:
    """How a picture of `shape` (height, width) lies on a square canvas under a plan.

    Up to two resizes and the window between them become one factor and one offset per axis, so that boxes come back
    exactly.
    """
    _, ratio, crop = _before_size(plan, shape)
    (height, width), scale = resized_size((crop.height, crop.width), plan.size)
    left, top = plan.corner or ((canvas - width) // 2, (canvas - height) // 2)
    sides = (canvas, canvas)
    if plan.short_side is None and plan.crop is None:
        return Geometry((shape[0], shape[1]), (height, width), sides, (left, top), scale, plan.flip, plan.upside_down)
    factors = (ratio * scale[0], ratio * scale[1])
    whole = max(1, round(shape[0] * factors[1])), max(1, round(shape[1] * factors[0]))
    cut = crop.left * scale[0], crop.top * scale[1]
    # Mirroring happens inside the window: its right edge becomes its left one.
    x = left + width + cut[0] - whole[1] if plan.flip else left - cut[0]
    y = top + height + cut[1] - whole[0] if plan.upside_down else top - cut[1]
    window = (top, left, top + height, left + width)
    return Geometry((shape[0], shape[1]), whole, sides, (x, y), factors, plan.flip, plan.upside_down, window)


class TransvgTransform(SentenceTransform):
    """`data.recipe=transvg`: Pillow's bilinear resize, which smooths what it shrinks; masks by nearest neighbour."""

    def __init__(self, data_config: DataConfig, tokenizer: Tokenizer, training: bool) -> None:
        super().__init__(data_config, tokenizer, training)
        self.swaps_substrings = data_config.legacy_augmentation

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], box_xyxy: np.ndarray, expression: str) -> Plan:
        """See `draw_transvg_plan`."""
        return draw_transvg_plan(rng, shape, box_xyxy, expression, self.data)

    def geometry(self, plan: Plan, shape: tuple[int, int]) -> Geometry:
        """See `transvg_geometry`."""
        return transvg_geometry(plan, shape, self.data.img_size)

    def lay(
        self, pixels: np.ndarray, plan: Plan, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `SentenceTransform.lay`: resize the shorter side, cut, resize the longer side, mirror."""
        sampling = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        (height, width), _, crop = _before_size(plan, image_shape(pixels))
        picture = Image.fromarray(pixels)
        if plan.short_side is not None:
            picture = picture.resize((width, height), sampling)
        if plan.crop is not None:
            picture = picture.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
        top, left, bottom, right = geometry.visible()
        picture = picture.resize((right - left, bottom - top), sampling)
        return geometry.mirror(np.asarray(picture)), (left, top)

    def canvas_box(self, plan: Plan, geometry: Geometry, box_xyxy: np.ndarray) -> np.ndarray:
        """See `SentenceTransform.canvas_box`: cut to the window before it is scaled, by the unrounded factors."""
        _, ratio, crop = _before_size(plan, geometry.original_size)
        low = np.asarray([crop.left, crop.top] * 2)
        inside = clip_boxes(np.asarray(box_xyxy, np.float64) * ratio - low, (crop.height, crop.width))
        return geometry.boxes_to_canvas((inside + low) / ratio)[0]

    def require_area(self, sample: Sample, image: np.ndarray, box: np.ndarray) -> None:
        """See `SentenceTransform.require_area`; a legacy window may leave nothing of a box that was there."""
        if self.data.legacy_augmentation:
            box = clip_boxes(referent_box(sample), image_shape(image))
        super().require_area(sample, image, box)
