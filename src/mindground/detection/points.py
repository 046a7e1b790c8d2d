"""Values of masks at points, and the points at which a loss looks (Kirillov et al. 2020)."""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import ops

__all__ = ["sample_at", "sample_each", "sample_shared", "uncertain_points"]


def sample_at(maps: ms.Tensor, points: ms.Tensor) -> ms.Tensor:
    """Maps (M, h, w) at points (M, P, 2), x and y in [0, 1] -> (M, P), bilinear, zeros outside."""
    count, height, width = maps.shape
    grid = (points * 2.0 - 1.0).reshape((count, 1, points.shape[1], 2))
    found = ops.grid_sample(maps.reshape((count, 1, height, width)), grid, "bilinear", "zeros", False)
    return found.reshape((count, points.shape[1]))


def sample_shared(maps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """On the host: maps (M, h, w) at the same points (P, 2) -> (M, P) float32, as `sample_at`."""
    return _bilinear(maps.reshape(len(maps), -1), maps.shape[1:], points)


def sample_each(maps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """On the host: maps (M, h, w) at points (M, P, 2) of their own -> (M, P) float32, as `sample_at`."""
    found = np.zeros(points.shape[:2], np.float32)
    for index, own in enumerate(points):
        found[index] = sample_shared(maps[index : index + 1], own)[0]
    return found


def _bilinear(flat: np.ndarray, size: tuple[int, ...], points: np.ndarray) -> np.ndarray:
    height, width = size
    points = np.asarray(points, np.float32)
    # The order of these operations decides the last bit, and with it which of two points is the more uncertain.
    places = ((points * 2 - 1 + 1) * np.asarray([width, height], np.float32) - 1) / 2
    base = np.floor(places).astype(np.int64)
    share = places - base.astype(np.float32)
    total = np.zeros((len(flat), len(points)), np.float32)
    for down in (0, 1):
        for across in (0, 1):
            x, y = base[:, 0] + across, base[:, 1] + down
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            weight = (share[:, 0] if across else 1 - share[:, 0]) * (share[:, 1] if down else 1 - share[:, 1])
            index = np.where(inside, y * width + x, 0)
            total += flat[:, index].astype(np.float32) * (weight * inside)
    return total


def uncertain_points(logits: np.ndarray, oversample: np.ndarray, extra: np.ndarray, number: int) -> np.ndarray:
    """Points (M, P, 2) for a loss: of many random ones those with the least sure logits, then further random ones.

    Args:
        logits: (M, h, w).
        oversample: (M, 3P, 2) random points.
        extra: (M, E, 2) random points.
        number: P; P - E of the first are kept, the least sure first.
    """
    values = -np.abs(sample_each(logits, oversample))
    kept = number - extra.shape[1]
    order = np.argsort(-values, 1, kind="stable")[:, :kept]
    chosen = np.take_along_axis(oversample, order[..., None], 1)
    return np.concatenate([chosen, extra], 1).astype(np.float32)
