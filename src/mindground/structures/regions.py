"""Small holes and islands of a mask, removed."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

__all__ = ["clean_mask", "remove_small_regions"]


def remove_small_regions(
    mask: np.ndarray, min_area: float, what: Literal["holes", "islands"]
) -> tuple[np.ndarray, bool]:
    """Fill the holes, or remove the islands, of fewer than `min_area` pixels; pixels that touch at a corner are one.

    Where every island is small the largest stays.

    Args:
        mask: (H, W), binary.

    Returns:
        (H, W) bool, and whether anything was small enough.
    """
    inside = np.asarray(mask) != 0
    of_interest = inside if what == "islands" else ~inside
    count, labels, stats, _ = cv2.connectedComponentsWithStats(of_interest.astype(np.uint8), connectivity=8)
    sizes = stats[1:count, cv2.CC_STAT_AREA]
    small = np.concatenate([[False], sizes < min_area])
    if not small.any():
        return inside, False
    if what == "holes":
        return inside | small[labels], True
    kept = ~small
    kept[0] = False
    if not kept.any():
        kept[1 + int(sizes.argmax())] = True
    return kept[labels], True


def clean_mask(mask: np.ndarray, min_area: float) -> tuple[np.ndarray, bool]:
    """(H, W) bool without small holes, then without small islands; and whether anything changed."""
    filled, with_holes = remove_small_regions(mask, min_area, "holes")
    cleaned, with_islands = remove_small_regions(filled, min_area, "islands")
    return cleaned, with_holes or with_islands
