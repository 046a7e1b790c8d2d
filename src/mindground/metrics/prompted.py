"""Scores of masks that were asked for by prompts drawn from the truth.

| name | definition |
|---|---|
| `iou_point` | mean IoU by one point deep inside the object: of three masks the one that is expected to fit best |
| `iou_box` | mean IoU by the object's box, single mask |
| `iou_clicks` | mean IoU of the single mask after three clicks, each into the deepest part of what is wrong |
| `iou_box_as_mask` | mean IoU of the box itself, filled: what a prompt alone is worth |

IoU are those of pixels of the network's canvas, means over objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mindground.structures import Batch, Prediction

__all__ = ["PROMPTED_NAMES", "PromptedMetrics"]

PROMPTED_NAMES = ("iou_point", "iou_box", "iou_clicks", "iou_box_as_mask")


class PromptedMetrics:
    """Collects four figures an object; states of several ranks can be merged."""

    def __init__(self) -> None:
        self._figures: dict[str, np.ndarray] = {}

    def update(self, predictions: Sequence[Prediction], batch: Batch) -> None:
        """Take `extras["prompt_iou"]` (N, 4) of the real samples of a batch."""
        for sample, prediction in zip(batch.samples[: batch.count], predictions[: batch.count], strict=True):
            found = np.asarray(prediction.extras["prompt_iou"], np.float64).reshape(-1, len(PROMPTED_NAMES))
            self._figures[sample.sample_id] = found

    def state(self) -> dict[str, np.ndarray]:
        """Sample id -> (N, 4)."""
        return dict(self._figures)

    def merge(self, states: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Replace the collected figures by those of all ranks, this one included; every sample counts once."""
        self._figures = {name: figures for state in states for name, figures in state.items()}

    def compute(self) -> dict[str, float]:
        """Means over objects by name; empty where no object was asked for."""
        figures = np.concatenate([*self._figures.values(), np.zeros((0, len(PROMPTED_NAMES)))])
        if len(figures) == 0:
            return {}
        return dict(zip(PROMPTED_NAMES, figures.mean(0).tolist(), strict=True))

    def records(self) -> list[dict[str, Any]]:
        """Means of every sample that has objects."""
        return [
            {"sample_id": name, **dict(zip(PROMPTED_NAMES, figures.mean(0).tolist(), strict=True))}
            for name, figures in self._figures.items()
            if len(figures)
        ]

    def breakdown(self) -> dict[str, dict[str, dict[str, float]]]:
        """There are no classes."""
        return {}
