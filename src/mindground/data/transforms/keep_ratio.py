"""The image keeps its shape and lies in the upper left corner of the canvas: SeqTR's and MSAM's preparation.

The longer side becomes that of the canvas, by OpenCV's bilinear filter, and sizes are rounded half up. Training may
draw the size instead (large-scale jitter, Ghiasi et al., arXiv 2012.07177) and cut a window of the usual size where the
image is larger. `jitter: legacy` brings back four errors of the published code: windows that miss the referent on both
axes count as hits; where no window is good enough, the best one is cut but boxes follow the last one; boxes move by
fractions of a pixel that the image does not move by; and where even the best one is too bad, the image stays as it was
stored while its padding is that of another size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from mindground.config.keys import key, refuse_outside
from mindground.data.transforms.base import Crop, Transform, TransformParams, image_shape
from mindground.data.transforms.registry import Recipe
from mindground.errors import ConfigError
from mindground.structures import Geometry

__all__ = [
    "RECIPES",
    "Jitter",
    "KeepRatioConfig",
    "KeepRatioParams",
    "KeepRatioTransform",
    "draw_jitter",
    "fitted_size",
]

Jitter = Literal["off", "fixed", "legacy"]

# A window shall hold so large a part of the referent's box; windows are tried so often for each of these.
_WANTED, _TRIES = (0.9, 0.8, 0.7, 0.6, 0.5), 100
# The best of all windows is cut where it holds at least this part.
_ENOUGH = 0.3


@dataclass
class KeepRatioConfig:
    """Keys of `data.transform` for `name: keep_ratio`; all of them act in training only."""

    # Large-scale jitter, without or with the errors of the published code.
    jitter: Jitter = key("off", affects="numbers", training_only=True)
    # The longer side is drawn between these parts of the canvas.
    jitter_min: float = key(0.3, affects="numbers", training_only=True)
    jitter_max: float = key(1.4, affects="numbers", training_only=True)

    def __post_init__(self) -> None:
        refuse_outside(self, "data.transform.", ["jitter_min"], 0.01, 10)
        refuse_outside(self, "data.transform.", ["jitter_max"], 0.01, 10)
        if self.jitter_max < self.jitter_min:
            raise ConfigError(
                f"data.transform.jitter_max={self.jitter_max} must not be below jitter_min={self.jitter_min}"
            )


@dataclass(frozen=True)
class KeepRatioParams(TransformParams):
    """What is done to one image.

    Attributes:
        resized: (height, width) after the resize; None = as large as the canvas holds.
        moved: (x, y) by which boxes move towards the corner; None = by the corner of `crop`.
        stated: (height, width) that the padding shows instead of the image's own size.
    """

    resized: tuple[int, int] | None = None
    moved: tuple[float, float] | None = None
    stated: tuple[int, int] | None = None


def fitted_size(shape: tuple[int, int], side: float) -> tuple[int, int]:
    """(height, width) of an image of `shape` whose longer side becomes `side`, at least one pixel each."""
    ratio = side / max(shape)
    return max(1, int(shape[0] * ratio + 0.5)), max(1, int(shape[1] * ratio + 0.5))


def _held(box: np.ndarray, corner: tuple[float, float], window: tuple[int, int], legacy: bool) -> float:
    """Part of a box (4,) that a window of (height, width) at (x, y) holds."""
    low = np.maximum(box[:2], corner)
    high = np.minimum(box[2:], (corner[0] + window[1], corner[1] + window[0]))
    extent = high - low
    if not legacy:
        extent = np.maximum(extent, 0.0)
    area = float(np.prod(box[2:] - box[:2]))
    return float(np.prod(extent)) / area if area > 0 else 0.0


def draw_jitter(
    draw: Callable[[], float],
    shape: tuple[int, int],
    side: int,
    box: np.ndarray,
    bounds: tuple[float, float] = (0.3, 1.4),
    legacy: bool = False,
) -> KeepRatioParams:
    """Size and window of one training image.

    Args:
        draw: the next number in [0, 1): the size, then x and y of every window that is tried.
        shape: (height, width) of the image.
        side: of the canvas.
        box: (4,) of the referent in original pixels.
        bounds: smallest and largest longer side, as parts of the canvas.
        legacy: with the errors of the published code.
    """
    ratio = bounds[0] + (bounds[1] - bounds[0]) * draw()
    resized = fitted_size(shape, side * ratio)
    if ratio <= 1:
        return KeepRatioParams(side, resized=resized)
    window = fitted_size(shape, side)
    window = (min(window[0], resized[0]), min(window[1], resized[1]))
    scaled = np.asarray(box, np.float64) * np.tile([resized[1] / shape[1], resized[0] / shape[0]], 2)
    best, best_corner, corner = -1.0, (0.0, 0.0), (0.0, 0.0)
    for wanted in _WANTED:
        for _ in range(_TRIES):
            across, down = draw(), draw()
            corner = (across * (resized[1] - window[1]), down * (resized[0] - window[0]))
            held = _held(scaled, corner, window, legacy)
            if held > best:
                best, best_corner = held, corner
            if held >= wanted:
                return _cut(side, resized, window, corner, corner if legacy else None)
    if best >= _ENOUGH:
        return _cut(side, resized, window, best_corner, corner if legacy else None)
    return KeepRatioParams(side, resized=shape, stated=resized) if legacy else KeepRatioParams(side)


def _cut(
    side: int,
    resized: tuple[int, int],
    window: tuple[int, int],
    corner: tuple[float, float],
    moved: tuple[float, float] | None,
) -> KeepRatioParams:
    crop = Crop(int(corner[0]), int(corner[1]), window[1], window[0])
    return KeepRatioParams(side, crop, resized=resized, moved=moved)


class KeepRatioTransform(Transform):
    """`data.transform.name=keep_ratio`."""

    def __init__(
        self, *, jitter: Jitter = "off", jitter_min: float = 0.3, jitter_max: float = 1.4, **common: Any
    ) -> None:
        super().__init__(**common)
        self.jitter, self.bounds = jitter, (jitter_min, jitter_max)

    def draw_params(
        self, rng: np.random.Generator, shape: tuple[int, int], boxes_xyxy: np.ndarray, expression: str
    ) -> KeepRatioParams:
        """Size and window, where jitter is on; its windows are chosen for the first box."""
        if self.jitter == "off":
            return KeepRatioParams(self.img_size)
        box = boxes_xyxy[0] if len(boxes_xyxy) else np.asarray([0, 0, shape[1], shape[0]])
        return draw_jitter(rng.random, shape, self.img_size, box, self.bounds, self.jitter == "legacy")

    def geometry(self, params: TransformParams, shape: tuple[int, int]) -> Geometry:
        """How an image of `shape` (height, width) lies in the corner of the canvas."""
        side, crop = self.img_size, params.crop
        ours = params if isinstance(params, KeepRatioParams) else KeepRatioParams(params.size)
        height, width = ours.resized or fitted_size(shape, side)
        # Each axis by its own ratio, as boxes are scaled upstream.
        scale = (width / shape[1], height / shape[0])
        seen = ours.stated or ((crop.height, crop.width) if crop is not None else (height, width))
        window = (0, 0, min(side, seen[0]), min(side, seen[1]))
        left, top = (crop.left, crop.top) if crop is not None else (0, 0)
        kept = crop is not None or ours.stated is not None or height > side or width > side
        size = (shape[0], shape[1])
        return Geometry(size, (height, width), (side, side), (-left, -top), scale, window=window if kept else None)

    def resample(
        self, pixels: np.ndarray, params: TransformParams, geometry: Geometry, *, nearest: bool
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """See `Transform.resample`."""
        height, width = geometry.resized_size
        if image_shape(pixels) != (height, width):
            interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
            pixels = cv2.resize(pixels, (width, height), interpolation=interpolation)
        if params.crop is not None:
            left, top = params.crop.left, params.crop.top
            pixels = pixels[top : top + params.crop.height, left : left + params.crop.width]
        return pixels, (0, 0)

    def canvas_box(self, params: TransformParams, geometry: Geometry, box_xyxy: np.ndarray) -> np.ndarray:
        """See `Transform.canvas_box`; a cut box ends at the middle of the last pixel, as upstream's."""
        if params.crop is None:
            return super().canvas_box(params, geometry, box_xyxy)
        moved = params.moved if isinstance(params, KeepRatioParams) else None
        moved = (params.crop.left, params.crop.top) if moved is None else moved
        box = np.asarray(box_xyxy, np.float64) * np.tile(geometry.scale, 2) - np.tile(moved, 2)
        last = np.asarray([params.crop.width - 1, params.crop.height - 1], np.float64)
        return np.clip(box, 0, np.tile(last, 2)).astype(np.float32)


RECIPES = (Recipe("keep_ratio", KeepRatioConfig, KeepRatioTransform, ("referring",)),)
