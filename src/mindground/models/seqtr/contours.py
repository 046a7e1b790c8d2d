"""A mask as a number of vertices, as SeqTR draws them from its outline; NumPy and OpenCV only.

One outline stands for the whole mask: that of the largest part. Others are lost, as in the published training.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["largest_contour", "mass_centre", "sample_vertices"]

# Degrees that a ray is moved by, at most, where the outline has no point in its own degree.
_REACH = 5


def largest_contour(mask: np.ndarray) -> np.ndarray:
    """(H, W) of 0 and 1 -> (n, 2) int32, x and y of every pixel of the outline with the largest area; n may be 0."""
    found, _ = cv2.findContours(np.ascontiguousarray(mask, np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
    if not found:
        return np.zeros((0, 2), np.int32)
    return max(found, key=cv2.contourArea)[:, 0]


def mass_centre(contour: np.ndarray) -> np.ndarray | None:
    """(n, 2) -> (2,) float64 centre of the enclosed area; None where it encloses none."""
    if len(contour) == 0:
        return None
    moments = cv2.moments(contour[:, None])
    if moments["m00"] == 0:
        return None
    return np.asarray([moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]])


def sample_vertices(mask: np.ndarray, count: int, by_rays: bool = False) -> np.ndarray:
    """Vertices of a mask.

    Args:
        mask: (H, W) of 0 and 1.
        count: R, the most vertices.
        by_rays: where rays from the mass centre, if it lies inside, meet the outline last; otherwise every so many
            points of it.

    Returns:
        (2, R) float32, x and y, -1 behind the last vertex. A mask whose outline encloses no area has none.
    """
    vertices = np.full((2, count), -1, np.float32)
    contour = largest_contour(mask)
    centre = mass_centre(contour)
    if centre is None:
        return vertices
    if len(contour) <= count:
        points = contour.astype(np.float32)
    elif by_rays and cv2.pointPolygonTest(contour[:, None], (float(centre[0]), float(centre[1])), False) > 0:
        points = _by_rays(contour, centre, count)
    else:
        points = contour[:: -(-len(contour) // count)].astype(np.float32)
    height, width = mask.shape
    points = np.clip(points[:count], 0, np.asarray([width - 1, height - 1], np.float32))
    vertices[:, : len(points)] = points.T
    return vertices


def _by_rays(contour: np.ndarray, centre: np.ndarray, count: int) -> np.ndarray:
    """(n, 2) outline -> (at most 360 / step, 2) float32 points in the directions 0, step, 2 step, ... degrees."""
    x, y = (contour - centre).T
    degrees = np.mod(np.degrees(np.arctan2(y, x)), 360).astype(np.int64) % 360
    farthest = np.full(360, -1.0)
    np.maximum.at(farthest, degrees, np.hypot(x, y))
    found = []
    for ray in range(0, 360, max(1, 360 // count)):
        tried = (ray, *(ray + sign * by for by in range(1, _REACH + 1) for sign in (1, -1)))
        at = next((degree for degree in tried if 0 <= degree < 360 and farthest[degree] >= 0), None)
        if at is not None:
            angle = np.radians(at)
            found.append(centre + farthest[at] * np.asarray([np.cos(angle), np.sin(angle)]))
    return np.asarray(found, np.float32).reshape(-1, 2)
