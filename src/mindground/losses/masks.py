"""Losses on mask logits (B, P) over all P pixels; tensors in, scalars out, in both modes."""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

__all__ = ["dice_loss", "sigmoid_focal_loss"]


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
