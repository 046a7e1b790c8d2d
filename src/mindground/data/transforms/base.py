"""What every recipe shares: reading a sample, its arrays, the canvas, and the exact way back.

Random choices (`draw`) are kept apart from what is done with them (`apply`): a recorded `Plan` gives the same arrays
again, and every draw comes from the generator handed in.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mindground.data.transforms.color import PixelPlan
from mindground.errors import DataError
from mindground.files.images import ImageCache, read_image
from mindground.structures import Geometry, Sample, xyxy_to_cxcywh
from mindground.structures.referent import referent_box, referent_mask
from mindground.text import Tokenizer, flip_expression

if TYPE_CHECKING:
    from mindground.config import DataConfig

__all__ = ["Crop", "Example", "Plan", "SentenceTransform", "between", "image_shape", "resized_size"]

_log = logging.getLogger("mindground")

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
        crop: window that is kept, or None for all of it. Of the picture that `size` made; of the one that
            `short_side` made where that is given.
        flip: mirror left to right (after the crop).
        corner: (x, y) of the picture on the canvas, or None for the centre.
        upside_down: mirror top to bottom (after the crop).
        pixels: what is done to the colours (after everything that moves pixels).
        short_side: its shorter side becomes this many pixels first, then it is cut, and `size` is the longer side of
            what is kept; None = resized once.
    """

    size: int
    crop: Crop | None = None
    flip: bool = False
    corner: tuple[int, int] | None = None
    upside_down: bool = False
    pixels: PixelPlan = PixelPlan()
    short_side: int | None = None


@dataclass
class Example:
    """One row of a batch: arrays without batch axis, the way back, and where it came from."""

    arrays: dict[str, np.ndarray]
    geometry: Geometry
    sample: Sample


def resized_size(shape: tuple[int, int], size: int) -> tuple[tuple[int, int], tuple[float, float]]:
    """(height, width) after the longer side became `size`, and the (x, y) factors.

    Sides are rounded half to even and both factors are the unrounded ratio, as VG-LAW and CLIP-VG scale boxes.
    A side that would vanish becomes one pixel, with its own factor.
    """
    ratio = size / max(shape)
    height, width = round(shape[0] * ratio), round(shape[1] * ratio)
    scale = (ratio if width else 1 / shape[1], ratio if height else 1 / shape[0])
    return (max(height, 1), max(width, 1)), scale


def image_shape(pixels: np.ndarray) -> tuple[int, int]:
    """(height, width) of an image (H, W, ...)."""
    return pixels.shape[0], pixels.shape[1]


def between(fraction: float, low: int, high: int) -> int:
    """Whole number in [low, high], both included, from a fraction in [0, 1)."""
    return low + int(fraction * (high - low + 1))


class SentenceTransform:
    """Samples with a sentence -> `Example`s for box and mask grounding; a recipe says how the picture is laid.

    Arrays of one example, S = `img_size`, L = `max_len`:
        image (3, S, S) float32, normalised, 0 on padding.
        padding (S, S) uint8: 1 where the canvas shows no picture.
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
        self._images = ImageCache(data_config.image_cache_mb if training else 0)
        self._warned_size = False
        # Mirrored sentences swap "left" and "right" inside words, too, as released code does.
        self.swaps_substrings = False

    def draw(self, rng: np.random.Generator, shape: tuple[int, int], box_xyxy: np.ndarray, expression: str) -> Plan:
        """Random choices for one training picture of `shape` (height, width); a recipe says which."""
        raise TypeError(f"{type(self).__name__} does not define draw")

    def geometry(self, plan: Plan, shape: tuple[int, int]) -> Geometry:
        """How a picture of `shape` (height, width) lies on the canvas under a plan."""
        raise TypeError(f"{type(self).__name__} does not define geometry")

    def lay(
        self, pixels: np.ndarray, plan: Plan, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Pixels (H, W) or (H, W, 3) uint8 in the size and sense of the canvas, and the (x, y) where they start.

        What sticks out of the canvas is cut by the caller.
        """
        raise TypeError(f"{type(self).__name__} does not define lay")

    def canvas_box(self, plan: Plan, geometry: Geometry, box_xyxy: np.ndarray) -> np.ndarray:
        """(4,) box in original pixels -> what of it is seen, (4,) xyxy float32 in canvas pixels."""
        top, left, bottom, right = geometry.visible()
        box = geometry.boxes_to_canvas(box_xyxy)[0]
        return np.clip(box, [left, top, left, top], [right, bottom, right, bottom])

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
            plan = self.draw(rng, image_shape(image), referent_box(sample), sample.expression)
        mask = referent_mask(sample, image_shape(image)) if self.data.use_mask else None
        return self.apply(plan, sample, image, mask)

    def apply(self, plan: Plan, sample: Sample, image: np.ndarray, mask: np.ndarray | None) -> Example:
        """Carry out a plan on an image (H, W, 3) uint8 and the referent's mask (H, W) uint8 or None."""
        example = self._show(plan, sample, image, self.mirrored(sample.expression or "", plan))
        geometry, side = example.geometry, self.data.img_size
        box = self.canvas_box(plan, geometry, referent_box(sample))
        self.require_area(sample, image, box)
        canvas_mask = np.zeros((1, side, side), np.float32)
        if mask is not None:
            canvas_mask[0] = _place(*self.lay(mask, plan, geometry, nearest=True), side) != 0
        example.arrays["box"] = xyxy_to_cxcywh(box / np.float32(side))
        example.arrays["mask"] = canvas_mask
        example.arrays["has_mask"] = np.asarray([mask is not None], np.float32)
        return example

    def from_image(self, image: np.ndarray, expression: str) -> Example:
        """An image (H, W, 3) uint8 RGB and a sentence without truth: for prediction.

        Only `image`, `padding`, `token_ids` and `token_mask` are made.
        """
        sample = Sample("", "0", "0", expression, size=image_shape(image))
        return self._show(Plan(self.data.img_size), sample, image, expression)

    def with_sentence(self, example: Example, expression: str) -> Example:
        """Another sentence about the picture of an example made by `from_image`; the picture's arrays are shared."""
        token_ids, token_mask = self.tokenizer([expression], self.data.max_len)
        arrays = {**example.arrays, "token_ids": token_ids[0], "token_mask": token_mask[0]}
        return Example(arrays, example.geometry, replace(example.sample, expression=expression))

    def mirrored(self, expression: str, plan: Plan) -> str:
        """The sentence that is true of the picture as the plan mirrors it."""
        if plan.flip:
            expression = flip_expression(expression, substrings=self.swaps_substrings)
        if plan.upside_down:
            expression = flip_expression(expression, "vertical", substrings=self.swaps_substrings)
        return expression

    def require_area(self, sample: Sample, image: np.ndarray, box: np.ndarray) -> None:
        """Raises DataError for a box (4,) that nothing of is seen."""
        if not (box[2] > box[0] and box[3] > box[1]):
            raise DataError(
                f"sample {sample.sample_id!r}: its box {referent_box(sample).tolist()} has no area inside the image "
                f"{sample.image_path} of {image.shape[1]} x {image.shape[0]}; run tools/data_check.py"
            )

    def _show(self, plan: Plan, sample: Sample, image: np.ndarray, expression: str) -> Example:
        side = self.data.img_size
        geometry = self.geometry(plan, image_shape(image))
        laid, corner = self.lay(image, plan, geometry, nearest=False)
        pixels = plan.pixels.apply(laid).astype(np.float32)
        pixels /= np.float32(255)
        pixels -= self._mean
        pixels /= self._std
        padding = np.ones((side, side), np.uint8)
        top, left, bottom, right = geometry.visible()
        padding[top:bottom, left:right] = 0
        token_ids, token_mask = self.tokenizer([expression], self.data.max_len)
        arrays = {
            "image": np.ascontiguousarray(_place(pixels, corner, side).transpose(2, 0, 1)),
            "padding": padding,
            "token_ids": token_ids[0],
            "token_mask": token_mask[0],
        }
        return Example(arrays, geometry, sample)

    def _read(self, sample: Sample) -> np.ndarray:
        image = self._images.read(sample.image_path)
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


def _place(pixels: np.ndarray, corner: tuple[int, int], side: int) -> np.ndarray:
    """Paste a picture on a square canvas of zeros with its corner at (x, y); what lies outside is cut."""
    canvas = np.zeros((side, side, *pixels.shape[2:]), pixels.dtype)
    x, y = corner
    top, left, bottom, right = max(0, y), max(0, x), min(side, y + pixels.shape[0]), min(side, x + pixels.shape[1])
    canvas[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]
    return canvas
