"""Masks as binary arrays, COCO run lengths and polygons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mindground.errors import DataError
from mindground.structures.mask_file import MaskFile
from mindground.structures.outlines import Segmentation, check_outline, run_lengths

__all__ = ["Segmentation", "decode_segmentation", "encode_mask", "mask_box"]


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) binary mask -> compressed COCO RLE with `counts` as text, ready for JSON."""
    rle = coco_mask.encode(np.asfortranarray(np.asarray(mask) != 0, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_segmentation(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """One object's outline -> (H, W) uint8 of 0 and 1. `size` is the image's (height, width).

    Overlapping polygons of one object are united, never summed. Parts of fewer than three points enclose nothing and
    are left out where others remain. The outline is checked first (`outlines.check_outline`), whoever made it.

    Raises:
        DataError: the outline is neither polygons nor RLE, encloses nothing, or is an RLE of another size; a mask's
            file cannot be read, or is not nearly of that size.
    """
    if isinstance(segmentation, MaskFile):
        return segmentation.pixels(size)
    height, width = size
    outline, dropped = check_outline(segmentation, size)
    if outline is None:
        if dropped:
            raise DataError("a polygon needs at least three (x, y) pairs; run tools/data_check.py to list such objects")
        return np.zeros((height, width), np.uint8)
    parts = [outline] if isinstance(outline, Mapping) else outline
    polygons = [part for part in parts if not isinstance(part, Mapping)]
    masks = [_from_runs(part, size) for part in parts if isinstance(part, Mapping)]
    if polygons:
        rles = [coco_mask.frPyObjects([points], height, width)[0] for points in polygons]
        masks.append(np.ascontiguousarray(coco_mask.decode(coco_mask.merge(rles)), np.uint8))
    united = masks[0]
    for mask in masks[1:]:
        united |= mask
    return united


def _from_runs(rle: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 of a checked RLE; run lengths of strangers never reach C code."""
    counts = run_lengths(rle)
    values = np.zeros(counts.size, np.uint8)
    values[1::2] = 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(size[1], size[0]).T)


def mask_box(mask: np.ndarray) -> np.ndarray:
    """Tight (4,) xyxy box of a binary mask in pixel edges; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return np.zeros(4, np.float32)
    return np.asarray([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
