"""Outlines of several parts, as RMSIN's and LAVT's loaders draw them: what two parts cover is background.

The product unites parts. This reading is for comparison with published training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mindground.structures.masks import Segmentation, decode_segmentation, encode_mask

__all__ = ["once_covered", "part_counts"]


def part_counts(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8: how many parts of one object's outline cover every pixel.

    Args:
        segmentation: polygons or RLEs, one or several.
        size: (height, width) of the image.

    Raises:
        DataError: as `decode_segmentation`.
    """
    counts = np.zeros(size, np.uint8)
    parts = [segmentation] if isinstance(segmentation, Mapping) else segmentation or []
    for part in parts:
        counts += decode_segmentation([part], size)
    return counts


def once_covered(segmentation: Segmentation, size: tuple[int, int]) -> Segmentation:
    """The outline whose pixels are covered by exactly one part; an outline of one part is returned as it is."""
    if segmentation is None or isinstance(segmentation, Mapping) or len(segmentation) < 2:
        return segmentation
    return encode_mask(part_counts(segmentation, size) == 1)
