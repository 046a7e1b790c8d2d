"""Losses on the logits of two classes, of which only the difference matters; (B, P) over all P pixels.

MindSpore's sums over long rows are slow on a CPU; here they are products with a column of ones.
"""

from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import ops

__all__ = ["pixel_weight", "two_class_cross_entropy", "two_class_dice"]


def _sums(x: ms.Tensor) -> ms.Tensor:
    """(B, P) -> (B, 1)."""
    return ops.matmul(x, ops.ones((x.shape[1], 1), x.dtype))


def pixel_weight(target: np.ndarray, present: np.ndarray, background: float, foreground: float) -> float:
    """Divisor of the cross-entropy of a batch, on the host: sum of the weights of all pixels that have a truth.

    Args:
        target: (B, ...) of 0 and 1.
        present: (B,) 1, or 0 for a sample without a mask.
    """
    inside = target.reshape(len(target), -1).sum(1, dtype=np.float64)
    outside = target[0].size - inside
    return float(((inside * foreground + outside * background) * present.reshape(-1)).sum())


def two_class_cross_entropy(
    difference: ms.Tensor,
    target: ms.Tensor,
    present: ms.Tensor,
    background: float = 0.9,
    foreground: float = 1.1,
    divisor: ms.Tensor | None = None,
) -> ms.Tensor:
    """Cross-entropy over all pixels of the batch, weighted by class: sum of w nll over sum of w.

    Args:
        difference: (B, P) logit of the referent minus that of the background.
        target: (B, P) of 0 and 1.
        present: (B,) 1, or 0 for a sample without a mask.
        background, foreground: weight of a pixel of either class.
        divisor: takes the place of the sum of weights (`pixel_weight` of another batch).
    """
    signed = difference * (target * 2.0 - 1.0)
    # log(1 + exp(-s)) without overflow.
    surprise = ops.relu(-signed) + ops.log(ops.exp(-ops.abs(signed)) + 1.0)
    weights = target * (foreground - background) + background
    weights = weights * ops.broadcast_to(present.reshape((-1, 1)), weights.shape)
    total = _sums(weights).sum() if divisor is None else divisor
    return _sums(surprise * weights).sum() / ops.maximum(total, ms.Tensor(1e-12, ms.float32))


def _similarity(probability: ms.Tensor, target: ms.Tensor, eps: float) -> ms.Tensor:
    return (_sums(probability * target) * 2.0 + eps) / (_sums(probability) + _sums(target) + eps)


def two_class_dice(
    difference: ms.Tensor, target: ms.Tensor, present: ms.Tensor, reduction: str = "sum", eps: float = 1e-6
) -> ms.Tensor:
    """1 - Dice of both classes, over samples and classes.

    Args:
        difference, target, present: see `two_class_cross_entropy`.
        reduction: "sum", at most 2 B, as RMSIN trains, or "mean".
        eps: added to numerator and denominator.

    Raises:
        ValueError: an unknown reduction.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction={reduction!r}; choose sum or mean")
    referent = _similarity(ops.sigmoid(difference), target, eps)
    background = _similarity(ops.sigmoid(-difference), 1.0 - target, eps)
    missing = ((2.0 - referent - background) * present.reshape((-1, 1))).sum()
    return missing if reduction == "sum" else missing / (2.0 * difference.shape[0])
