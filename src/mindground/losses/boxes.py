"""Losses on boxes (B, 4): centre x, centre y, width, height in [0, 1] of the canvas.

Tensors in, scalars out, in both modes.
"""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import ops

__all__ = ["box_iou_loss", "box_l1_loss", "corners", "paired_iou"]


def box_l1_loss(boxes: ms.Tensor, targets: ms.Tensor) -> ms.Tensor:
    """Sum of |difference| over the four coordinates, averaged over B (DETR, eq. 9)."""
    return ops.abs(boxes - targets).sum() * (1.0 / boxes.shape[0])


def corners(boxes: ms.Tensor) -> tuple[ms.Tensor, ...]:
    """(B, 4) cxcywh -> left, top, right, bottom, each (B,)."""
    x, y, w, h = ops.unbind(boxes, 1)
    return x - w * 0.5, y - h * 0.5, x + w * 0.5, y + h * 0.5


def paired_iou(boxes: ms.Tensor, targets: ms.Tensor, kind: str = "giou") -> ms.Tensor:
    """Overlap (B,) of every box (B, 4) with the target of the same index: 1 for equal boxes, lower for less overlap.

    Args:
        kind: iou; giou (Rezatofighi et al. 2019); diou or ciou (Zheng et al. 2020, eqs. 7 and 10;
            the gradient also flows through ciou's alpha, as in the published VG-LAW code).
    """
    eps = 1e-6
    left_a, top_a, right_a, bottom_a = corners(boxes)
    left_b, top_b, right_b, bottom_b = corners(targets)
    zero = ops.zeros_like(left_a)
    width = ops.maximum(ops.minimum(right_a, right_b) - ops.maximum(left_a, left_b), zero)
    height = ops.maximum(ops.minimum(bottom_a, bottom_b) - ops.maximum(top_a, top_b), zero)
    intersection = width * height
    union = (right_a - left_a) * (bottom_a - top_a) + (right_b - left_b) * (bottom_b - top_b) - intersection
    iou = intersection / ops.maximum(union, zero + eps)
    if kind == "iou":
        return iou
    outer_w = ops.maximum(right_a, right_b) - ops.minimum(left_a, left_b)
    outer_h = ops.maximum(bottom_a, bottom_b) - ops.minimum(top_a, top_b)
    if kind == "giou":
        # Two boxes of size zero at one position have no enclosing area; the lower bound avoids NaN.
        outer = ops.maximum(outer_w * outer_h, zero + eps)
        return iou - (outer - union) / outer
    dx, dy = boxes[:, 0] - targets[:, 0], boxes[:, 1] - targets[:, 1]
    diagonal = ops.maximum(outer_w * outer_w + outer_h * outer_h, zero + eps)
    diou = iou - (dx * dx + dy * dy) / diagonal
    if kind == "diou":
        return diou
    angle_a = ops.atan(boxes[:, 2] / ops.maximum(boxes[:, 3], zero + eps))
    angle_b = ops.atan(targets[:, 2] / ops.maximum(targets[:, 3], zero + eps))
    v = (4.0 / math.pi**2) * ops.square(angle_a - angle_b)
    alpha = v / (1.0 - iou + v + eps)
    return diou - alpha * v


def box_iou_loss(boxes: ms.Tensor, targets: ms.Tensor, kind: str = "giou") -> ms.Tensor:
    """Mean over B of 1 - `paired_iou`."""
    return (1.0 - paired_iou(boxes, targets, kind)).mean()
