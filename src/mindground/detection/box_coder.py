"""Boxes as differences from other boxes (Ren et al. 2015, eq. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["ROI_DEVIATIONS", "decode_boxes", "encode_boxes"]

ROI_DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
"""What the differences of a box head are divided by; those of a region proposal network are not."""
# A side changes by at most this factor, so that the exponential stays finite.
_LARGEST_LOG = abs(math.log(16 / 1000))


def encode_boxes(priors: np.ndarray, boxes: np.ndarray, deviations: Sequence[float] = (1, 1, 1, 1)) -> np.ndarray:
    """Differences (N, 4) dx, dy, dw, dh of boxes (N, 4) from priors (N, 4), all with positive sides."""
    priors, boxes = np.asarray(priors, np.float32), np.asarray(boxes, np.float32)
    sizes, wanted = priors[:, 2:] - priors[:, :2], boxes[:, 2:] - boxes[:, :2]
    centres, goals = (priors[:, :2] + priors[:, 2:]) * np.float32(0.5), (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)
    deltas = np.concatenate([(goals - centres) / sizes, np.log(wanted / sizes)], 1)
    return deltas / np.asarray(deviations, np.float32)


def decode_boxes(
    priors: np.ndarray,
    deltas: np.ndarray,
    size: tuple[float, float] | None = None,
    deviations: Sequence[float] = (1, 1, 1, 1),
) -> np.ndarray:
    """Boxes (N, 4) from priors (N, 4) and differences (N, 4).

    Args:
        size: (height, width) that the boxes are clipped to; None leaves them.
    """
    priors = np.asarray(priors, np.float32)
    deltas = np.asarray(deltas, np.float32) * np.asarray(deviations, np.float32)
    sides = priors[:, 2:] - priors[:, :2]
    centres = (priors[:, :2] + priors[:, 2:]) * np.float32(0.5) + sides * deltas[:, :2]
    half = sides * np.exp(np.clip(deltas[:, 2:], -_LARGEST_LOG, _LARGEST_LOG)) * np.float32(0.5)
    boxes = np.concatenate([centres - half, centres + half], 1)
    if size is not None:
        boxes = np.clip(boxes, 0, np.asarray([size[1], size[0]] * 2, np.float32))
    return boxes
