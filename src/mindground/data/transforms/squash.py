"""The whole image is squeezed into the square canvas as Pillow resizes: RMSIN's and LAVT's preparation.

Pillow's bilinear filter averages what it shrinks and rounds to 8 bits after each of its two passes. Published weights
were trained on such images. The augmentation paints black squares on a fixed part of the training objects.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from mindground.config.keys import key
from mindground.data.transforms.base import TransformParams, image_shape
from mindground.data.transforms.registry import Recipe
from mindground.data.transforms.stretch import StretchTransform
from mindground.errors import ConfigError
from mindground.structures import Example, Geometry, Sample, Truth

__all__ = ["RECIPES", "BlackBoxes", "SquashConfig", "SquashParams", "SquashTransform", "black_boxed"]

# As published: side of a square in pixels, fewest and most squares, and the seed that chooses the objects.
BOX_SIDE, FEWEST, MOST, CHOICE_SEED = 32, 20, 60, 2401

BlackBoxes = Literal["off", "legacy", "inside"]


@dataclass
class SquashConfig:
    """Keys of `data.transform` for `name: squash`; all of them act in training only."""

    # Black squares on the original image, at new places every time. legacy draws both coordinates from the width, as
    # upstream does; inside draws each from its own side.
    black_boxes: BlackBoxes = key("off", affects="numbers", training_only=True)
    # Part of the objects that get them, the same ones in every epoch.
    black_box_part: float = key(0.2, affects="numbers", training_only=True)
    flip_prob: float = key(0.0, affects="numbers", training_only=True)
    vertical_flip_prob: float = key(0.0, affects="numbers", training_only=True)
    # Brightness, contrast and saturation, in random order, each times a factor between 0.6 and 1.4.
    color_jitter_prob: float = key(0.0, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        if not 0 <= self.black_box_part <= 1:
            raise ConfigError(f"data.transform.black_box_part={self.black_box_part} must be at least 0 and at most 1")


@dataclass(frozen=True)
class SquashParams(TransformParams):
    """What is done to one image.

    Attributes:
        boxes: (x, y) of the black squares' corners in original pixels.
    """

    boxes: tuple[tuple[int, int], ...] = ()


def black_boxed(sample: Sample, part: float) -> bool:
    """Whether a sample's object is one of those that get black squares: the same in every epoch and on every rank."""
    name = sample.object_ids[0] if sample.object_ids else sample.sample_id
    digest = hashlib.blake2b(f"{CHOICE_SEED} {name}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") < part * 2**32


def draw_boxes(rng: np.random.Generator, shape: tuple[int, int], kind: BlackBoxes) -> tuple[tuple[int, int], ...]:
    """Corners (x, y) of 20 to 60 squares on an image of `shape` (height, width); a small image keeps them at 0."""
    count = int(rng.integers(FEWEST, MOST + 1))
    height, width = shape
    across = max(0, width - BOX_SIDE)
    down = across if kind == "legacy" else max(0, height - BOX_SIDE)
    xs, ys = rng.integers(0, across + 1, count), rng.integers(0, down + 1, count)
    return tuple((int(x), int(y)) for x, y in zip(xs, ys, strict=True))


def paint_boxes(pixels: np.ndarray, boxes: tuple[tuple[int, int], ...]) -> np.ndarray:
    """A copy of an image (H, W, 3) with black squares; what sticks out is cut."""
    painted = np.array(pixels)
    for x, y in boxes:
        painted[y : y + BOX_SIDE, x : x + BOX_SIDE] = 0
    return painted


def nearest_pixels(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, ...) -> `size` (height, width) by the pixel under each centre, as Pillow chooses it."""
    rows, columns = (
        np.minimum(((np.arange(side) + 0.5) * (length / side)).astype(np.int64), length - 1)
        for side, length in zip(size, pixels.shape[:2], strict=True)
    )
    return pixels[rows[:, None], columns[None]]


class SquashTransform(StretchTransform):
    """`data.transform.name=squash`: Pillow's bilinear resize to a square; mirrors and colours as `stretch` has them."""

    def __init__(
        self,
        *,
        black_boxes: BlackBoxes = "off",
        black_box_part: float = 0.2,
        flip_prob: float = 0.0,
        **common: Any,
    ) -> None:
        super().__init__(flip_prob=flip_prob, **common)
        self.black_boxes, self.black_box_part = black_boxes, black_box_part

    def draw_params(
        self, rng: np.random.Generator, shape: tuple[int, int], boxes_xyxy: np.ndarray, expression: str
    ) -> SquashParams:
        """Mirrors, colours and, where the augmentation is on, squares; `apply` leaves them out of other objects."""
        drawn = super().draw_params(rng, shape, boxes_xyxy, expression)
        boxes = draw_boxes(rng, shape, self.black_boxes) if self.black_boxes != "off" else ()
        return SquashParams(**vars(drawn), boxes=boxes)

    def apply(self, params: TransformParams, sample: Sample, image: np.ndarray, truth: Truth) -> Example:
        """See `Transform.apply`; squares are painted before the image is resized."""
        if isinstance(params, SquashParams) and params.boxes:
            if black_boxed(sample, self.black_box_part):
                image = paint_boxes(image, params.boxes)
            params = replace(params, boxes=())
        return super().apply(params, sample, image, truth)

    def resample(
        self, pixels: np.ndarray, params: TransformParams, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `Transform.resample`."""
        height, width = geometry.resized_size
        if image_shape(pixels) == (height, width):
            resized = pixels
        elif nearest:
            resized = nearest_pixels(pixels, (height, width))
        else:
            whole = Image.fromarray(np.ascontiguousarray(pixels))
            resized = np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR))
        return geometry.mirror(resized), (0, 0)


RECIPES = (Recipe("squash", SquashConfig, SquashTransform, ("referring", "instances")),)
