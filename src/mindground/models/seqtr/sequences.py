"""Boxes and contours as sequences of tokens, and back; NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["ABSOLUTE_SIDE", "Layout", "Task", "dequantise", "quantise", "sequence_of", "shuffled_points"]

Task = Literal["box", "contour", "multi"]

ABSOLUTE_SIDE = 640.0
"""Pixels that `mapping: absolute` divides coordinates by, whatever the image."""


@dataclass(frozen=True)
class Layout:
    """How a sequence is made up.

    Attributes:
        task: box (4 tokens), contour (2 tokens a vertex), or multi: a box, then a contour.
        bins: values that a coordinate may have; token `bins` ends a sequence.
        rays: vertices R of a contour.
        absolute: coordinates are shares of 640 pixels instead of the image's own padded side.
    """

    task: Task = "box"
    bins: int = 1000
    rays: int = 18
    absolute: bool = False

    @property
    def classes(self) -> int:
        """Tokens: coordinates and the end."""
        return self.bins + 1

    @property
    def end(self) -> int:
        """Token behind the last one."""
        return self.bins

    @property
    def start(self) -> int:
        """Input before the first token: a vector of zeros, or the box's name in `multi`."""
        return self.bins + 1

    @property
    def second_start(self) -> int:
        """Input before the first token of the contour in `multi`."""
        return self.bins + 2

    @property
    def length(self) -> int:
        """Places of a sequence."""
        return {"box": 5, "contour": 2 * self.rays + 1, "multi": 6 + 2 * self.rays}[self.task]


def quantise(values: np.ndarray, sides: np.ndarray, bins: int) -> np.ndarray:
    """Coordinates as tokens: value / side * bins without its fraction, from 0 to bins - 1; int64.

    Args:
        values, sides: of shapes that broadcast; the type of `values` is that of the division.
    """
    share = values / np.asarray(sides, values.dtype) * values.dtype.type(bins)
    return np.clip(np.trunc(share), 0, bins - 1).astype(np.int64)


def dequantise(tokens: np.ndarray, sides: np.ndarray, bins: int) -> np.ndarray:
    """Tokens -> coordinates in pixels: the lower edge of each bin."""
    return tokens * np.asarray(sides, np.float64) / bins


def sequence_of(
    layout: Layout, padded: tuple[int, int], box: np.ndarray | None, vertices: np.ndarray | None
) -> dict[str, np.ndarray]:
    """`sequence` (N,) int32, the tokens to give, and `previous` (N,) int32, what stands before each.

    Args:
        padded: (height, width) of the padded image in pixels.
        box: (4,) xyxy in canvas pixels, where the task has one.
        vertices: (2, R) x and y, where it has a contour; -1 behind the last vertex.
    """
    height, width = (ABSOLUTE_SIDE, ABSOLUTE_SIDE) if layout.absolute else padded
    sequence: list[np.ndarray] = []
    previous: list[np.ndarray] = []
    if layout.task != "contour":
        assert box is not None
        sides = np.asarray([width, height, width, height], np.float64)
        tokens = quantise(np.asarray(box, np.float64), sides, layout.bins)
        sequence += [tokens, np.asarray([layout.end])]
        previous += [np.asarray([layout.start]), tokens]
    if layout.task != "box":
        assert vertices is not None
        sides = np.asarray([[width], [height]], np.float32)
        tokens = quantise(np.asarray(vertices, np.float32), sides, layout.bins)
        tokens = np.where(vertices < 0, layout.end, tokens).T.reshape(-1)
        sequence += [tokens, np.asarray([layout.end])]
        previous += [np.asarray([layout.second_start if layout.task == "multi" else layout.start]), tokens]
    return {
        "sequence": np.concatenate(sequence).astype(np.int32),
        "previous": np.concatenate(previous).astype(np.int32),
    }


def shuffled_points(sequence: np.ndarray, layout: Layout, order: np.ndarray) -> np.ndarray:
    """A sequence (N,) whose vertices stand in another order; those that are there stay before those that are not.

    Args:
        order: permutation of R numbers.
    """
    if layout.task == "box":
        return sequence
    first = 5 if layout.task == "multi" else 0
    points = sequence[first : first + 2 * layout.rays].reshape(layout.rays, 2)
    kept = int((points[:, 0] != layout.end).sum())
    moved = points.copy()
    moved[:kept] = points[order[order < kept]]
    result = sequence.copy()
    result[first : first + 2 * layout.rays] = moved.reshape(-1)
    return result
