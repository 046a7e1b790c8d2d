"""From a referring sample to the arrays a network takes, with the exact way back.

Random choices (`draw_plan`) are kept apart from what is done with them (`ReferringTransform.apply`):
a recorded plan gives the same arrays again, and every draw comes from the generator handed in.
Steps after VG-LAW (Su et al., CVPR 2023): resize, crop around the referent, mirror, normalise, pad.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mindground.data.images import read_image
from mindground.data.pixels import PixelPlan, draw_pixel_plan
from mindground.errors import ConfigError, DataError
from mindground.referent import referent_box, referent_mask
from mindground.structures import Geometry, Sample, xyxy_to_cxcywh
from mindground.text import Tokenizer, flip_expression, has_direction

if TYPE_CHECKING:
    from mindground.config import DataConfig
    from mindground.data.dataset import Dataset

__all__ = [
    "TRANSFORMS",
    "Crop",
    "Example",
    "Plan",
    "ReferringTransform",
    "crop_ranges",
    "draw_plan",
    "plan_geometry",
    "resized_size",
    "transform_for",
]

_log = logging.getLogger("mindground")

# multi_scale chooses among nine sizes around img_size, 32 pixels apart (VG-LAW: 320 ... 576), and
# nearer to each other for small canvases, where four steps of 32 would leave nothing.
_SCALE_STEPS = range(-4, 5)
_SCALE_STRIDE = 32
# Image files and annotations may disagree by a few pixels (RRSIS-D) before something is clearly wrong.
_SIZE_TOLERANCE = 0.02


@dataclass(frozen=True)
class Crop:
    """A window of the resized picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Plan:
    """What is done to one picture.

    Attributes:
        size: its longer side becomes this many pixels.
        crop: window that is kept, or None for all of it.
        flip: mirror left to right (after the crop).
        corner: (x, y) of the picture on the canvas, or None for the centre.
        upside_down: mirror top to bottom (after the crop).
        pixels: what is done to the colours (after everything that moves pixels).
    """

    size: int
    crop: Crop | None = None
    flip: bool = False
    corner: tuple[int, int] | None = None
    upside_down: bool = False
    pixels: PixelPlan = PixelPlan()


@dataclass
class Example:
    """One row of a batch: arrays without batch axis, the way back, and where it came from."""

    arrays: dict[str, np.ndarray]
    geometry: Geometry
    sample: Sample


def resized_size(shape: tuple[int, int], size: int) -> tuple[tuple[int, int], tuple[float, float]]:
    """(height, width) after the longer side became `size`, and the (x, y) factors.

    Sides are rounded half to even and both factors are the unrounded ratio, as VG-LAW scales boxes.
    A side that would vanish becomes one pixel, with its own factor.
    """
    ratio = size / max(shape)
    height, width = round(shape[0] * ratio), round(shape[1] * ratio)
    scale = (ratio if width else 1 / shape[1], ratio if height else 1 / shape[0])
    return (max(height, 1), max(width, 1)), scale


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
            left, top = _between(where_x, *ranges[0]), _between(where_y, *ranges[1])
            crop = Crop(left, top, min(resized[1], data.img_size), min(resized[0], data.img_size))
    corner = None
    if data.translate:
        height, width = (crop.height, crop.width) if crop else resized_size(shape, size)[0]
        corner = _between(pad_x, 0, data.img_size - width), _between(pad_y, 0, data.img_size - height)
    pixels = draw_pixel_plan(rng, data.color_jitter_prob)
    return Plan(size, crop, bool(mirror < data.flip_prob), corner, bool(turn < data.vertical_flip_prob), pixels)


def _between(fraction: float, low: int, high: int) -> int:
    """Whole number in [low, high], both included, from a fraction in [0, 1)."""
    return low + int(fraction * (high - low + 1))


def plan_geometry(plan: Plan, shape: tuple[int, int], canvas: int) -> Geometry:
    """How a picture of `shape` (height, width) lies on a square canvas under a plan."""
    resized, scale = resized_size(shape, plan.size)
    crop = plan.crop or Crop(0, 0, resized[1], resized[0])
    corner = plan.corner or ((canvas - crop.width) // 2, (canvas - crop.height) // 2)
    # Mirroring happens inside the window: what was cut on the right now lies on the left.
    cut_left = resized[1] - crop.width - crop.left if plan.flip else crop.left
    cut_top = resized[0] - crop.height - crop.top if plan.upside_down else crop.top
    offset = (corner[0] - cut_left, corner[1] - cut_top)
    return Geometry(tuple(shape), resized, (canvas, canvas), offset, scale, plan.flip, plan.upside_down)


class ReferringTransform:
    """Samples with a sentence -> `Example`s for box and mask grounding.

    Arrays of one example, S = `img_size`, L = `max_len`:
        image (3, S, S) float32, normalised, 0 on padding.
        token_ids, token_mask (L,) int32.
        box (4,) float32: centre x, centre y, width, height as shares of the canvas.
        mask (1, S, S) float32 of 0 and 1, zeros when there is none; has_mask (1,) float32.

    Args:
        data_config: the `data` section.
        tokenizer: for `token_ids`.
        training: draw augmentations; otherwise the picture is resized and centred.
    """

    def __init__(self, data_config: DataConfig, tokenizer: Tokenizer, training: bool) -> None:
        self.data = data_config
        self.tokenizer = tokenizer
        self.training = training
        self._mean = np.asarray(data_config.mean, np.float32)
        self._std = np.asarray(data_config.std, np.float32)
        self._warned_size = False

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        """Read and transform one sample; outside training `rng` is not used.

        Raises:
            ImageError: the file cannot be read.
            DataError: no sentence, no box inside the image, or image and annotation disagree.
        """
        image = self._read(sample)
        if sample.expression is None:
            raise DataError(f"sample {sample.sample_id!r} has no sentence; referring models need one")
        plan = Plan(self.data.img_size)
        if self.training:
            plan = draw_plan(rng, image.shape[:2], referent_box(sample), sample.expression, self.data)
        mask = referent_mask(sample, image.shape[:2]) if self.data.use_mask else None
        return self.apply(plan, sample, image, mask)

    def apply(self, plan: Plan, sample: Sample, image: np.ndarray, mask: np.ndarray | None) -> Example:
        """Carry out a plan on an image (H, W, 3) uint8 and the referent's mask (H, W) uint8 or None."""
        expression = sample.expression or ""
        expression = flip_expression(expression) if plan.flip else expression
        expression = flip_expression(expression, "vertical") if plan.upside_down else expression
        example = self._show(plan, sample, image, expression)
        geometry, side = example.geometry, self.data.img_size
        box = geometry.boxes_to_canvas(referent_box(sample))[0]
        top, left, bottom, right = _visible(geometry)
        box = np.clip(box, [left, top, left, top], [right, bottom, right, bottom])
        if not (box[2] > box[0] and box[3] > box[1]):
            raise DataError(
                f"sample {sample.sample_id!r}: its box {referent_box(sample).tolist()} has no area inside the image "
                f"{sample.image_path} of {image.shape[1]} x {image.shape[0]}; run tools/data_check.py"
            )
        canvas_mask = np.zeros((1, side, side), np.float32)
        if mask is not None:
            canvas_mask[0] = _place(_resize(mask, geometry, cv2.INTER_NEAREST), geometry) != 0
        example.arrays["box"] = xyxy_to_cxcywh(box / np.float32(side))
        example.arrays["mask"] = canvas_mask
        example.arrays["has_mask"] = np.asarray([mask is not None], np.float32)
        return example

    def from_image(self, image: np.ndarray, expression: str) -> Example:
        """An image (H, W, 3) uint8 RGB and a sentence without truth: for prediction.

        Only `image`, `token_ids` and `token_mask` are made.
        """
        sample = Sample("", "0", "0", expression, size=image.shape[:2])
        return self._show(Plan(self.data.img_size), sample, image, expression)

    def _show(self, plan: Plan, sample: Sample, image: np.ndarray, expression: str) -> Example:
        geometry = plan_geometry(plan, image.shape[:2], self.data.img_size)
        pixels = plan.pixels.apply(_resize(image, geometry, cv2.INTER_LINEAR)).astype(np.float32)
        pixels /= np.float32(255)
        pixels -= self._mean
        pixels /= self._std
        token_ids, token_mask = self.tokenizer([expression], self.data.max_len)
        arrays = {
            "image": np.ascontiguousarray(_place(pixels, geometry).transpose(2, 0, 1)),
            "token_ids": token_ids[0],
            "token_mask": token_mask[0],
        }
        return Example(arrays, geometry, sample)

    def _read(self, sample: Sample) -> np.ndarray:
        image = read_image(sample.image_path)
        if sample.size is None or image.shape[:2] == tuple(sample.size):
            return image
        # Annotations made on the pixels as stored, before EXIF turned them.
        stored = read_image(sample.image_path, apply_exif=False)
        if stored.shape[:2] == tuple(sample.size):
            return stored
        pairs = list(zip(image.shape[:2], sample.size, strict=True))
        (height, said_height), (width, said_width) = pairs
        text = f"{sample.image_path} is {width} x {height}, its annotation says {said_width} x {said_height}"
        if any(abs(there - said) > max(2, _SIZE_TOLERANCE * said) for there, said in pairs):
            raise DataError(f"sample {sample.sample_id!r}: {text}; run tools/data_check.py to list such images")
        if not self._warned_size:
            self._warned_size = True
            _log.warning("%s; masks are resized, boxes kept; run tools/data_check.py to list such images", text)
        return image


# What a data set asks (`Dataset.kind`) -> (data section, tokeniser, training) -> transform. The transform of another
# kind is entered here, and trainer and evaluator take it from here.
TRANSFORMS: dict[str, Callable[[DataConfig, Tokenizer, bool], ReferringTransform]] = {"referring": ReferringTransform}


def transform_for(
    dataset: Dataset, data_config: DataConfig, tokenizer: Tokenizer | None, training: bool
) -> ReferringTransform:
    """The transform for what the samples of a data set ask, as `metrics.metrics_for` chooses the metrics.

    Raises:
        ConfigError: no transform for this kind of samples, or sentences without a tokeniser to read them.
    """
    make = TRANSFORMS.get(dataset.kind)
    if make is None:
        raise ConfigError(
            f"data.dataset={data_config.dataset!r} holds {dataset.kind} without sentences, and this family looks for "
            "what a sentence names: choose a data set with sentences, or write them with tools/make_referring.py"
        )
    if tokenizer is None:
        raise ConfigError(
            f"data.dataset={data_config.dataset!r} holds sentences, but there is no vocabulary to read them with: "
            "take a checkpoint that has one, or name a file in data.vocab"
        )
    return make(data_config, tokenizer, training)


def _resize(pixels: np.ndarray, geometry: Geometry, interpolation: int) -> np.ndarray:
    """Resize to `geometry.resized_size` and mirror where it says so."""
    height, width = geometry.resized_size
    pixels = cv2.resize(pixels, (width, height), interpolation=interpolation)
    return geometry.mirror(pixels)


def _visible(geometry: Geometry) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of the picture's part of the canvas, in canvas pixels."""
    (height, width), (x, y) = geometry.resized_size, geometry.offset
    return max(0, y), max(0, x), min(geometry.canvas_size[0], y + height), min(geometry.canvas_size[1], x + width)


def _place(pixels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Paste the resized picture on a canvas of zeros; what lies outside is cut."""
    canvas = np.zeros((*geometry.canvas_size, *pixels.shape[2:]), pixels.dtype)
    top, left, bottom, right = _visible(geometry)
    x, y = geometry.offset
    canvas[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]
    return canvas
