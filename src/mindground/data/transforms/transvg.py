"""The recipe that CLIP-VG inherits from TransVG: Pillow's resize, scales, random windows, colours, a random place.

Sources: Deng et al., TransVG, ICCV 2021, and Xiao et al., CLIP-VG, TMM 2023 (`linhuixiao/CLIP-VG`, its transforms and
their order). `legacy_augmentation` brings back three slips of the released code: place words found inside other
words ("bright"), windows accepted by comparing the referent's centre with the wrong edges, so that little or nothing
of it may be left, and scales 32 pixels apart that reach down to images of 32 pixels on a canvas of 224.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from mindground.config.keys import key
from mindground.data.transforms.base import Crop, Transform, TransformParams, between, image_shape, resized_size
from mindground.data.transforms.color import draw_color_params
from mindground.data.transforms.registry import Recipe
from mindground.errors import ConfigError
from mindground.structures import Geometry, Sample, clip_boxes, referent_box
from mindground.text import has_direction

__all__ = [
    "RECIPES",
    "TransvgConfig",
    "TransvgTransform",
    "crop_accepted",
    "draw_transvg_params",
    "resized_short",
    "scale_sizes",
    "transvg_geometry",
]

# The window branch: shorter side, then a window of at least and at most so many pixels, and how often it is tried.
_SHORT_SIDES = (400, 500, 600)
_WINDOW = (384, 600)
_TRIES = 20
_CROP_PROB = 0.5
_BLUR_PROB = 0.5
# Legacy: sizes of the longer side, img_size less 0, 1 ... 6 of these pixels.
_LEGACY_STRIDE = 32
_SCALES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)
# An image longer than this many times its breadth is not cut: enlarging its short side would fill the memory.
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
        box_xyxy: (4,) in pixels of the image that is cut.
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


@dataclass
class TransvgConfig:
    """Keys of `data.transform` for `name: transvg`; all of them act in training only."""

    # For every second image whose sentence names no place, a random window of it.
    aug_crop: bool = key(False, affects="numbers", training_only=True)
    # The longer side becomes 1.0, 0.95 ... or 0.7 of img_size.
    aug_scale: bool = key(False, affects="numbers", training_only=True)
    # For every second image, a Gaussian blur of 0.1 to 2 pixels.
    aug_blur: bool = key(False, affects="numbers", training_only=True)
    # The released code's place words, window test and scales, slips included (docs/data.md).
    legacy_augmentation: bool = key(False, affects="numbers", training_only=True)
    # Put the image at a random place of the canvas instead of its centre.
    translate: bool = key(False, affects="numbers", training_only=True)
    flip_prob: float = key(0.5, affects="numbers", training_only=True)
    # Mirror top to bottom, for images from above, where every side may be up.
    vertical_flip_prob: float = key(0.0, affects="numbers", training_only=True)
    # Brightness, contrast and saturation, in random order, each times a factor between 0.6 and 1.4.
    color_jitter_prob: float = key(0.0, affects="numbers", training_only=True)

    def check(self, img_size: int) -> None:
        """Raises ConfigError where the released scales, which reach down to img_size - 192, leave nothing."""
        lost = _LEGACY_STRIDE * (len(_SCALES) - 1)
        if self.legacy_augmentation and self.aug_scale and img_size <= lost:
            raise ConfigError(
                f"data.img_size={img_size} must be at least {lost + 1} with data.transform.legacy_augmentation and "
                "data.transform.aug_scale"
            )


def draw_transvg_params(
    rng: np.random.Generator,
    shape: tuple[int, int],
    box_xyxy: np.ndarray,
    expression: str,
    *,
    img_size: int,
    aug_crop: bool = False,
    aug_scale: bool = False,
    aug_blur: bool = False,
    legacy_augmentation: bool = False,
    translate: bool = False,
    flip_prob: float = 0.5,
    vertical_flip_prob: float = 0.0,
    color_jitter_prob: float = 0.0,
) -> TransformParams:
    """Random choices for one training image.

    Args:
        rng: source of every draw; the number of draws does not depend on the image.
        shape: original (height, width).
        box_xyxy: (4,) referent in original pixels.
        expression: its sentence; one that names a place is never cut.
        img_size: side of the canvas in pixels; the rest as in `TransvgConfig`.
    """
    branch, short, step, mirror, turn, pad_x, pad_y = rng.random(7)
    tries = rng.random((_TRIES, 4))
    color = draw_color_params(rng, color_jitter_prob, _BLUR_PROB if aug_blur else 0.0)
    sizes = scale_sizes(img_size, legacy_augmentation) if aug_scale else [img_size]
    short_side, crop = None, None
    # Released code looks for a few words, also inside others; ours also for compass words.
    how = {"substrings": True} if legacy_augmentation else {"compass": True}
    wanted = aug_crop and branch < _CROP_PROB and not has_direction(expression, **how)
    if wanted and max(shape) <= _LONGEST * min(shape):
        short_side = _SHORT_SIDES[int(short * len(_SHORT_SIDES))]
        crop = _draw_crop(tries, shape, short_side, box_xyxy, legacy_augmentation)
    size = sizes[int(step * len(sizes))]
    flip, upside_down = bool(mirror < flip_prob), bool(turn < vertical_flip_prob)
    params = TransformParams(size, crop, flip, None, upside_down, color, short_side)
    if not translate:
        return params
    height, width = _placed_size(params, shape)
    return replace(params, corner=(between(pad_x, 0, img_size - width), between(pad_y, 0, img_size - height)))


def _draw_crop(
    tries: np.ndarray, shape: tuple[int, int], short_side: int, box_xyxy: np.ndarray, legacy: bool
) -> Crop | None:
    """The first acceptable window of the image whose shorter side is `short_side`, or None: it stays whole."""
    (height, width), ratio = resized_short(shape, short_side)
    box = np.asarray(box_xyxy if legacy else clip_boxes(box_xyxy, shape), np.float64) * ratio
    low, high = _WINDOW
    for across, down, x, y in tries:
        crop_width, crop_height = between(across, low, min(width, high)), between(down, low, min(height, high))
        crop = Crop(between(x, 0, width - crop_width), between(y, 0, height - crop_height), crop_width, crop_height)
        if crop_accepted(box, crop, legacy):
            return crop
    return None


def _before_size(params: TransformParams, shape: tuple[int, int]) -> tuple[tuple[int, int], float, Crop]:
    """What `params.size` is applied to: the first resize's (height, width), its factor, and the window of it."""
    first, ratio = resized_short(shape, params.short_side) if params.short_side else (shape, 1.0)
    return first, ratio, params.crop or Crop(0, 0, first[1], first[0])


def _placed_size(params: TransformParams, shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the image on the canvas."""
    _, _, crop = _before_size(params, shape)
    return resized_size((crop.height, crop.width), params.size)[0]


def transvg_geometry(params: TransformParams, shape: tuple[int, int], canvas: int) -> Geometry:
    """How an image of `shape` (height, width) lies on a square canvas.

    Up to two resizes and the window between them become one factor and one offset per axis, so that boxes come back
    exactly.
    """
    _, ratio, crop = _before_size(params, shape)
    (height, width), scale = resized_size((crop.height, crop.width), params.size)
    left, top = params.corner or ((canvas - width) // 2, (canvas - height) // 2)
    sides = (canvas, canvas)
    if params.short_side is None and params.crop is None:
        return Geometry(
            (shape[0], shape[1]), (height, width), sides, (left, top), scale, params.flip, params.upside_down
        )
    factors = (ratio * scale[0], ratio * scale[1])
    whole = max(1, round(shape[0] * factors[1])), max(1, round(shape[1] * factors[0]))
    cut = crop.left * scale[0], crop.top * scale[1]
    # Mirroring happens inside the window: its right edge becomes its left one.
    x = left + width + cut[0] - whole[1] if params.flip else left - cut[0]
    y = top + height + cut[1] - whole[0] if params.upside_down else top - cut[1]
    window = (top, left, top + height, left + width)
    return Geometry((shape[0], shape[1]), whole, sides, (x, y), factors, params.flip, params.upside_down, window)


class TransvgTransform(Transform):
    """`data.transform.name=transvg`: Pillow's bilinear resize, which smooths what it shrinks; masks by nearest."""

    def __init__(
        self,
        *,
        aug_crop: bool = False,
        aug_scale: bool = False,
        aug_blur: bool = False,
        legacy_augmentation: bool = False,
        translate: bool = False,
        flip_prob: float = 0.5,
        vertical_flip_prob: float = 0.0,
        color_jitter_prob: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.legacy = self.swaps_substrings = legacy_augmentation
        self._options: dict[str, Any] = {
            "img_size": self.img_size,
            "aug_crop": aug_crop,
            "aug_scale": aug_scale,
            "aug_blur": aug_blur,
            "legacy_augmentation": legacy_augmentation,
            "translate": translate,
            "flip_prob": flip_prob,
            "vertical_flip_prob": vertical_flip_prob,
            "color_jitter_prob": color_jitter_prob,
        }

    def draw_params(
        self, rng: np.random.Generator, shape: tuple[int, int], boxes_xyxy: np.ndarray, expression: str
    ) -> TransformParams:
        """See `draw_transvg_params`."""
        return draw_transvg_params(rng, shape, boxes_xyxy[0], expression, **self._options)

    def geometry(self, params: TransformParams, shape: tuple[int, int]) -> Geometry:
        """See `transvg_geometry`."""
        return transvg_geometry(params, shape, self.img_size)

    def resample(
        self, pixels: np.ndarray, params: TransformParams, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `Transform.resample`: resize the shorter side, cut, resize the longer side, mirror."""
        sampling = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        (height, width), _, crop = _before_size(params, image_shape(pixels))
        image = Image.fromarray(pixels)
        if params.short_side is not None:
            image = image.resize((width, height), sampling)
        if params.crop is not None:
            image = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
        top, left, bottom, right = geometry.visible()
        image = image.resize((right - left, bottom - top), sampling)
        return geometry.mirror(np.asarray(image)), (left, top)

    def canvas_box(self, params: TransformParams, geometry: Geometry, box_xyxy: np.ndarray) -> np.ndarray:
        """See `Transform.canvas_box`: cut to the window before it is scaled, by the unrounded factors."""
        _, ratio, crop = _before_size(params, geometry.original_size)
        low = np.asarray([crop.left, crop.top] * 2)
        inside = clip_boxes(np.asarray(box_xyxy, np.float64) * ratio - low, (crop.height, crop.width))
        # A side that would vanish becomes a pixel, which rounds its edge beyond the canvas.
        return np.clip(geometry.boxes_to_canvas((inside + low) / ratio)[0], 0, self.img_size)

    def is_seen(self, sample: Sample, image: np.ndarray, box: np.ndarray) -> bool:
        """See `Transform.is_seen`; a legacy window may leave nothing of a box that was there."""
        if self.legacy:
            box = clip_boxes(referent_box(sample), image_shape(image))
        return super().is_seen(sample, image, box)


RECIPES = (Recipe("transvg", TransvgConfig, TransvgTransform),)
