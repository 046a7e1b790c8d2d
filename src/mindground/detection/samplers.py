"""A fixed number of boxes for the loss, with a limit on the share of those that find an object."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Sampled", "sample_boxes"]


class Sampled(NamedTuple):
    """Indexes of boxes that find an object (P,) and of background (N,), each rising, int64."""

    positives: np.ndarray
    negatives: np.ndarray


def sample_boxes(objects: np.ndarray, number: int, share: float, rng: np.random.Generator) -> Sampled:
    """Draw at most `number` boxes.

    Args:
        objects: (N,) of `Assigned`.
        number: boxes in all.
        share: at most this part of `number` finds objects; background fills up the rest.
        rng: is used only where there are more boxes than are wanted, first for those that find objects.
    """
    positives, negatives = np.flatnonzero(objects > 0), np.flatnonzero(objects == 0)
    wanted = int(number * share)
    if len(positives) > wanted:
        positives = np.sort(rng.permutation(positives)[:wanted])
    wanted = number - len(positives)
    if len(negatives) > wanted:
        negatives = np.sort(rng.permutation(negatives)[:wanted])
    return Sampled(positives, negatives)
