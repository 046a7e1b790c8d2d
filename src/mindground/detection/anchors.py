"""Anchors: boxes of fixed sizes and shapes on every cell of every level of a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

__all__ = ["AnchorGrid"]


class AnchorGrid:
    """Anchors of levels with the given strides; an anchor of scale 1 and ratio 1 has sides of one stride.

    A cell's anchors are centred on (column * stride, row * stride). Inside a cell the ratio changes slowest, so the
    order is ratio 0 scale 0, ratio 0 scale 1, ratio 1 scale 0, ... All anchors are ordered by level, row, column and
    anchor of the cell.

    Args:
        strides: pixels between cells, one number a level.
        scales: side of a square anchor in strides.
        ratios: height divided by width.
    """

    def __init__(
        self, strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float] = (0.5, 1.0, 2.0)
    ) -> None:
        self.strides = tuple(int(stride) for stride in strides)
        self.scales = tuple(float(scale) for scale in scales)
        self.ratios = tuple(float(ratio) for ratio in ratios)
        self._grid = lru_cache(maxsize=8)(self._build)

    @property
    def per_cell(self) -> int:
        """Anchors of one cell."""
        return len(self.scales) * len(self.ratios)

    def base(self, level: int) -> np.ndarray:
        """(A, 4) float32 anchors of a cell centred on 0."""
        roots = np.sqrt(np.asarray(self.ratios, np.float32))
        scales = np.asarray(self.scales, np.float32)
        side = np.float32(self.strides[level])
        widths = (side * (1 / roots)[:, None] * scales[None]).reshape(-1)
        heights = (side * roots[:, None] * scales[None]).reshape(-1)
        half = np.float32(0.5)
        return np.stack([-half * widths, -half * heights, half * widths, half * heights], 1)

    def grid(self, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
        """(N, 4) float32 anchors of all levels; read-only.

        Args:
            sizes: (rows, columns) of every level.
        """
        return self._grid(tuple((int(rows), int(columns)) for rows, columns in sizes))

    def counts(self, sizes: Sequence[tuple[int, int]]) -> list[int]:
        """Anchors of every level."""
        return [rows * columns * self.per_cell for rows, columns in sizes]

    def valid(self, sizes: Sequence[tuple[int, int]], padded: tuple[int, int]) -> np.ndarray:
        """(N,) bool: the anchor's cell begins inside an image of (height, width) `padded`."""
        flags = []
        for stride, (rows, columns) in zip(self.strides, sizes, strict=True):
            down = np.arange(rows) < -(-padded[0] // stride)
            across = np.arange(columns) < -(-padded[1] // stride)
            flags.append(np.repeat((down[:, None] & across[None]).reshape(-1), self.per_cell))
        return np.concatenate(flags)

    def _build(self, sizes: tuple[tuple[int, int], ...]) -> np.ndarray:
        parts = []
        for level, (rows, columns) in enumerate(sizes):
            stride = np.float32(self.strides[level])
            y, x = np.meshgrid(np.arange(rows) * stride, np.arange(columns) * stride, indexing="ij")
            shifts = np.stack([x, y, x, y], -1).reshape(-1, 1, 4).astype(np.float32)
            parts.append((shifts + self.base(level)[None]).reshape(-1, 4))
        anchors = np.concatenate(parts)
        anchors.flags.writeable = False
        return anchors
