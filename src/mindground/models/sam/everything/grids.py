"""Where the everything mode asks: points of a regular grid, on the image and on crops of it."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np

from mindground.models.sam.everything.options import EverythingOptions

__all__ = ["Crop", "crops", "point_grid", "point_grids"]


class Crop(NamedTuple):
    """A part of an image, in whole pixels; right and bottom are outside. Layer 0 is the image itself."""

    left: int
    top: int
    right: int
    bottom: int
    layer: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left


def point_grid(side: int) -> np.ndarray:
    """(side * side, 2) float64 xy as shares of width and height: centres of equal cells, row by row."""
    steps = np.linspace(0.5 / side, 1 - 0.5 / side, side) if side else np.zeros(0)
    x, y = np.meshgrid(steps, steps)
    return np.stack([x.reshape(-1), y.reshape(-1)], 1)


def point_grids(options: EverythingOptions) -> list[np.ndarray]:
    """The grid of every layer; those of later layers may be empty."""
    if options.point_grids is not None:
        return list(options.point_grids)
    side, factor = options.points_per_side or 0, options.crop_n_points_downscale_factor
    return [point_grid(int(side / factor**layer)) for layer in range(options.crop_n_layers + 1)]


def crops(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[Crop]:
    """The image, then the crops of every layer: 2^i x 2^i in layer i, from the left, and there from the top.

    Args:
        size: (height, width) of the image in pixels.
        overlap_ratio: of the crops in layer 1, as a share of the image's short side; it halves with every layer.
    """
    height, width = size
    found = [Crop(0, 0, width, height, 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / count))
        wide, high = (math.ceil((overlap * (count - 1) + length) / count) for length in (width, height))
        for column, row in product(range(count), repeat=2):
            left, top = (wide - overlap) * column, (high - overlap) * row
            crop = Crop(left, top, min(left + wide, width), min(top + high, height), layer)
            if crop.right > left and crop.bottom > top:  # an image of fewer pixels than crops has no more of them
                found.append(crop)
    return found
