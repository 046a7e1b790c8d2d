"""Formulas on plain arrays, independent of samples and files."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from mindground.errors import DataError

__all__ = [
    "MASK_THRESHOLDS",
    "box_shares",
    "canvas_iou",
    "crowd_iou",
    "first_of_each",
    "mask_counts",
    "mask_iou",
    "mean_of_batches",
    "mean_of_groups",
    "overall_iou",
    "share_above",
    "share_at_least",
]

_log = logging.getLogger("mindground")

MASK_THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))


def mask_counts(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in the intersection and in the union of binary masks, over the last two axes.

    Raises:
        ValueError: the masks have different shapes (comparing them would broadcast silently).
    """
    predicted, truth = np.asarray(predicted) != 0, np.asarray(truth) != 0
    if predicted.shape != truth.shape:
        raise ValueError(f"masks of shape {predicted.shape} and {truth.shape} cannot be compared; resize one of them")
    return (predicted & truth).sum((-2, -1)), (predicted | truth).sum((-2, -1))


def mask_iou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Intersection over union; 0 where the union is empty."""
    intersection, union = np.asarray(intersection, np.float64), np.asarray(union, np.float64)
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def canvas_iou(intersection: np.ndarray, union: np.ndarray, empty: float = 1.0) -> np.ndarray:
    """Intersection over union; empty against empty is `empty`: 1 in VG-LAW's code, 0 in that of LAVT and RMSIN.

    VG-LAW writes (I + 1e-10) / (U + 1e-10) and computes it in float32, where 1e-10 changes nothing but 0 / 0. In double
    precision the same epsilon would lift an IoU of exactly 0.5 above 0.5, so it is omitted here.
    """
    intersection, union = np.asarray(intersection, np.float64), np.asarray(union, np.float64)
    return np.divide(intersection, union, out=np.full_like(union, empty), where=union > 0)


def crowd_iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Part of a predicted mask (H, W) that lies in the truth; 0 where nothing is predicted.

    SeqTR's code reports it as IoU of every referent whose outline has several polygons (COCO's rule for crowds), which
    is more than the IoU.
    """
    intersection, _ = mask_counts(predicted, truth)
    area = int((np.asarray(predicted) != 0).sum())
    return float(intersection) / area if area else 0.0


def mean_of_batches(values: np.ndarray, size: int) -> float:
    """Mean of the means of consecutive batches of `size`, as SeqTR's code averages; NaN without values.

    The last batch, which may be short, weighs as much as the others.
    """
    return mean_of_groups(values, np.arange(np.size(values)) // size)


def mean_of_groups(values: np.ndarray, groups: np.ndarray) -> float:
    """Mean of the means of the values that share a number of `groups`; NaN without values."""
    values = np.asarray(values, np.float64)
    if values.size == 0:
        return float("nan")
    return float(np.mean([values[groups == number].mean() for number in np.unique(groups)]))


def overall_iou(intersection: np.ndarray, union: np.ndarray) -> float:
    """Sum of intersections over sum of unions; 0 where all unions are empty, NaN without samples."""
    if np.size(union) == 0:
        return float("nan")
    total = float(np.sum(union))
    return float(np.sum(intersection)) / total if total > 0 else 0.0


def share_at_least(values: np.ndarray, threshold: float) -> float:
    """Fraction of values >= threshold; NaN without values. A tie counts, see `share_above`."""
    values = np.asarray(values, np.float64)
    return float(np.mean(values >= _decimal(threshold))) if values.size else float("nan")


def share_above(values: np.ndarray, thresholds: Sequence[float] = MASK_THRESHOLDS) -> np.ndarray:
    """(T,) fractions of values > threshold, strictly; NaN without values.

    For quotients of counts the comparison is that of the rational numbers, ties included. Division rounds to the
    nearest double, so I / U equals the double of a decimal threshold if and only if the two are the same number (two
    different fractions of counts below 2^40 differ by more than neighbouring doubles). That holds for one rounding
    only: values in float32, or with an epsilon added, have no exact ties.
    """
    values = np.asarray(values, np.float64).reshape(-1, 1)
    if values.size == 0:
        return np.full(len(thresholds), np.nan)
    return (values > np.asarray([_decimal(threshold) for threshold in thresholds])).mean(0)


def _decimal(threshold: float) -> float:
    """The double nearest to the intended decimal number; 0.1 + 0.6 and steps of a range differ from it by rounding."""
    return float(f"{threshold:.9g}")


def box_shares(ious: np.ndarray, thresholds: Sequence[float]) -> dict[str, float]:
    """`prec@t`, the fraction of IoUs >= t, for every threshold, and `prec_strict@t` (> t) only where it differs."""
    shares: dict[str, float] = {}
    for threshold in sorted(set(thresholds)):
        shares[f"prec@{threshold:g}"] = share_at_least(ious, threshold)
        strict = float(share_above(ious, [threshold])[0])
        if strict != shares[f"prec@{threshold:g}"]:
            shares[f"prec_strict@{threshold:g}"] = strict
    return shares


def first_of_each(ids: Sequence[str], values: Sequence[Sequence[float]]) -> list[int]:
    """Indexes of the first entry of every id, for samples that several ranks may have scored.

    Args:
        ids: sample ids, one per entry.
        values: scores or counts of every entry, for comparison.

    Raises:
        DataError: two entries of one id differ by more than rounding, so they are two samples with one id.
    """
    kept: dict[str, int] = {}
    for index, name in enumerate(ids):
        first = kept.setdefault(name, index)
        if first != index and not np.allclose(values[first], values[index], rtol=1e-3, atol=1e-3, equal_nan=True):
            raise DataError(
                f"sample {name!r} was scored twice with different results, {list(values[first])} and "
                f"{list(values[index])}; sample ids must be unique in a split, run tools/data_check.py"
            )
    if len(kept) < len(ids):
        _log.warning("%d samples were scored by more than one rank and count once", len(ids) - len(kept))
    return list(kept.values())
