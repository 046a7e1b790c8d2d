"""Images of many instances in the corner of the canvas, with large-scale jitter in training (RSPrompter's).

Training mirrors an image, draws its size between a tenth and twice the canvas (Ghiasi et al., arXiv 2012.07177), cuts
a window where it is larger. Boxes follow from what is left of the masks. The image is resized as float32 with OpenCV's
bilinear filter, masks by the nearest pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mindground.config.keys import key, refuse_outside
from mindground.data.transforms.base import Crop, NothingLeft, Transform, TransformParams, between, image_shape
from mindground.data.transforms.keep_ratio import fitted_size
from mindground.data.transforms.registry import Recipe
from mindground.errors import ConfigError
from mindground.structures import Example, Geometry, Sample, Truth, mask_box

__all__ = ["RECIPES", "ScaleJitterConfig", "ScaleJitterParams", "ScaleJitterTransform", "truncated_size"]

# A box with a side up to this many pixels is dropped.
_LEAST_SIDE = 1e-5


@dataclass
class ScaleJitterConfig:
    """Keys of `data.transform` for `name: scale_jitter`; all of them act in training only."""

    # The longer side is drawn between these parts of the canvas; both 1 = no jitter.
    jitter_min: float = key(0.1, affects="numbers", training_only=True)
    jitter_max: float = key(2.0, affects="numbers", training_only=True)
    flip_prob: float = key(0.5, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "data.transform.", ["jitter_min", "jitter_max"], 0.01, 10)
        refuse_outside(self, "data.transform.", ["flip_prob"], 0, 1)
        if self.jitter_max < self.jitter_min:
            raise ConfigError(
                f"data.transform.jitter_max={self.jitter_max} must not be below jitter_min={self.jitter_min}"
            )


@dataclass(frozen=True)
class ScaleJitterParams(TransformParams):
    """What is done to one image: `flip` comes first, then the resize, then `crop`.

    Attributes:
        resized: (height, width) after the resize; None = as large as the canvas holds.
    """

    resized: tuple[int, int] | None = None


def truncated_size(geometry: Geometry) -> tuple[int, int]:
    """(height, width) of the image on the canvas as published code finds it: about one side in ten is a pixel short.

    It multiplies the original sides by the rounded factors and cuts the fraction. `Geometry.resized_size` is exact.
    """
    pairs = zip(geometry.original_size, geometry.resized_size, strict=True)
    height, width = (int(old * (new / old)) for old, new in pairs)
    return height, width


class ScaleJitterTransform(Transform):
    """`data.transform.name=scale_jitter`."""

    def __init__(
        self, *, jitter_min: float = 0.1, jitter_max: float = 2.0, flip_prob: float = 0.5, **common: Any
    ) -> None:
        super().__init__(**common)
        self.bounds, self.flip_prob = (jitter_min, jitter_max), flip_prob

    def draw_params(
        self, rng: np.random.Generator, shape: tuple[int, int], boxes_xyxy: np.ndarray, expression: str
    ) -> ScaleJitterParams:
        """Mirror, size and window; the number of draws is always the same."""
        flip, ratio, down, across = rng.random(4)
        low, high = self.bounds
        side = max(1, int(self.img_size * (low + (high - low) * ratio)))
        height, width = fitted_size(shape, side)
        kept = min(self.img_size, height), min(self.img_size, width)
        # Every offset from 0 to the last one that fits, each as likely.
        top, left = (between(part, 0, room) for part, room in ((down, height - kept[0]), (across, width - kept[1])))
        crop = Crop(left, top, kept[1], kept[0])
        return ScaleJitterParams(self.img_size, crop, bool(flip < self.flip_prob), resized=(height, width))

    def geometry(self, params: TransformParams, shape: tuple[int, int]) -> Geometry:
        """How an image of `shape` (height, width) lies in the corner of the canvas."""
        side, crop = self.img_size, params.crop
        ours = params if isinstance(params, ScaleJitterParams) else ScaleJitterParams(params.size)
        height, width = ours.resized or fitted_size(shape, side)
        left, top, right, down = 0, 0, width, height
        if crop is not None:
            left, top, right, down = crop.left, crop.top, crop.width, crop.height
        window = (0, 0, min(side, down), min(side, right))
        scale = (width / shape[1], height / shape[0])
        return Geometry(
            (shape[0], shape[1]), (height, width), (side, side), (-left, -top), scale, params.flip,
            window=window if crop is not None else None,
        )  # fmt: skip

    def resample(
        self, pixels: np.ndarray, params: TransformParams, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `Transform.resample`; an image becomes float32 before it is resized."""
        height, width = geometry.resized_size
        pixels = pixels if nearest else pixels.astype(np.float32)
        pixels = np.ascontiguousarray(pixels[:, ::-1]) if params.flip else pixels
        if image_shape(pixels) != (height, width):
            interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
            pixels = cv2.resize(pixels, (width, height), interpolation=interpolation)
        if params.crop is not None:
            left, top = params.crop.left, params.crop.top
            pixels = pixels[top : top + params.crop.height, left : left + params.crop.width]
        return pixels, (0, 0)

    def apply(self, params: TransformParams, sample: Sample, image: np.ndarray, truth: Truth) -> Example:
        """See `Transform.apply`; in training boxes are those around what is left of the masks.

        Raises:
            NothingLeft: a window shows boxes and none of their masks.
        """
        example = super().apply(params, sample, image, truth)
        if example.masks is None or params.crop is None:
            return example
        masks = example.masks()
        boxes = np.asarray([mask_box(mask) for mask in masks], np.float32).reshape(-1, 4)
        kept = (boxes[:, 2:] - boxes[:, :2] > _LEAST_SIDE).all(1)
        if len(kept) and not kept.any():
            raise NothingLeft
        left, rest = example.labels[kept], masks[kept]
        example.boxes_xyxy, example.labels = boxes[kept], left
        example.masks = lambda: rest
        return example


RECIPES = (Recipe("scale_jitter", ScaleJitterConfig, ScaleJitterTransform, ("instances",)),)
