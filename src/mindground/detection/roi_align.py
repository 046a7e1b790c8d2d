"""RoIAlign (He et al. 2017): features of a box as a small grid, averaged from bilinear samples.

The mean of a grid of bilinear samples is a product of two sums, one over rows and one over columns. So the value of a
bin is a weighted sum over the pixels that the box covers, whatever number of samples a bin takes, and the weights of a
pixel are a row weight times a column weight. The host computes both (`plan_rois`), because boxes come from there and no
gradient goes to them. The graph gathers the pixels once and multiplies (`RoiAlign`): exact for any box, with one fixed
number of pixels for all boxes.

MindSpore 2.7's own operator has no half-pixel alignment, no adaptive number of samples and a wrong gradient on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import nn, ops

__all__ = ["RoiAlign", "RoiPlan", "flatten_levels", "plan_rois", "roi_levels"]

# Boxes whose pixels are gathered at once.
_CHUNK = 64
# Lists of pixels have one of these lengths, so that a graph compiles for few of them.
_LENGTHS = (64, 256, 1024, 1536, 2304)


class RoiPlan(NamedTuple):
    """Where R boxes lie on the levels of B pyramids, in fixed shapes.

    Attributes:
        pixels: (R, P) int32: rows of `flatten_levels`; 0 with weight 0 where a box covers fewer.
        row_weights, column_weights: (R, out, P) float32.
    """

    pixels: np.ndarray
    row_weights: np.ndarray
    column_weights: np.ndarray


def roi_levels(boxes: np.ndarray, levels: int, finest: float = 56.0) -> np.ndarray:
    """Level (R,) int64 of every box: 0 below twice `finest` pixels (root of the area), one more with every doubling."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    area = np.maximum((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), 0)
    with np.errstate(invalid="ignore"):
        found = np.floor(np.log2(np.sqrt(area) / np.float32(finest) + np.float32(1e-6)))
    return np.clip(np.nan_to_num(found), 0, levels - 1).astype(np.int64)


def plan_rois(
    boxes: np.ndarray,
    images: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    batch: int,
    out: int,
    samples: int = 0,
    finest: float = 56.0,
    length: int = 0,
) -> RoiPlan:
    """Pixels and weights of R boxes.

    Args:
        boxes: (R, 4) xyxy in pixels of the canvas. A box that is not finite has features 0.
        images: (R,) image of the batch.
        sizes: (rows, columns) of every level.
        strides: pixels of the canvas between cells of every level.
        batch: B.
        out: side of the grid.
        samples: per bin and axis; 0 = as many as the bin has pixels, rounded up.
        finest: see `roi_levels`.
        length: P; 0 = the next of a few lengths that holds the largest box.

    Raises:
        ValueError: a box covers more pixels than `length`.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    levels = roi_levels(boxes, len(sizes), finest)
    firsts = np.cumsum([0, *(batch * rows * columns for rows, columns in sizes)])
    height, width = np.asarray(sizes, np.int64)[levels].T
    scale = np.float32(1) / np.asarray(strides, np.float32)[levels]
    real = np.isfinite(boxes).all(1)
    boxes = np.where(real[:, None], boxes, 0)
    down = _axis_weights(
        boxes[:, 1] * scale - np.float32(0.5), boxes[:, 3] * scale - np.float32(0.5), height, out, samples
    )
    across = _axis_weights(
        boxes[:, 0] * scale - np.float32(0.5), boxes[:, 2] * scale - np.float32(0.5), width, out, samples
    )
    down[~real] = 0
    top, rows = _support(down)
    left, columns = _support(across)
    largest = int((rows * columns).max(initial=1))
    if not length:
        length = next((n for n in _LENGTHS if n >= largest), -(-largest // 1024) * 1024)
    if largest > length:
        raise ValueError(f"a box covers {largest} pixels of its level; choose length={largest} or more")
    place = np.broadcast_to(np.arange(length), (len(boxes), length))
    wide = np.maximum(columns, 1)[:, None]
    inside = place < (rows * columns)[:, None]
    y = np.where(inside, top[:, None] + place // wide, 0)
    x = np.where(inside, left[:, None] + place % wide, 0)
    start = firsts[levels] + np.asarray(images, np.int64) * height * width
    pixels = np.where(inside, start[:, None] + y * width[:, None] + x, 0).astype(np.int32)
    row_weights = np.take_along_axis(down, y[:, None], 2) * inside[:, None]
    column_weights = np.take_along_axis(across, x[:, None], 2) * inside[:, None]
    return RoiPlan(pixels, row_weights.astype(np.float32), column_weights.astype(np.float32))


def _axis_weights(low: np.ndarray, high: np.ndarray, size: np.ndarray, out: int, samples: int) -> np.ndarray:
    """(R, out, largest size): what every pixel along one axis adds to the mean of the samples of every bin.

    A sample outside [-1, size] adds nothing; one at the border takes the border pixel.
    """
    extent = high - low
    count = np.full(len(low), samples, np.int64) if samples else np.ceil(extent / np.float32(out)).astype(np.int64)
    count = np.maximum(count, 1 if samples else 0)
    weights = np.zeros((len(low), out, int(size.max(initial=1))), np.float32)
    steps = np.arange(max(int(count.max(initial=1)), 1))
    step = extent / np.float32(out)
    shares = (steps[None].astype(np.float32) + np.float32(0.5)) * (step / np.maximum(count, 1).astype(np.float32))[
        :, None
    ]
    begins = low[:, None] + np.arange(out, dtype=np.float32)[None] * step[:, None]
    places = begins[:, :, None] + shares[:, None, :]  # (R, out, S)
    limit = size[:, None, None]
    used = (steps[None, None] < count[:, None, None]) & (places >= -1) & (places <= limit)
    clamped = np.clip(places, 0, None)
    base = np.minimum(clamped.astype(np.int64), limit - 1)
    fraction = np.where(base >= limit - 1, np.float32(0), clamped - base.astype(np.float32))
    share = used / np.maximum(count, 1)[:, None, None].astype(np.float32)
    box, bins, _ = np.nonzero(used)
    np.add.at(weights, (box, bins, base[used]), ((1 - fraction) * share)[used])
    np.add.at(weights, (box, bins, np.minimum(base + 1, limit - 1)[used]), (fraction * share)[used])
    return weights


def _support(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First pixel (R,) that any bin needs, and the number of pixels from there to the last, 0 for none."""
    used = (weights != 0).any(1)
    first, last = used.argmax(1), used.shape[1] - used[:, ::-1].argmax(1)
    some = used.any(1)
    return np.where(some, first, 0), np.where(some, last - first, 0)


def flatten_levels(maps: tuple[ms.Tensor, ...]) -> ms.Tensor:
    """Levels (B, C, h, w) -> rows (sum of B h w, C), level by level, image by image."""
    parts = ()
    for item in maps:
        batch, channels, height, width = item.shape
        rows = ops.transpose(item.reshape((batch, channels, height * width)), (0, 2, 1))
        parts = parts + (rows.reshape((batch * height * width, channels)),)
    return ops.concat(parts, 0)


class _Gathered(nn.Cell):
    """Weighted sums of gathered rows; of the inputs only the rows get a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.product = ops.BatchMatMul()
        self.product_tn = ops.BatchMatMul(transpose_a=True)

    def _weights(self, row_weights: ms.Tensor, column_weights: ms.Tensor) -> ms.Tensor:
        count, out, length = row_weights.shape
        shape = (count, out, out, length)
        down = ops.broadcast_to(row_weights.reshape((count, out, 1, length)), shape)
        across = ops.broadcast_to(column_weights.reshape((count, 1, out, length)), shape)
        return (down * across).reshape((count, out * out, length))

    def construct(
        self, rows: ms.Tensor, pixels: ms.Tensor, row_weights: ms.Tensor, column_weights: ms.Tensor
    ) -> ms.Tensor:
        count, length = pixels.shape
        channels, bins = rows.shape[1], row_weights.shape[1] * column_weights.shape[1]
        found = ()
        for start in range(0, count, _CHUNK):
            # Not `min`: a compiled gradient loses that function.
            stop = start + _CHUNK if start + _CHUNK < count else count
            taken = ops.gather(rows, pixels[start:stop].reshape((-1,)), 0).reshape((stop - start, length, channels))
            weights = self._weights(row_weights[start:stop], column_weights[start:stop])
            found = found + (self.product(weights, taken),)
        return ops.concat(found, 0).reshape((count, bins, channels))

    def bprop(
        self,
        rows: ms.Tensor,
        pixels: ms.Tensor,
        row_weights: ms.Tensor,
        column_weights: ms.Tensor,
        out: ms.Tensor,
        dout: ms.Tensor,
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        count, length = pixels.shape
        channels = rows.shape[1]
        gradient = ops.zeros_like(rows)
        for start in range(0, count, _CHUNK):
            stop = start + _CHUNK if start + _CHUNK < count else count
            weights = self._weights(row_weights[start:stop], column_weights[start:stop])
            spread = self.product_tn(weights, dout[start:stop]).reshape(((stop - start) * length, channels))
            index = pixels[start:stop].reshape((-1, 1))
            gradient = ops.tensor_scatter_add(gradient, index, spread)
        return gradient, ops.zeros_like(pixels), ops.zeros_like(row_weights), ops.zeros_like(column_weights)


class RoiAlign(nn.Cell):
    """Features of boxes by a `RoiPlan`."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered = _Gathered()

    def construct(
        self, rows: ms.Tensor, pixels: ms.Tensor, row_weights: ms.Tensor, column_weights: ms.Tensor
    ) -> ms.Tensor:
        """Rows of `flatten_levels` (N, C) and the arrays of a plan -> (R, C, out, out)."""
        out = self.gathered(rows, pixels, row_weights, column_weights)
        side = row_weights.shape[1]
        return ops.transpose(out, (0, 2, 1)).reshape((pixels.shape[0], rows.shape[1], side, side))
