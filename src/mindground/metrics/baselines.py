"""The score of one fixed box: what a model reaches that ignores its input."""

from __future__ import annotations

import numpy as np

from mindground.structures import box_iou

__all__ = ["best_constant_box"]

_CANDIDATES = 2000
_ROUNDS = 3
_TRIALS = 300


def best_constant_box(boxes: np.ndarray, threshold: float = 0.5, seed: int = 0) -> tuple[float, np.ndarray]:
    """The one box that has IoU >= `threshold` with most of `boxes`, chosen on the same boxes.

    Every true box is tried (2000 random ones if there are more), then random changes of the best one, so a model that
    ignores its input can hardly do better.

    Args:
        boxes: (N, 4) xyxy relative to the canvas, N > 0.
        threshold: as in `prec@t`.
        seed: of the random draws.

    Returns:
        Fraction of `boxes` that it reaches, and the box (4,).
    """
    boxes = np.asarray(boxes, np.float64)
    rng = np.random.default_rng(seed)
    pool = np.unique(boxes, axis=0)
    if len(pool) > _CANDIDATES:
        pool = pool[np.sort(rng.choice(len(pool), _CANDIDATES, replace=False))]

    def fraction(box: np.ndarray) -> float:
        return float((box_iou(box[None], boxes) >= threshold).mean())

    best = max(pool, key=fraction)
    value = fraction(best)
    for round_ in range(_ROUNDS):
        for trial in best + rng.normal(0, 0.05 / 2**round_, (_TRIALS, 4)):
            reached = fraction(trial) if (trial[2:] > trial[:2]).all() else 0.0
            if reached > value:
                value, best = reached, trial
    return value, best
