"""Losses of prompted masks, and the click that corrects one; (P, N) over all N pixels of the logits.

MindSpore's sums over long rows are slow on a CPU; here they are products with a column of ones.
"""

from __future__ import annotations

import mindspore as ms
from mindspore import ops

from mindground.models.sam.kinds import BACKGROUND, FOREGROUND, TOP_LEFT

__all__ = ["actual_iou", "dice_loss", "error_click", "focal_loss", "mask_losses"]

_ALPHA = 0.25
_SMOOTH = 1.0


def _sums(x: ms.Tensor) -> ms.Tensor:
    """(P, N) -> (P,)."""
    return ops.matmul(x, ops.ones((x.shape[1], 1), x.dtype)).reshape((-1,))


def focal_loss(logits: ms.Tensor, truth: ms.Tensor) -> ms.Tensor:
    """Focal loss (gamma 2, alpha 0.25), mean over pixels: (P, N), (P, N) -> (P,)."""
    signed = logits * (truth * 2.0 - 1.0)
    surprise = ops.relu(-signed) + ops.log(ops.exp(-ops.abs(signed)) + 1.0)
    wrong = ops.sigmoid(-signed)
    weights = truth * (2.0 * _ALPHA - 1.0) + (1.0 - _ALPHA)
    return _sums(surprise * ops.square(wrong) * weights) * (1.0 / logits.shape[1])


def dice_loss(logits: ms.Tensor, truth: ms.Tensor) -> ms.Tensor:
    """1 - Dice of probabilities: (P, N), (P, N) -> (P,)."""
    share = ops.sigmoid(logits)
    return 1.0 - (_sums(share * truth) * 2.0 + _SMOOTH) / (_sums(share) + _sums(truth) + _SMOOTH)


def actual_iou(logits: ms.Tensor, truth: ms.Tensor) -> ms.Tensor:
    """IoU of the decided mask, without gradient: (P, N), (P, N) -> (P,)."""
    found = (ops.stop_gradient(logits) > 0).astype(ms.float32)
    both = _sums(found * truth)
    return both / ops.maximum(_sums(found) + _sums(truth) - both, ms.Tensor(1.0, ms.float32))


def mask_losses(
    logits: ms.Tensor,
    expected: ms.Tensor,
    truth: ms.Tensor,
    kinds: ms.Tensor,
    valid: ms.Tensor,
    coefficients: tuple[float, float, float],
    first: bool,
) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor]:
    """Focal, Dice and IoU terms of one round, means over the prompts that have an object.

    The single mask always learns. After a lone point, which may mean a part or the whole, the best of the three others
    learns as well. The expected IoU of all four learns to be the one that was reached.

    Args:
        logits: (P, 4, s, s).
        expected: (P, 4).
        truth: (P, s * s).
        kinds: (P, 2) of the first prompt.
        valid: (P,) 1, or 0 for a prompt without an object.
        coefficients: of the terms; the best mask is the one with the smallest sum of the first two.
        first: whether this is the first round.
    """
    count = logits.shape[0]
    rows = ops.split(logits.reshape((count, 4, -1)), 1, 1)
    ones = ops.ones_like(valid)
    single = rows[0].reshape((count, -1))
    focal_sum, dice_sum, weight = focal_loss(single, truth), dice_loss(single, truth), ones
    errors = ops.square(expected[:, 0] - actual_iou(single, truth))
    focal, dice = (), ()
    for index in range(1, 4):
        row = rows[index].reshape((count, -1))
        if first:
            focal, dice = focal + (focal_loss(row, truth),), dice + (dice_loss(row, truth),)
        errors = errors + ops.square(expected[:, index] - actual_iou(row, truth))
    if first:
        lone = (kinds[:, 0] != TOP_LEFT).astype(ms.float32)
        stacked = ops.stack(focal, 1), ops.stack(dice, 1)
        total = stacked[0] * coefficients[0] + stacked[1] * coefficients[1]
        best = ops.one_hot(ops.argmin(total, 1), 3, ms.Tensor(1.0, ms.float32), ms.Tensor(0.0, ms.float32))
        best = ops.stop_gradient(best)
        focal_sum = focal_sum + (stacked[0] * best).sum(1) * lone
        dice_sum = dice_sum + (stacked[1] * best).sum(1) * lone
        weight = ones + lone
    total_valid = ops.maximum(valid.sum(), ms.Tensor(1.0, ms.float32))
    share = valid / total_valid
    return (
        (focal_sum / weight * share).sum(),
        (dice_sum / weight * share).sum(),
        (errors * 0.25 * share).sum(),
    )


def error_click(
    logits: ms.Tensor, truth: ms.Tensor, noise: ms.Tensor, side: int, canvas: int
) -> tuple[ms.Tensor, ms.Tensor]:
    """A point in what is wrong: the pixel of the error with the largest noise.

    Args:
        logits, truth, noise: (P, side * side); noise in (0, 1].
        side: of the maps.
        canvas: side of the network's input in pixels.

    Returns:
        place (P, 1, 2) xy in pixels of the canvas and kind (P, 1) int32: foreground where the object was missed.
    """
    found = (logits > 0).astype(ms.float32)
    index = ops.argmax(ops.abs(found - truth) * noise, 1)
    inside = ops.gather_elements(truth, 1, index.reshape((-1, 1))) > 0.5
    row = ops.floor(index.astype(ms.float32) * (1.0 / side) + 0.25 / side)
    column = index.astype(ms.float32) - row * side
    # The middle of the pixel; centres of pixels of the canvas are whole numbers.
    place = ((ops.stack((column, row), -1) + 0.5) * (canvas / side) - 0.5).expand_dims(1)
    kind = inside.astype(ms.int32) * (FOREGROUND - BACKGROUND) + BACKGROUND
    return place, kind
