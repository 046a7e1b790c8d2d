"""Arrays of one example, in fixed shapes, and the matching of proposals to objects."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from mindground.errors import DataError
from mindground.structures import Example, xyxy_to_cxcywh

__all__ = ["encode_objects", "match"]


def encode_objects(example: Example, grid: int, max_objects: int, classes: int) -> dict[str, np.ndarray]:
    """`boxes` (M, 4) cxcywh in [0, 1], `labels` (M,) from 0, `real` (M,), and `cells` (G*G,), 1 where an object lies.

    Raises:
        DataError: more objects than there is room for, or a class that the network does not have.
    """
    count, side = len(example.boxes_xyxy), example.geometry.canvas_size[0]
    labels = example.labels - 1  # category ids of the data set count from 1
    if count > max_objects or (count and not 0 <= labels.min() <= labels.max() < classes):
        raise DataError(
            f"sample {example.sample.sample_id!r} has {count} objects of the classes {sorted(set(example.labels))}; "
            f"set model.max_objects (now {max_objects}) or model.classes (now {classes})"
        )
    boxes, padded, real = np.zeros((max_objects, 4), np.float32), np.zeros(max_objects, np.int32), np.zeros(max_objects)
    boxes[:count] = xyxy_to_cxcywh(example.boxes_xyxy / np.float32(side))
    padded[:count], real[:count] = labels, 1
    cells = np.zeros(grid * grid, np.float32)
    columns, rows = (np.minimum((boxes[:count, axis] * grid).astype(int), grid - 1) for axis in (0, 1))
    cells[rows * grid + columns] = 1
    return {"boxes": boxes, "labels": padded, "real": real.astype(np.float32), "cells": cells}


def match(
    boxes: np.ndarray, logits: np.ndarray, truth: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Proposals (K, 4), (K, C) to objects (N, 4), (N,) at the least cost -> indexes of proposals and of objects."""
    if not len(truth):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probability = shifted / shifted.sum(1, keepdims=True)
    cost = 5 * np.abs(boxes[:, None] - truth[None]).sum(-1) - probability[:, labels]
    return linear_sum_assignment(cost)
