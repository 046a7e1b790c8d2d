"""Masks as binary arrays, COCO run lengths and polygons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mindground.errors import DataError

__all__ = ["Segmentation", "decode_segmentation", "encode_mask", "mask_box"]

# One object's outline as COCO writes it: polygons, an RLE (compressed or not), or nothing.
Segmentation = Sequence[Sequence[float] | Mapping[str, Any]] | Mapping[str, Any] | None


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """(H, W) binary mask -> compressed COCO RLE with `counts` as text, ready for JSON."""
    rle = coco_mask.encode(np.asfortranarray(np.asarray(mask) != 0, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_segmentation(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """One object's outline -> (H, W) uint8 of 0 and 1. `size` is the image's (height, width).

    Overlapping polygons of one object are united, never summed.

    Raises:
        DataError: the outline is neither polygons nor RLE, or an RLE of another size.
    """
    height, width = size
    if segmentation is None or (not isinstance(segmentation, Mapping) and len(segmentation) == 0):
        return np.zeros((height, width), np.uint8)
    parts = [segmentation] if isinstance(segmentation, Mapping) else segmentation
    rles = [_as_rle(part, size) if isinstance(part, Mapping) else _polygon_rle(part, size) for part in parts]
    return np.ascontiguousarray(coco_mask.decode(coco_mask.merge(rles)), np.uint8)


def _as_rle(part: Mapping[str, Any], size: tuple[int, int]) -> Mapping[str, Any]:
    if "counts" not in part or "size" not in part:
        raise DataError(f"an RLE needs 'size' and 'counts'; this one has {sorted(part)}")
    if tuple(part["size"]) != tuple(size):
        raise DataError(f"an RLE of size {tuple(part['size'])} belongs to an image of size {tuple(size)}")
    if isinstance(part["counts"], list):
        return coco_mask.frPyObjects(dict(part), *size)
    return part


def _polygon_rle(part: Sequence[float], size: tuple[int, int]) -> Mapping[str, Any]:
    points = [float(value) for value in part]
    if len(points) < 6 or len(points) % 2:
        raise DataError("a polygon needs at least three (x, y) pairs; run tools/data_check.py to list such objects")
    return coco_mask.frPyObjects([points], *size)[0]


def mask_box(mask: np.ndarray) -> np.ndarray:
    """Tight (4,) xyxy box of a binary mask in pixel edges; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return np.zeros(4, np.float32)
    return np.asarray([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
