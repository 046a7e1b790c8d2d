"""Loss functions used by more than one family; tensors in, scalars out, both modes.

Boxes are (B, 4) as centre x, centre y, width, height in [0, 1] of the canvas.
"""

from __future__ import annotations

import math

import mindspore as ms
from mindspore import ops

__all__ = ["attention_loss", "box_iou_loss", "box_l1_loss", "box_overlap", "dice_loss", "sigmoid_focal_loss"]


def box_l1_loss(boxes: ms.Tensor, targets: ms.Tensor) -> ms.Tensor:
    """Sum of |difference| over the four coordinates, averaged over B (DETR, eq. 9)."""
    return ops.abs(boxes - targets).sum() * (1.0 / boxes.shape[0])


def _corners(boxes: ms.Tensor) -> tuple[ms.Tensor, ...]:
    """(B, 4) cxcywh -> left, top, right, bottom, each (B,)."""
    x, y, w, h = ops.unbind(boxes, 1)
    return x - w * 0.5, y - h * 0.5, x + w * 0.5, y + h * 0.5


def box_overlap(boxes: ms.Tensor, targets: ms.Tensor, kind: str = "giou") -> ms.Tensor:
    """Row-by-row overlap (B,) of boxes (B, 4): 1 for equal boxes, lower the less they have in common.

    Args:
        kind: iou; giou (Rezatofighi et al. 2019); diou or ciou (Zheng et al. 2020, eqs. 7 and 10;
            the gradient also flows through ciou's alpha, as in the published VG-LAW code).
    """
    eps = 1e-6
    left_a, top_a, right_a, bottom_a = _corners(boxes)
    left_b, top_b, right_b, bottom_b = _corners(targets)
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
        # Two boxes without size at one place have no enclosing area; the guard keeps them from NaN.
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
    """Mean over B of 1 - `box_overlap`."""
    return (1.0 - box_overlap(boxes, targets, kind)).mean()


def sigmoid_focal_loss(
    logits: ms.Tensor, targets: ms.Tensor, weights: ms.Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> ms.Tensor:
    """Binary focal loss averaged over all pixels (Lin et al. 2017, eq. 5).

    Args:
        logits, targets: (B, P); targets are 0 or 1.
        weights: (B,) factor per sample, 0 for a sample without a mask.
        gamma: only 2, the published value, has a fast exact form and is accepted.
    """
    if gamma != 2.0:
        raise ValueError(f"gamma={gamma} is not supported; use 2")
    probability = ops.sigmoid(logits)
    # max(x, 0) - x*t + log(1 + exp(-|x|)): exact for any logit, and free of overflow.
    cross_entropy = ops.relu(logits) - logits * targets + ops.log(ops.exp(-ops.abs(logits)) + 1.0)
    missing = probability + targets - probability * targets * 2.0  # 1 - p_t
    balance = targets * (2.0 * alpha - 1.0) + (1.0 - alpha)  # alpha_t
    per_sample = (balance * ops.square(missing) * cross_entropy).mean(1)
    return (per_sample * weights).mean()


def dice_loss(logits: ms.Tensor, targets: ms.Tensor, weights: ms.Tensor, eps: float = 1.0) -> ms.Tensor:
    """1 - (2*sum(p*t) + eps) / (sum p + sum t + eps) per sample, averaged over B (Milletari et al. 2016).

    Args:
        logits, targets: (B, P).
        weights: (B,) factor per sample, 0 for a sample without a mask.
    """
    probability = ops.sigmoid(logits)
    overlap = (probability * targets).sum(1) * 2.0 + eps
    total = probability.sum(1) + targets.sum(1) + eps
    return ((1.0 - overlap / total) * weights).mean()


def attention_loss(attention: ms.Tensor, boxes: ms.Tensor) -> ms.Tensor:
    """-log of the share of attention that falls into the box, averaged over B.

    Our own aid for training from random weights, in no paper: a pooled feature says where the referent is only once
    its attention has found it, and the box losses alone do not lead there for a long time.

    Args:
        attention: (B, G*G), rows sum to 1, over a square grid in row-major order.
        boxes: (B, 4) truth; a cell counts by the share of it that the box covers.
    """
    batch, cells = attention.shape
    side = math.isqrt(cells)
    left, top, right, bottom = _corners(boxes)
    edges = ops.arange(side).astype(attention.dtype).reshape(1, side) * (1.0 / side)
    edges = ops.broadcast_to(edges, (batch, side))

    def covered(low: ms.Tensor, high: ms.Tensor) -> ms.Tensor:
        low = ops.maximum(ops.broadcast_to(low.reshape(batch, 1), edges.shape), edges)
        high = ops.minimum(ops.broadcast_to(high.reshape(batch, 1), edges.shape), edges + 1.0 / side)
        return ops.relu(high - low) * float(side)

    cover = ops.bmm(covered(top, bottom).reshape(batch, side, 1), covered(left, right).reshape(batch, 1, side))
    return -ops.log((attention * cover.reshape(batch, cells)).sum(1) + 1e-6).mean()
