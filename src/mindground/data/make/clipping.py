"""Boxes and outlines cut at the borders of their image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mindground.structures import MaskFile, Segmentation

__all__ = ["clip_box", "clip_outline"]

Box = tuple[float, float, float, float]


def clip_box(box: Box, size: tuple[int, int]) -> Box:
    """What of a box (x1, y1, x2, y2) lies in an image of `size` (height, width)."""
    width, height = float(size[1]), float(size[0])
    left, top, right, bottom = box
    return (
        min(max(left, 0.0), width),
        min(max(top, 0.0), height),
        min(max(right, 0.0), width),
        min(max(bottom, 0.0), height),
    )


def clip_outline(outline: Segmentation, size: tuple[int, int]) -> Segmentation:
    """Polygons without what lies outside the image, None when nothing is left; RLE and mask files cannot leave it."""
    if outline is None or isinstance(outline, (Mapping, MaskFile)):
        return outline
    parts = [part if isinstance(part, Mapping) else _clip(part, size) for part in outline]
    return [part for part in parts if len(part) >= 6 or isinstance(part, Mapping)] or None


def _clip(part: Sequence[float], size: tuple[int, int]) -> list[float]:
    """One polygon cut by the four borders, one after the other (Sutherland and Hodgman, 1974)."""
    points = [(float(x), float(y)) for x, y in zip(part[0::2], part[1::2], strict=True)]
    for axis, border, sign in ((0, 0.0, 1), (0, float(size[1]), -1), (1, 0.0, 1), (1, float(size[0]), -1)):
        kept: list[tuple[float, float]] = []
        for first, second in zip(points, [*points[1:], *points[:1]], strict=True):
            inside = [sign * (point[axis] - border) >= 0 for point in (first, second)]
            if inside[0]:
                kept.append(first)
            if inside[0] != inside[1]:
                share = (border - first[axis]) / (second[axis] - first[axis])
                crossing = [one + share * (other - one) for one, other in zip(first, second, strict=True)]
                crossing[axis] = border
                kept.append((crossing[0], crossing[1]))
        points = kept
    return [value for point in points for value in point]
