"""The score that one fixed box reaches: what an answer is worth that looks at nothing."""

from __future__ import annotations

import numpy as np

from mindground.structures import box_iou

__all__ = ["best_constant_box"]

_CANDIDATES = 2000
_ROUNDS = 3
_TRIALS = 300


def best_constant_box(boxes: np.ndarray, threshold: float = 0.5, seed: int = 0) -> tuple[float, np.ndarray]:
    """The box that alone has IoU >= `threshold` with most of `boxes`, chosen on these very boxes.

    Every true box is tried (a random 2000 of more), then random moves around the best one, so no model that ignores
    its input can be expected to do better.

    Args:
        boxes: (N, 4) xyxy relative to the canvas, N > 0.
        threshold: as in `prec@t`.
        seed: of the draws.

    Returns:
        Share of `boxes` reached, and the box (4,).
    """
    boxes = np.asarray(boxes, np.float64)
    rng = np.random.default_rng(seed)
    pool = np.unique(boxes, axis=0)
    if len(pool) > _CANDIDATES:
        pool = pool[np.sort(rng.choice(len(pool), _CANDIDATES, replace=False))]

    def share(box: np.ndarray) -> float:
        return float((box_iou(box[None], boxes) >= threshold).mean())

    best = max(pool, key=share)
    value = share(best)
    for round_ in range(_ROUNDS):
        for trial in best + rng.normal(0, 0.05 / 2**round_, (_TRIALS, 4)):
            reached = share(trial) if (trial[2:] > trial[:2]).all() else 0.0
            if reached > value:
                value, best = reached, trial
    return value, best
