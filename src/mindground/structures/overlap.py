"""Outlines of several parts, as RMSIN's and LAVT's loaders draw them: what two parts cover is background.

The product unites parts. This reading is for comparison with published training.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mindground.errors import DataError
from mindground.structures.mask_file import MaskFile
from mindground.structures.masks import Segmentation, decode_segmentation, encode_mask

__all__ = ["MAX_DRAWN", "once_covered", "part_counts"]

MAX_DRAWN = 2_000_000_000
"""Pixels of one outline, every part counted over the whole image: each is drawn by itself."""


def part_counts(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint16: how many parts of one object's outline cover every pixel.

    Args:
        segmentation: polygons or RLEs, one or several.
        size: (height, width) of the image.

    Raises:
        DataError: as `decode_segmentation`, or more than `MAX_DRAWN` pixels in all parts.
    """
    counts = np.zeros(size, np.uint16)
    if isinstance(segmentation, MaskFile):
        return counts + decode_segmentation(segmentation, size)
    parts = [segmentation] if isinstance(segmentation, Mapping) else segmentation or []
    if len(parts) * size[0] * size[1] > MAX_DRAWN:
        raise DataError(
            f"an outline of {len(parts)} parts in an image of {size[0]} x {size[1]} is not drawn part by part; unite "
            "its parts (data.refer.mask_overlap=union)"
        )
    for part in parts:
        counts += decode_segmentation([part], size)
    return counts


def once_covered(segmentation: Segmentation, size: tuple[int, int]) -> Segmentation:
    """The outline whose pixels are covered by exactly one part; an outline of one part is returned as it is."""
    if segmentation is None or isinstance(segmentation, (Mapping, MaskFile)) or len(segmentation) < 2:
        return segmentation
    return encode_mask(part_counts(segmentation, size) == 1)
