"""Resizing as products with constant matrices, built on the host.

MindSpore's CPU bicubic kernel differs from PyTorch's (other `a`, renormalised borders), and a product with a
constant has an exact and cheap gradient in both modes.
"""

from __future__ import annotations

from functools import lru_cache

import mindspore as ms
import numpy as np
from mindspore import nn, ops

__all__ = [
    "BilinearResize",
    "bicubic_matrix",
    "linear_matrix",
    "pool_matrix",
    "resize_maps",
    "resize_matrix_pair",
    "resize_positions",
    "shrink_matrix",
]


@lru_cache(maxsize=256)
def bicubic_matrix(source: int, target: int, align_corners: bool = False, a: float = -0.75) -> np.ndarray:
    """(target, source) float32 weights of 1-D cubic resizing as in PyTorch: border clamped, no antialiasing."""
    scale = source / target
    centre = (np.arange(target) + 0.5) * scale - 0.5
    if align_corners:
        centre = np.arange(target) * ((source - 1) / max(1, target - 1))
    base = np.floor(centre).astype(np.int64)
    t = centre - base
    weights = np.zeros((target, source), np.float64)
    for tap in range(-1, 3):
        d = np.abs(t - tap)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        value = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
        np.add.at(weights, (np.arange(target), np.clip(base + tap, 0, source - 1)), value)
    return weights.astype(np.float32)


@lru_cache(maxsize=256)
def linear_matrix(source: int, target: int, align_corners: bool = False) -> np.ndarray:
    """(target, source) float32 weights of 1-D linear resizing as in PyTorch."""
    if align_corners:
        centre = np.arange(target) * ((source - 1) / max(1, target - 1))
    else:
        centre = np.maximum((np.arange(target) + 0.5) * (source / target) - 0.5, 0.0)
    base = np.minimum(np.floor(centre).astype(np.int64), source - 1)
    t = centre - base
    weights = np.zeros((target, source), np.float64)
    rows = np.arange(target)
    np.add.at(weights, (rows, base), 1 - t)
    np.add.at(weights, (rows, np.minimum(base + 1, source - 1)), t)
    return weights.astype(np.float32)


@lru_cache(maxsize=64)
def shrink_matrix(source: int, target: int) -> np.ndarray:
    """(target, source) float32 weights of 1-D linear shrinking with antialiasing, as in PyTorch and Pillow.

    The width of the triangle filter follows the scale; it is centred at half pixels and its weights sum to 1.
    """
    scale = source / target
    support = max(scale, 1.0)
    centre = (np.arange(target)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(source)[None] + 0.5 - centre) / support
    weights = np.clip(1.0 - distance, 0.0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=64)
def pool_matrix(source: int, target: int) -> np.ndarray:
    """(target, source) float32 weights of 1-D adaptive average pooling as in PyTorch."""
    weights = np.zeros((target, source), np.float32)
    for row in range(target):
        begin, end = row * source // target, -(-(row + 1) * source // target)
        weights[row, begin:end] = 1.0 / (end - begin)
    return weights


@lru_cache(maxsize=256)
def _build_matrix(source: int, target: int, kind: str) -> ms.Tensor:
    if kind == "pool":
        return ms.Tensor(pool_matrix(source, target))
    return ms.Tensor(linear_matrix(source, target, kind == "aligned"))


@ops.constexpr
def _matrix_constant(source: int, target: int, kind: str) -> ms.Tensor:
    return _build_matrix(source, target, kind)


def resize_maps(x: ms.Tensor, size: tuple[int, int], kind: str = "half") -> ms.Tensor:
    """Resize maps (B, C, h, w) of any size to (B, C, H, W) with constant matrices.

    Args:
        size: (H, W).
        kind: "half" (bilinear, pixel centres at half coordinates), "aligned" (bilinear, corner pixels coincide) or
            "pool" (adaptive averages); all as in PyTorch.
    """
    batch, channels, height, width = x.shape
    if (height, width) == tuple(size):
        return x
    across = ops.MatMul(transpose_b=True)
    rows = across(x.reshape((batch * channels * height, width)), _matrix_constant(width, size[1], kind))
    matrix = _matrix_constant(height, size[0], kind)
    matrix = ops.broadcast_to(matrix.expand_dims(0), (batch * channels, size[0], height))
    out = ops.BatchMatMul()(matrix, rows.reshape((batch * channels, height, size[1])))
    return out.reshape((batch, channels, size[0], size[1]))


def resize_matrix_pair(
    source: tuple[int, int], target: tuple[int, int], kind: str = "bilinear", align_corners: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (target height, source height) and (target width, source width) of a separable resize.

    Args:
        kind: "bilinear" or "bicubic".
    """
    build = {"bilinear": linear_matrix, "bicubic": bicubic_matrix}[kind]
    return build(source[0], target[0], align_corners), build(source[1], target[1], align_corners)


def resize_positions(table: ms.Tensor, matrix_y: ms.Tensor, matrix_x: ms.Tensor) -> ms.Tensor:
    """Resize a position table with constant matrices.

    Args:
        table: (h, w, C).
        matrix_y: (H, h).
        matrix_x: (W, w).

    Returns:
        (H, W, C).
    """
    height, width, channels = table.shape
    rows = ops.matmul(matrix_y, table.reshape((height, width * channels)))
    rows = ops.transpose(rows.reshape((matrix_y.shape[0], width, channels)), (1, 0, 2))
    out = ops.matmul(matrix_x, rows.reshape((width, matrix_y.shape[0] * channels)))
    return ops.transpose(out.reshape((matrix_x.shape[0], matrix_y.shape[0], channels)), (1, 0, 2))


class BilinearResize(nn.Cell):
    """Resize maps (B, C, h, w) of one fixed size to (B, C, H, W), bilinear, as in PyTorch.

    Args:
        source: (h, w).
        target: (H, W).
        align_corners: whether the corner pixels of both grids coincide.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int], align_corners: bool = False) -> None:
        super().__init__()
        matrix_y, matrix_x = resize_matrix_pair(source, target, "bilinear", align_corners)
        self.source = tuple(source)
        self.target = tuple(target)
        self.matrix_y = ms.Tensor(matrix_y)
        self.matrix_x = ms.Tensor(matrix_x)
        self.product = ops.MatMul(transpose_b=True)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        """(B, C, h, w) -> (B, C, H, W)."""
        batch, channels, height, width = x.shape
        if (height, width) != self.source:
            raise ValueError("the map does not have the size that this BilinearResize was built for")
        rows = self.product(x.reshape((batch * channels * height, width)), self.matrix_x)
        rows = ops.transpose(rows.reshape((batch * channels, height, self.target[1])), (0, 2, 1))
        out = self.product(rows.reshape((batch * channels * self.target[1], height)), self.matrix_y)
        out = ops.transpose(out.reshape((batch * channels, self.target[1], self.target[0])), (0, 2, 1))
        return out.reshape((batch, channels, self.target[0], self.target[1]))
