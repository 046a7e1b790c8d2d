"""What every recipe shares: reading a sample, its arrays, the canvas, and the exact way back.

Random choices (`draw_params`) are kept apart from what is done with them (`apply`): recorded parameters give the same
arrays again, and every draw comes from the generator handed in. A transform ends at geometry (`Example`); the arrays
that a loss compares with are made by the family (`models/<family>/targets.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mindground.data.orientation import as_annotated, same_but_for_rounding
from mindground.data.transforms.color import ColorParams
from mindground.errors import DataError
from mindground.files.images import ImageCache
from mindground.structures import Example, Geometry, Sample, Truth
from mindground.text import Tokenizer, flip_expression, flips_safely

__all__ = ["Crop", "NothingLeft", "Transform", "TransformParams", "between", "image_shape", "resized_size"]

_LOG = logging.getLogger("mindground")


class NothingLeft(Exception):  # noqa: N818 - a request, no mistake
    """A window hides all objects of an image that shows some: the loader draws another sample in its place."""


@dataclass(frozen=True)
class Crop:
    """A window of the resized image, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class TransformParams:
    """What is done to one image.

    Attributes:
        size: its longer side becomes this many pixels.
        crop: window that is kept, or None for all of it. Of the image that `size` made; of the one that
            `short_side` made where that is given.
        flip: mirror left to right (after the crop).
        corner: (x, y) of the image on the canvas, or None for the centre.
        upside_down: mirror top to bottom (after the crop).
        color: what is done to the colours (after everything that moves pixels).
        short_side: its shorter side becomes this many pixels first, then it is cut, and `size` is the longer side of
            what is kept; None = resized once.
    """

    size: int
    crop: Crop | None = None
    flip: bool = False
    corner: tuple[int, int] | None = None
    upside_down: bool = False
    color: ColorParams = ColorParams()
    short_side: int | None = None


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


class Transform:
    """Samples -> `Example`s on a square canvas; a recipe says how the image is resized, cut and placed.

    Args:
        img_size: side of the canvas S in pixels.
        mean, std: of RGB in 0..1.
        truth: what is true of a sample (`structures.referent_truth`, `structures.instance_truth`).
        tokenizer: for expressions; None where the network asks for none.
        max_len: tokens L of an expression, its start and end included.
        training: draw augmentations; otherwise the image is resized and centred.
        image_cache_mb: megabytes of decoded images that are kept.
        bands: of the image files, as `files.images.read_image`.
    """

    # Mirrored expressions swap "left" and "right" inside words, too, as released code does.
    swaps_substrings = False

    def __init__(
        self,
        *,
        img_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        truth: Callable[[Sample], Truth],
        tokenizer: Tokenizer | None = None,
        max_len: int = 40,
        training: bool = False,
        image_cache_mb: int = 0,
        bands: Sequence[int] | None = None,
    ) -> None:
        self.img_size, self.max_len = img_size, max_len
        self.tokenizer, self.truth, self.training = tokenizer, truth, training
        self._mean, self._std = np.asarray(mean, np.float32), np.asarray(std, np.float32)
        self._images = ImageCache(image_cache_mb, bands)
        self._warned_size = False

    # ---- what a recipe defines -----------------------------------------------------------------------------------

    def draw_params(
        self, rng: np.random.Generator, shape: tuple[int, int], boxes_xyxy: np.ndarray, expression: str
    ) -> TransformParams:
        """Random choices for one training image of `shape` (height, width) with objects (N, 4)."""
        raise TypeError(f"{type(self).__name__} does not define draw_params")

    def geometry(self, params: TransformParams, shape: tuple[int, int]) -> Geometry:
        """How an image of `shape` (height, width) lies on the canvas."""
        raise TypeError(f"{type(self).__name__} does not define geometry")

    def resample(
        self, pixels: np.ndarray, params: TransformParams, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Pixels (H, W) or (H, W, 3) uint8 in the size and sense of the canvas, and the (x, y) where they start.

        What sticks out of the canvas is cut by the caller.
        """
        raise TypeError(f"{type(self).__name__} does not define resample")

    def canvas_box(self, params: TransformParams, geometry: Geometry, box_xyxy: np.ndarray) -> np.ndarray:
        """(4,) box in original pixels -> what of it is seen, (4,) xyxy float32 in canvas pixels."""
        top, left, bottom, right = geometry.visible()
        box = geometry.boxes_to_canvas(box_xyxy)[0]
        return np.clip(box, [left, top, left, top], [right, bottom, right, bottom])

    # ---- what all of them do -------------------------------------------------------------------------------------

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        """Read and transform one sample; outside training `rng` is not used.

        Raises:
            ImageError: the file cannot be read.
            DataError: an expression is asked for and absent, a referent has no area inside the image, or image and
                annotation disagree.
        """
        image = self._read(sample)
        if self.tokenizer is not None and sample.expression is None:
            raise DataError(f"sample {sample.sample_id!r} has no sentence; referring models need one")
        truth = self.truth(sample)
        params = TransformParams(self.img_size)
        if self.training:
            params = self.draw_params(rng, image_shape(image), truth.boxes_xyxy, sample.expression or "")
            params = self.unmirrored(params, sample.expression or "")
        return self.apply(params, sample, image, truth)

    def apply(self, params: TransformParams, sample: Sample, image: np.ndarray, truth: Truth) -> Example:
        """Do to an image (H, W, 3) uint8 and its truth what the parameters say."""
        expression = None if sample.expression is None else self.mirrored(sample.expression, params)
        example = self._example(params, sample, image, expression)
        geometry = example.geometry
        boxes = [self.canvas_box(params, geometry, box) for box in truth.boxes_xyxy]
        seen = np.asarray([box[2] > box[0] and box[3] > box[1] for box in boxes], bool)
        if truth.single and not self.is_seen(sample, image, boxes[0]):
            raise DataError(
                f"sample {sample.sample_id!r}: its box {truth.boxes_xyxy[0].tolist()} has no area inside the image "
                f"{sample.image_path} of {image.shape[1]} x {image.shape[0]}; run tools/data_check.py"
            )
        kept = np.ones(len(boxes), bool) if truth.single else seen
        example.boxes_xyxy = np.asarray(boxes, np.float32).reshape(-1, 4)[kept]
        example.labels = truth.labels[kept]
        draw = truth.masks

        def masks() -> np.ndarray:
            assert draw is not None
            return self._canvas_masks(draw(image_shape(image))[kept], params, geometry)

        example.masks = masks if draw is not None else None
        return example

    def from_image(self, image: np.ndarray, expression: str | None = None) -> Example:
        """An image (H, W, 3) uint8 RGB, and an expression where one is asked for, without truth: for prediction."""
        sample = Sample("", "0", "0", expression, size=image_shape(image))
        return self._example(TransformParams(self.img_size), sample, image, expression)

    def geometry_of(self, shape: tuple[int, ...]) -> Geometry:
        """Where `from_image` puts an image of `shape` (height, width, ...)."""
        return self.geometry(TransformParams(self.img_size), (int(shape[0]), int(shape[1])))

    def with_expression(self, example: Example, expression: str) -> Example:
        """Another expression about the image of an example made by `from_image`; the image's arrays are shared."""
        arrays = {**example.arrays, **self._tokens(expression)}
        return Example(arrays, example.geometry, replace(example.sample, expression=expression))

    def mirrored(self, expression: str, params: TransformParams) -> str:
        """The expression that is true of the image as it is mirrored."""
        if params.flip:
            expression = flip_expression(expression, substrings=self.swaps_substrings)
        if params.upside_down:
            expression = flip_expression(expression, "vertical", substrings=self.swaps_substrings)
        return expression

    def unmirrored(self, params: TransformParams, expression: str) -> TransformParams:
        """Without the mirrors after which no rewriting makes the expression surely true ("the letter E")."""
        if self.swaps_substrings or not expression:
            return params
        flip = params.flip and flips_safely(expression)
        upside_down = params.upside_down and flips_safely(expression, "vertical")
        return replace(params, flip=flip, upside_down=upside_down)

    def is_seen(self, sample: Sample, image: np.ndarray, box: np.ndarray) -> bool:
        """True for a referent's box (4,) on the canvas of which something is seen."""
        return bool(box[2] > box[0] and box[3] > box[1])

    def _example(self, params: TransformParams, sample: Sample, image: np.ndarray, expression: str | None) -> Example:
        side = self.img_size
        geometry = self.geometry(params, image_shape(image))
        resampled, corner = self.resample(image, params, geometry, nearest=False)
        pixels = params.color.apply(resampled).astype(np.float32)
        pixels /= np.float32(255)
        pixels -= self._mean
        pixels /= self._std
        padding = np.ones((side, side), np.uint8)
        top, left, bottom, right = geometry.visible()
        padding[top:bottom, left:right] = 0
        arrays = {"image": np.ascontiguousarray(_paste(pixels, corner, side).transpose(2, 0, 1)), "padding": padding}
        if expression is not None and self.tokenizer is not None:
            arrays |= self._tokens(expression)
        return Example(arrays, geometry, sample)

    def _tokens(self, expression: str) -> dict[str, np.ndarray]:
        if self.tokenizer is None:
            raise DataError("this transform has no tokeniser, so it cannot take a sentence; leave the sentence out")
        token_ids, token_mask = self.tokenizer([expression], self.max_len)
        return {"token_ids": token_ids[0], "token_mask": token_mask[0]}

    def _canvas_masks(self, masks: np.ndarray, params: TransformParams, geometry: Geometry) -> np.ndarray:
        """(N, H, W) in original pixels -> (N, S, S) uint8 on the canvas."""
        canvas = np.zeros((len(masks), self.img_size, self.img_size), np.uint8)
        for index, mask in enumerate(masks):
            canvas[index] = _paste(*self.resample(mask, params, geometry, nearest=True), self.img_size) != 0
        return canvas

    def _read(self, sample: Sample) -> np.ndarray:
        image = self._images.read(sample.image_path)
        image = as_annotated(image, sample.image_path, sample.size, self._images.bands)
        if sample.size is None or image.shape[:2] == tuple(sample.size):
            return image
        (height, width), (said_height, said_width) = image.shape[:2], sample.size
        text = f"{sample.image_path} is {width} x {height}, its annotation says {said_width} x {said_height}"
        if not same_but_for_rounding(image.shape[:2], sample.size):
            raise DataError(f"sample {sample.sample_id!r}: {text}; run tools/data_check.py to list such images")
        if not self._warned_size:
            self._warned_size = True
            _LOG.warning("%s; masks are resized, boxes kept; run tools/data_check.py to list such images", text)
        return image


def _paste(pixels: np.ndarray, corner: tuple[int, int], side: int) -> np.ndarray:
    """Paste an image on a square canvas of zeros with its corner at (x, y); what lies outside is cut."""
    canvas = np.zeros((side, side, *pixels.shape[2:]), pixels.dtype)
    x, y = corner
    top, left, bottom, right = max(0, y), max(0, x), min(side, y + pixels.shape[0]), min(side, x + pixels.shape[1])
    canvas[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]
    return canvas
