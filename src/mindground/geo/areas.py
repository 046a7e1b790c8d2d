"""Areas on the ground."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mindground.files.rasters import optional

__all__ = ["ground_area"]

_RADIUS, _ECCENTRICITY = 6_378_137.0, 0.081_819_190_842_621_5


def ground_area(shape: Any) -> float:
    """Square metres of a polygon, or of several, in longitude and latitude on the ellipsoid of WGS 84.

    The corners are taken to the equal-area cylinder, where the area is that of the plane. Edges are straight there,
    which for objects of less than some kilometres is the same.
    """

    def to_cylinder(degrees: np.ndarray) -> np.ndarray:
        sine = np.sin(np.radians(degrees[:, 1]))
        e = _ECCENTRICITY
        flat = sine / (1 - (e * sine) ** 2) - np.log((1 - e * sine) / (1 + e * sine)) / (2 * e)
        return np.stack([np.radians(degrees[:, 0]) * _RADIUS, flat * (1 - e * e) / 2 * _RADIUS], -1)

    area = float(optional("shapely").transform(shape, to_cylinder).area)
    return area if math.isfinite(area) else 0.0
