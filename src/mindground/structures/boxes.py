"""Boxes as (..., 4) NumPy arrays: formats, clipping, overlap.

The format is always in the name: xyxy (corners), xywh (corner and size), cxcywh (centre and size).
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "box_iou",
    "clip_boxes",
    "cxcywh_to_xyxy",
    "intersection_and_union",
    "xywh_to_xyxy",
    "xyxy_to_cxcywh",
    "xyxy_to_xywh",
]


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) left, top, width, height -> left, top, right, bottom."""
    boxes = np.asarray(boxes, np.float32)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) left, top, right, bottom -> left, top, width, height."""
    boxes = np.asarray(boxes, np.float32)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)


def xyxy_to_cxcywh(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) corners -> centre x, centre y, width, height, same unit."""
    boxes = np.asarray(boxes, np.float32)
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def cxcywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """(..., 4) centre x, centre y, width, height -> corners, same unit."""
    boxes = np.asarray(boxes, np.float32)
    centre, size = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([centre - size / 2, centre + size / 2], -1)


def clip_boxes(boxes_xyxy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Move every corner into an image of `size` (height, width), in pixels."""
    height, width = size
    limit = np.asarray([width, height, width, height], np.float32)
    return np.clip(np.asarray(boxes_xyxy, np.float32), 0, limit)


def intersection_and_union(boxes_a: np.ndarray, boxes_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row-by-row areas of intersection and union of two (..., 4) xyxy arrays, (...) float64 each."""
    boxes_a, boxes_b = np.asarray(boxes_a, np.float64), np.asarray(boxes_b, np.float64)
    low = np.maximum(boxes_a[..., :2], boxes_b[..., :2])
    high = np.minimum(boxes_a[..., 2:], boxes_b[..., 2:])
    intersection = np.prod(np.clip(high - low, 0, None), -1)
    area_a = np.prod(np.clip(boxes_a[..., 2:] - boxes_a[..., :2], 0, None), -1)
    area_b = np.prod(np.clip(boxes_b[..., 2:] - boxes_b[..., :2], 0, None), -1)
    return intersection, area_a + area_b - intersection


def box_iou(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Row-by-row intersection over union of two (..., 4) xyxy arrays; 0 where the union is empty."""
    intersection, union = intersection_and_union(boxes_a, boxes_b)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
