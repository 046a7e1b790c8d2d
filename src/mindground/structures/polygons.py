"""Masks as COCO polygons that give the same pixels back, and the connected parts of a mask."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from mindground.structures.masks import mask_box
from mindground.structures.outlines import MAX_LENGTH, MAX_PARTS

__all__ = ["MAX_CORNERS", "MaskPart", "mask_parts", "mask_polygons"]

MAX_CORNERS = 100_000
"""Corners of one mask's outline: a mask of noise has millions, and the time to join holes grows with their square."""

# Corners at a point of the grid by which of its four pixels are inside (1, 2 above it, 4, 8 below): one where one or
# three of them are, two where two across a diagonal are.
_CORNERS = np.asarray([0, 1, 1, 0, 1, 0, 2, 1, 1, 2, 0, 1, 0, 1, 1, 0], np.uint8)
_RISING = 6  # upper right and lower left


class MaskPart(NamedTuple):
    """One connected part of a mask.

    Attributes:
        box_xyxy: (4,) float32, tight, in pixel edges.
        area: its pixels.
    """

    box_xyxy: np.ndarray
    area: int


def mask_parts(mask: np.ndarray, min_area: int = 1) -> list[MaskPart]:
    """Connected parts of a binary mask (H, W), the largest first; pixels that touch at a corner are connected.

    Args:
        min_area: parts of fewer pixels are left out.
    """
    count, _, stats, _ = cv2.connectedComponentsWithStats(np.asarray(mask != 0, np.uint8), connectivity=8)
    found = []
    for left, top, width, height, area in stats[1:count].tolist():
        if area >= min_area:
            found.append(MaskPart(np.asarray([left, top, left + width, top + height], np.float32), area))
    return sorted(found, key=lambda part: -part.area)


def mask_polygons(mask: np.ndarray) -> list[list[float]] | None:
    """A binary mask (H, W) as COCO polygons [x, y, x, y, ...] along the edges of its pixels.

    Every part (pixels that share an edge) is one polygon. A hole is joined to the outline of its part by a cut of no
    width, walked there and back, because COCO unites the polygons of an object and knows no inner ones. pycocotools
    gives exactly the same mask back.

    Returns:
        The polygons, or None where polygons cannot say it: an empty mask, or one whose outline has more than
        `MAX_CORNERS` corners, or more parts or pixels of edges than readers here take (`outlines`).
    """
    inside = np.asarray(mask) != 0
    top, left, bottom, right = 0, 0, 0, 0
    if inside.any():
        left, top, right, bottom = (int(edge) for edge in mask_box(inside))
    inside = inside[top:bottom, left:right]
    corners = _corners(inside)
    if corners is None:
        return None
    count, labels = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
    if count - 1 > MAX_PARTS:
        return None
    outer: dict[int, np.ndarray] = {}
    holes: dict[int, list[np.ndarray]] = {}
    for ring in _rings(*corners):
        x, y = ring[0]  # its upper left corner: a hole has the part above it, an outline below
        if y < inside.shape[0] and x < inside.shape[1] and inside[y, x]:
            outer[int(labels[y, x])] = ring
        else:
            holes.setdefault(int(labels[y - 1, x]), []).append(ring)
    shift = np.asarray([left, top])
    joined = [_joined(outer[label], holes.get(label, [])) for label in sorted(outer)]
    if sum(int(np.abs(np.diff(ring, axis=0, append=ring[:1])).sum()) for ring in joined) > MAX_LENGTH:
        return None
    return [(ring + shift).astype(np.float64).reshape(-1).tolist() for ring in joined]


def _corners(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Corners (N, 2) xy of all outlines from the top, and the other end of the edge of each along its row and column.

    Along a row of the grid, edges begin and end at every second corner, and likewise along a column. Where two pixels
    touch at a corner it stands there twice, once for each of them.
    """
    padded = np.pad(inside.astype(np.uint8), 1)
    quads = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
    repeats = _CORNERS[quads]
    y, x = np.nonzero(repeats)
    total = int(repeats.sum(dtype=np.int64))
    if not 0 < total <= MAX_CORNERS:
        return None
    times = repeats[y, x]
    y, x, turned = np.repeat(y, times), np.repeat(x, times), np.repeat(quads[y, x] == _RISING, times)
    second = np.zeros(total, np.int64)
    second[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])
    by_row = np.arange(total).reshape(-1, 2)
    # The left of two equal corners is the upper one where the pixels lie at the upper left and the lower right.
    down_first = np.where(turned, 1 - second, second)
    by_column = np.lexsort((down_first, y, x)).reshape(-1, 2)
    along_row, along_column = np.empty(total, np.int64), np.empty(total, np.int64)
    for pairs, ends in ((by_row, along_row), (by_column, along_column)):
        ends[pairs[:, 0]], ends[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return np.stack([x, y], 1), along_row, along_column


def _rings(corners: np.ndarray, along_row: np.ndarray, along_column: np.ndarray) -> list[np.ndarray]:
    """Closed rings (N, 2), each from its first corner in reading order and to the right."""
    across, down = along_row.tolist(), along_column.tolist()
    seen = bytearray(len(across))
    rings = []
    for start in range(len(across)):
        if seen[start]:
            continue
        ring, at = [], start
        while not seen[at]:
            other = across[at]
            seen[at] = seen[other] = 1
            ring += [at, other]
            at = down[other]
        rings.append(corners[ring])
    return rings


def _joined(outer: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """One ring: the outline, left at the corner nearest to each hole for a way around it."""
    visits: dict[int, list[np.ndarray]] = {}
    for hole in holes:
        nearest = int(np.abs(outer - hole[0]).sum(1).argmin())
        visits.setdefault(nearest, []).append(hole)
    pieces, last = [], 0
    for at in sorted(visits):
        pieces.append(outer[last : at + 1])
        for hole in visits[at]:
            pieces += [hole, hole[:1], outer[at : at + 1]]
        last = at + 1
    return np.concatenate([*pieces, outer[last:]])
